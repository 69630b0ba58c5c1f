"""`serve-ml` over real HTTP, within the test's process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from rae_jobctl.deadline import StopSignal
from rae_jobctl.ml_server.app import Limits
from rae_jobctl.ml_server.server import serve

DEFAULT_LIMITS = Limits()


@asynccontextmanager
async def ml_server(limits: Limits = DEFAULT_LIMITS, grace: float = 5.0) -> AsyncIterator[str]:
    """The URL of a running server that is ready; it is stopped as by SIGTERM."""
    stop, address = StopSignal(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve("127.0.0.1", 0, limits, grace, stop, address.set_result))
    await asyncio.wait({task, address}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        url = await address
        await until_ready(url)
        yield url
    finally:
        stop.set("the test's end")
        await task


async def until_ready(url: str) -> None:
    """Wait until /ready says so."""
    async with httpx.AsyncClient(base_url=url) as client:
        for _ in range(3000):
            if (await client.get("/ready")).status_code == 200:
                return
            await asyncio.sleep(0.02)
    raise RuntimeError("serve-ml did not become ready")
