"""One process that serves until it is asked to stop, and then ends what it has begun."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from aiohttp import web

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ConfigError
from rae_jobctl.logs import get_logger
from rae_jobctl.ml_server.app import Desk, Limits, create_app

_FOREVER = 3600.0
#: How long an idle connection is kept: longer than a client's own, so that none sends into one that is closing.
_KEEP_ALIVE_SECONDS = 75.0


async def serve(host: str, port: int, limits: Limits, grace: float, stop: StopSignal, say: Callable[[str], None]) -> None:
    """Serve until `stop`.

    Args:
        host, port: to listen at; port 0 takes a free one.
        limits: of each request.
        grace: seconds that requests under way have after `stop`.
        stop: ends it.
        say: told the address once, when connections are taken.

    Raises:
        ConfigError: the address is taken or not this machine's, or the `local` extra is not installed.
    """
    desk = Desk(limits)
    runner = web.AppRunner(
        create_app(desk),
        access_log=None,
        handle_signals=False,
        auto_decompress=False,
        keepalive_timeout=_KEEP_ALIVE_SECONDS,
        shutdown_timeout=grace,
    )
    await runner.setup()
    try:
        say(await _listen(runner, host, port))
        await _until_asked(desk, stop)
    finally:
        desk.ready = False
        get_logger().info("ml_server_stopping", cause=stop.cause)
        await runner.cleanup()
        desk.close()


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else type(error).__name__
        raise ConfigError(
            f"cannot listen at {host}:{port}: {cause}", reason="AddressUnavailable", hint="choose another --port or --host"
        ) from None
    bound = runner.addresses[0][1]
    get_logger().info("ml_server_listening", host=host, port=bound)
    return f"http://{f'[{host}]' if ':' in host else host}:{bound}"


async def _until_asked(desk: Desk, stop: StopSignal) -> None:
    warming = asyncio.create_task(desk.warm_up())
    asked = asyncio.create_task(_asked(stop))
    try:
        await asyncio.wait({warming, asked}, return_when=asyncio.FIRST_COMPLETED)
        if warming.done():
            warming.result()
            get_logger().info("ml_server_ready")
        await asked
    finally:
        warming.cancel()
        asked.cancel()


async def _asked(stop: StopSignal) -> None:
    while not await stop.pause(_FOREVER):
        pass
