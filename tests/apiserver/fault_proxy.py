"""A proxy between the operator and the API server that makes trouble: refusals, errors, and answers that get lost.

A lost answer is the worst: the write is done, and the caller does not know.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from tests.apiserver.controlplane import _free_port

_SESSION = web.AppKey("session", aiohttp.ClientSession)
_HOP_BY_HOP = {"transfer-encoding", "content-length", "connection"}


@dataclass
class Faults:
    """How often what goes wrong, as shares of the requests that are no watches."""

    too_many: float = 0.0
    internal_error: float = 0.0
    lost_answer: float = 0.0
    reset: float = 0.0
    made: int = 0

    def pick(self) -> str:
        """The fate of a request."""
        names = ("too_many", "internal_error", "lost_answer", "reset")
        weights = [self.too_many, self.internal_error, self.lost_answer, self.reset]
        fate = random.choices([*names, "well"], [*weights, 1 - sum(weights)])[0]
        self.made += fate != "well"
        return fate


class _Proxy:
    def __init__(self, upstream: str, faults: Faults) -> None:
        self._upstream, self._faults = upstream, faults

    async def handle(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") in ("true", "1")
        # The Lease stays whole: that its loss ends the process is another test's matter.
        fate = "well" if watch or "/leases" in request.path else self._faults.pick()
        if fate == "too_many":
            return web.json_response({"kind": "Status", "message": "slow down"}, status=429, headers={"Retry-After": "1"})
        if fate == "internal_error":
            return web.json_response({"kind": "Status", "message": "etcd is away"}, status=500)
        if fate == "reset":
            _cut(request)
            return web.Response()
        return await self._forward(request, lose=fate == "lost_answer")

    async def _forward(self, request: web.Request, *, lose: bool) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in {"host", *_HOP_BY_HOP}}
        session = request.app[_SESSION]
        url = self._upstream + str(request.rel_url)
        body = await request.read()
        async with session.request(request.method, url, headers=headers, data=body or None) as answer:
            if lose:
                await answer.read()
                _cut(request)
                return web.Response()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            # The operator may have gone away, for a test's own reasons.
            with suppress(ConnectionResetError, aiohttp.ClientConnectionError):
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextmanager
def fault_proxy(upstream: str, faults: Faults) -> Iterator[str]:
    """Run the proxy in a thread; gives its URL."""
    port, loop = _free_port(), asyncio.new_event_loop()
    started, stopping = threading.Event(), asyncio.Event()

    async def serve() -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            app = web.Application(client_max_size=2**24)
            app[_SESSION] = session
            app.router.add_route("*", "/{path:.*}", _Proxy(upstream, faults).handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            started.set()
            await stopping.wait()
            await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(30), "the proxy does not listen"
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        loop.close()
