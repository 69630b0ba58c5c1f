"""One pass of a task over a table, watched from outside, and what it wrote."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

if TYPE_CHECKING:
    from bench.readers import Readers

    Connection = asyncpg.Connection[asyncpg.Record]

TENANT = UUID("11111111-1111-1111-1111-111111111111")
_PAGE_BYTES = 8192

# RAE's own columns, 300 bytes of text, random keys; $3 days old at the first row, and a second younger at each of the next.
_FILL = """
INSERT INTO memories (tenant_id, content, layer, project, strength, created_at)
SELECT $1, rpad('memory ' || n, 300, 'x'), 'episodic', 'p', 0.9, now() - $3 * interval '1 day' + n * interval '1 second'
FROM generate_series(1, $2::int) AS n
"""
# What pg_stat_activity shows of a task, asked often: its oldest transaction.
_OLDEST = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
FROM pg_stat_activity
WHERE application_name = $1 AND backend_type = 'client backend'
"""
_WRITTEN = """
SELECT w.wal_bytes::float8 AS bytes, w.wal_fpi::bigint AS images, t.n_tup_upd AS updated, t.n_tup_hot_upd AS hot,
       pg_relation_size('memories')::float8 AS size
FROM pg_stat_wal AS w, pg_stat_user_tables AS t
WHERE t.relname = 'memories'
"""


@dataclass(frozen=True)
class Pass:
    """What one pass took and wrote.

    Attributes:
        seconds: by the clock.
        wal: MB, full images included.
        images: MB of the pages of which a full image was written, 8 kB each.
        heap: MB of the table before the pass.
        hot: share of the updates whose new version stayed beside the old one.
        longest: seconds of the oldest transaction seen.
    """

    seconds: float
    wal: float
    images: float
    heap: float
    hot: float = 0.0
    longest: float = 0.0


async def fill(url: str, rows: int, days: int = 0) -> None:
    """A tenant with so many memories, the first so many days old."""
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'bench') ON CONFLICT DO NOTHING", TENANT)
    await connection.execute(_FILL, TENANT, rows, days, timeout=1800)
    await connection.execute("VACUUM ANALYZE memories", timeout=600)
    await connection.close()


class Meter:
    """Begin with the same debts, none; then say what was written since."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def begin(self) -> None:
        """Reclaim, write everything out, and note where things stand."""
        await self._connection.execute("VACUUM memories", timeout=600)
        await self._connection.execute("CHECKPOINT", timeout=600)
        self._before = await self._now()

    async def end(self, seconds: float, longest: float = 0.0) -> Pass:
        """The pass that took so long."""
        # Sessions that ended tell their counts within a second.
        await asyncio.sleep(1.5)
        before, after = self._before, await self._now()
        updated = after["updated"] - before["updated"]
        return Pass(
            seconds=seconds,
            wal=(after["bytes"] - before["bytes"]) / 1e6,
            images=(after["images"] - before["images"]) * _PAGE_BYTES / 1e6,
            heap=before["size"] / 1e6,
            hot=(after["hot"] - before["hot"]) / updated if updated else 0.0,
            longest=longest,
        )

    async def _now(self) -> asyncpg.Record:
        await self._connection.execute("SELECT pg_stat_force_next_flush()")
        row = await self._connection.fetchrow(_WRITTEN)
        assert row is not None
        return row


async def run_task(url: str, task: str, *arguments: str, readers: Readers | None = None, **env: str) -> Pass:
    """One run of a task as the process that a pod runs."""
    connection = await asyncpg.connect(url)
    meter = Meter(connection)
    await meter.begin()
    if readers is not None:
        await readers.start()
    began, longest = time.perf_counter(), 0.0
    command = [sys.executable, "-m", "rae_jobctl", task, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "DATABASE_URL": url, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.returncode is None:
        longest = max(longest, await connection.fetchval(_OLDEST, f"rae-jobctl {task}"))
        await asyncio.sleep(0.02)
    seconds = time.perf_counter() - began
    if readers is not None:
        await readers.stop()
    if process.returncode:
        raise RuntimeError(f"{task} ended with {process.returncode}")
    done = await meter.end(seconds, longest)
    await connection.close()
    return done
