"""The port: /healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rae_operator.settings import HttpSettings

#: Finds what is wrong, one line each; none means well.
Check = Callable[[], list[str]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(settings: HttpSettings, registry: CollectorRegistry, health: Check, ready: Check) -> web.AppRunner:
    """Start to listen. Raises OSError when the port is taken."""
    app = web.Application()
    app.add_routes(
        [web.get("/healthz", _probe(health)), web.get("/readyz", _probe(ready)), web.get("/metrics", _metrics(registry))]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, settings.host or None, settings.port).start()
    return runner


def _probe(check: Check) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        problems = check()
        return web.Response(text="\n".join(problems or ["ok"]) + "\n", status=503 if problems else 200)

    return answer


def _metrics(registry: CollectorRegistry) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer
