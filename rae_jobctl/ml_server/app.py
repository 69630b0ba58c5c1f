"""The routes, and what stands before each: the access log, refusals as JSON, limits of size and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from rae_jobctl import __version__
from rae_jobctl.errors import frames
from rae_jobctl.logs import get_logger
from rae_jobctl.ml_server import work
from rae_jobctl.ml_server.errors import Refused
from rae_jobctl.ml_server.lanes import Lane
from rae_jobctl.ml_server.schemas import MAX_BODY_BYTES

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Callable[[bytes], bytes]
_PROBES = ("/health", "/ready")
_REASONS = {404: ("NotFound", "there is no such path"), 405: ("MethodNotAllowed", "this path knows another method")}


@dataclass(frozen=True)
class Limits:
    """How much one process takes on.

    Attributes:
        waiting: requests of one path at once, the one at work among them.
        seconds: for an answer, waiting included.
        body_seconds: for a body to arrive.
    """

    waiting: int = 32
    seconds: float = 30.0
    body_seconds: float = 10.0


class Desk:
    """What the routes share: a lane for each kind of work, and whether requests should come at all.

    Parsing, comparing and embedding have lanes of their own, so that a long one of one kind does not keep the others waiting.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.ready = False
        self._lanes = {name: Lane(f"ml-{name}", limits.waiting) for name in ("extract", "resolve", "embed")}

    async def warm_up(self) -> None:
        """Load what takes long, then be ready.

        Raises:
            ConfigError: the `local` extra is not installed.
        """
        await asyncio.wrap_future(self._lanes["extract"].submit(work.warm_up))
        self.ready = True

    async def answer(self, lane: str, answer: Answer, body: bytes) -> bytes:
        """The answer to a body.

        Raises:
            Refused: it gets none.
        """
        return await self._lanes[lane].run(lambda: answer(body), self.limits.seconds)

    def close(self) -> None:
        """Take nothing more on."""
        for lane in self._lanes.values():
            lane.close()


def create_app(desk: Desk) -> web.Application:
    """The application; the caller runs it, and closes the desk."""
    app = web.Application(middlewares=[_log_access, _refuse_as_json], client_max_size=MAX_BODY_BYTES)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", _ready(desk))
    app.router.add_post("/extract-triples", _post(desk, "extract", work.extract_triples))
    app.router.add_post("/resolve-entities", _post(desk, "resolve", work.resolve_entities))
    app.router.add_post("/embeddings", _post(desk, "embed", work.embeddings))
    return app


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "healthy", "service": "rae-jobctl serve-ml", "version": __version__})


def _ready(desk: Desk) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        if not desk.ready:
            raise Refused(503, "NotReady", "starting or stopping", retry_after=1)
        return web.json_response({"status": "ready"})

    return handle


def _post(desk: Desk, lane: str, answer: Answer) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        body = await _body(request, desk.limits)
        return web.Response(body=await desk.answer(lane, answer, body), content_type="application/json")

    return handle


async def _body(request: web.Request, limits: Limits) -> bytes:
    """The whole body.

    Raises:
        Refused: it is compressed, too large, or does not come.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Compressed", "send the body uncompressed")
    too_large = Refused(413, "BodyTooLarge", f"a body may have {MAX_BODY_BYTES} bytes")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await request.read()
    except TimeoutError:
        raise Refused(408, "BodyTooSlow", f"the body did not come within {limits.body_seconds:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None


@web.middleware
async def _refuse_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        return _refusal(refused)
    except web.HTTPException as raised:
        code, detail = _REASONS.get(raised.status, ("Refused", raised.reason))
        response = _refusal(Refused(raised.status, code, detail))
        if "Allow" in raised.headers:
            response.headers["Allow"] = raised.headers["Allow"]
        return response
    except Exception as error:
        # The exception's text may quote what was sent.
        get_logger().error("unexpected_error", error_class=type(error).__name__, frames=frames(error))
        return _refusal(Refused(500, "Unexpected", "this server failed; its log has the place"))


def _refusal(refused: Refused) -> web.Response:
    response = web.json_response({"detail": refused.detail, "code": refused.code}, status=refused.status)
    if refused.retry_after is not None:
        response.headers["Retry-After"] = str(refused.retry_after)
    return response


@web.middleware
async def _log_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    began = time.monotonic()
    response = await handler(request)
    # The route, not the path: a path is the caller's own text.
    route = request.match_info.route.resource
    path = route.canonical if route is not None else "unknown"
    say = get_logger().debug if path in _PROBES and response.status == 200 else get_logger().info
    milliseconds = round((time.monotonic() - began) * 1000, 1)
    say("request", method=request.method[:10], path=path, status=response.status, ms=milliseconds, bytes=request.content_length)
    return response
