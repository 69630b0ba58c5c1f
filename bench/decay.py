"""Decay of a million memories, against the plainest batched UPDATE of the same arithmetic by ranges of the key.

RAE's own indexes, random keys, 300 bytes of text, PostgreSQL at its default settings. The task runs as the process that a pod
runs, with its ledger and its locks; the baseline is a loop of bare statements.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from bench.figures import Figure, at_most, ratio_at_least
from bench.postgres import migrated_database

ROWS = 1_000_000
RANGES = 100
TENANT = UUID("11111111-1111-1111-1111-111111111111")
RATIO_GOAL = 0.8
LONGEST_TRANSACTION_MS = 1000
MEMORY_LIMIT_MB = 80

_FILL = """
INSERT INTO memories (tenant_id, content, layer, project, strength, created_at)
SELECT $1, rpad('memory ' || n, 300, 'x'), 'episodic', 'p', 0.9, now() - n * interval '1 second'
FROM generate_series(1, $2::int) AS n
"""
_PLAIN = """
UPDATE memories
SET strength = strength * power($1::float8, 1), decayed_through = decayed_through + 1
WHERE id >= $2 AND id < $3 AND tenant_id = $4
"""
# What pg_stat_activity shows of the task, asked often: its oldest transaction.
_OLDEST = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
FROM pg_stat_activity
WHERE application_name = 'rae-jobctl decay' AND backend_type = 'client backend'
"""


def run() -> Iterator[Figure]:
    """Yield decay.rows_per_second, decay.longest_transaction, decay.memory and decay.wal."""
    with migrated_database() as url:
        asyncio.run(_fill(url))
        # Turn about, and the best of each: the first pass over a fresh table pays for all others.
        plain, task = [], []
        for _ in range(2):
            plain.append(asyncio.run(_plain(url)))
            task.append(_task(url))
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    seconds = min(one.seconds for one in plain)
    longest = 1000 * max(one.longest for one in task)
    yield ratio_at_least("decay.rows_per_second", ROWS / min(one.seconds for one in task), "rows/s", ROWS / seconds, RATIO_GOAL)
    yield at_most("decay.longest_transaction", longest, "ms", 1000 * seconds / RANGES, LONGEST_TRANSACTION_MS)
    yield at_most("decay.memory", memory, "MB", MEMORY_LIMIT_MB, MEMORY_LIMIT_MB)
    yield Figure("decay.wal", task[-1].wal, "MB", plain[-1].wal, task[-1].wal / plain[-1].wal, "", True)


@dataclass(frozen=True)
class Pass:
    """One pass over all rows: seconds, MB of WAL, and the oldest transaction seen, in seconds."""

    seconds: float
    wal: float
    longest: float = 0.0


async def _fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'bench')", TENANT)
    await connection.execute(_FILL, TENANT, ROWS, timeout=1800)
    await connection.execute("VACUUM ANALYZE memories", timeout=600)
    await connection.close()


async def _plain(url: str) -> Pass:
    connection = await asyncpg.connect(url)
    before = await _settled(connection)
    bounds = [UUID(int=(1 << 128) * n // RANGES) for n in range(RANGES)] + [UUID(int=(1 << 128) - 1)]
    began = time.perf_counter()
    for low, high in itertools.pairwise(bounds):
        await connection.execute(_PLAIN, 0.95, low, high, TENANT)
    done = Pass(time.perf_counter() - began, await _written(connection, before))
    await connection.close()
    return done


async def _settled(connection: asyncpg.Connection[asyncpg.Record]) -> str:
    """Every pass begins with the same debts, none. Returns the place in the WAL."""
    await connection.execute("VACUUM memories", timeout=600)
    await connection.execute("CHECKPOINT", timeout=600)
    return str(await connection.fetchval("SELECT pg_current_wal_lsn()::text"))


async def _written(connection: asyncpg.Connection[asyncpg.Record], since: str) -> float:
    return float(await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn)::float8 / 1e6", since))


def _task(url: str) -> Pass:
    """One run of the task as a process, watched from outside."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url))
        before = runner.run(_settled(connection))
        ahead = runner.run(connection.fetchval("SELECT max(decayed_through) + 1 FROM memories"))
        command = [sys.executable, "-m", "rae_jobctl", "decay", "--slot", f"{ahead}T02:00+00:00"]
        began, longest = time.perf_counter(), 0.0
        process = subprocess.Popen(command, env={**os.environ, "DATABASE_URL": url}, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            longest = max(longest, runner.run(connection.fetchval(_OLDEST)))
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise RuntimeError(f"decay ended with {process.returncode}")
        done = Pass(seconds, runner.run(_written(connection, before)), longest)
        runner.run(connection.close())
        return done
