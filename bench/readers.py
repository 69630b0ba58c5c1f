"""Readers of single memories at a steady rate, as RAE's API reads them: how long they wait while a task is at work."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from uuid import UUID

import asyncpg

PER_SECOND = 200


class Readers:
    """Open-loop: a reader starts every 5 ms, whether the ones before are done or not, so that a stall is seen by all it hits."""

    def __init__(self, url: str, ids: Sequence[UUID]) -> None:
        self._url, self._ids = url, ids
        self.waited: list[float] = []

    async def start(self) -> None:
        """Begin to read."""
        self._pool = await asyncpg.create_pool(self._url, min_size=4, max_size=8)
        self.waited = []
        self._task = asyncio.create_task(self._read_all())

    async def stop(self) -> None:
        """End, and wait for the last reader."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._pool.close()

    @property
    def p99(self) -> float:
        """Milliseconds under which 99 of 100 readers were done."""
        ordered = sorted(self.waited)
        return 1000 * ordered[int(0.99 * (len(ordered) - 1))]

    async def _read_all(self) -> None:
        running: set[asyncio.Task[None]] = set()
        due = time.perf_counter()
        while True:
            due += 1 / PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._read(due))
            running.add(task)
            task.add_done_callback(running.discard)

    async def _read(self, due: float) -> None:
        await self._pool.fetchrow("SELECT id, content, strength FROM memories WHERE id = $1", random.choice(self._ids))
        self.waited.append(time.perf_counter() - due)


async def some_ids(url: str, count: int = 5000) -> list[UUID]:
    """Ids of memories from all over the table."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT id FROM memories TABLESAMPLE BERNOULLI (2) LIMIT $1", count)
    await connection.close()
    return [row["id"] for row in rows]
