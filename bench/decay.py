"""Decay of a million memories, against the plainest batched UPDATE of the same arithmetic by ranges of the key.

RAE's own indexes, random keys, 300 bytes of text, PostgreSQL at its default settings. The task runs as the process that a pod
runs, with its ledger and its locks; the baseline is a loop of bare statements. Each pass begins with VACUUM and CHECKPOINT. Then
the same on a table whose owner has opted for a fillfactor, before and after the rewrite that it needs.
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from datetime import time as clock
from uuid import UUID

import asyncpg

from bench.figures import Figure, at_least, at_most, ratio_at_least
from bench.passes import TENANT, Meter, Pass, fill, run_task
from bench.postgres import migrated_database
from bench.readers import Readers, some_ids

ROWS = 1_000_000
RANGES = 100
RATIO_GOAL = 0.8
LONGEST_TRANSACTION_MS = 1000
MEMORY_LIMIT_MB = 80
FILLFACTOR = 50
HOT_GOAL = 0.9
#: A pass may write 1.2 times the full images of its pages, and so many bytes for each row.
IMAGES_FACTOR, ROW_BYTES = 1.2, 120
READERS_LATER_MS = 10

_PLAIN = """
UPDATE memories
SET strength = strength * power($1::float8, 1), decayed_through = decayed_through + 1
WHERE id >= $2 AND id < $3 AND tenant_id = $4
"""


def run() -> Iterator[Figure]:
    """Yield the figures of the table as RAE makes it, then those of the opted-in fillfactor."""
    with migrated_database() as url:
        asyncio.run(fill(url, ROWS))
        yield from _as_rae_makes_it(url)
        yield from _with_room(url)


def _as_rae_makes_it(url: str) -> Iterator[Figure]:
    # Turn about, and the best of each: the first pass over a fresh table pays for all others.
    plain, task = [], []
    for _ in range(2):
        plain.append(asyncio.run(_plain(url)))
        task.append(asyncio.run(_decay(url)))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    readers = Readers(url, asyncio.run(some_ids(url)))
    idle = asyncio.run(_idle(readers))
    task.append(asyncio.run(_decay(url, readers)))
    seconds = min(one.seconds for one in plain)
    longest = 1000 * max(one.longest for one in task)
    yield ratio_at_least("decay.rows_per_second", ROWS / min(one.seconds for one in task), "rows/s", ROWS / seconds, RATIO_GOAL)
    yield at_most("decay.longest_transaction", longest, "ms", 1000 * seconds / RANGES, LONGEST_TRANSACTION_MS)
    yield at_most("decay.memory", memory, "MB", MEMORY_LIMIT_MB, MEMORY_LIMIT_MB)
    yield at_most("decay.readers_p99", readers.p99, "ms", idle, idle + READERS_LATER_MS)
    for number, one in enumerate(task, 1):
        yield at_most(f"decay.wal.pass_{number}", one.wal, "MB", plain[min(number, 2) - 1].wal, _bound(one.images))


def _with_room(url: str) -> Iterator[Figure]:
    asyncio.run(_execute(url, f"ALTER TABLE memories SET (fillfactor = {FILLFACTOR})"))
    before = asyncio.run(_decay(url))
    asyncio.run(_execute(url, "VACUUM FULL memories", "VACUUM ANALYZE memories"))
    after = asyncio.run(_decay(url))
    asyncio.run(_execute(url, "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"))
    bare = asyncio.run(_decay(url))
    rate = ROWS / after.seconds
    yield Figure(
        "decay.rewritten.rows_per_second", rate, "rows/s", ROWS / before.seconds, before.seconds / after.seconds, "", True
    )
    yield at_least("decay.rewritten.hot", after.hot, "of the updates", before.hot, HOT_GOAL)
    yield at_most("decay.rewritten.wal", after.wal, "MB", before.wal, _bound(after.heap))
    yield at_most("decay.rewritten.wal_without_images", bare.wal, "MB", after.wal, ROWS * ROW_BYTES / 1e6)
    yield Figure("decay.rewritten.size", after.heap, "MB", before.heap, after.heap / before.heap, "", True)


def _bound(pages: float) -> float:
    return round(IMAGES_FACTOR * pages + ROWS * ROW_BYTES / 1e6)


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement, timeout=1800)
    await connection.close()


async def _plain(url: str) -> Pass:
    connection = await asyncpg.connect(url)
    meter = Meter(connection)
    await meter.begin()
    bounds = [UUID(int=(1 << 128) * n // RANGES) for n in range(RANGES)] + [UUID(int=(1 << 128) - 1)]
    began = time.perf_counter()
    for low, high in itertools.pairwise(bounds):
        await connection.execute(_PLAIN, 0.95, low, high, TENANT)
    done = await meter.end(time.perf_counter() - began)
    await connection.close()
    return done


async def _idle(readers: Readers) -> float:
    await readers.start()
    await asyncio.sleep(10)
    await readers.stop()
    return readers.p99


async def _decay(url: str, readers: Readers | None = None) -> Pass:
    connection = await asyncpg.connect(url)
    ahead = await connection.fetchval("SELECT max(decayed_through) + 1 FROM memories")
    await connection.close()
    # As the CronJob's run of that night: --slot takes no moment that has not come.
    night = datetime.combine(ahead, clock(2), UTC)
    job = {"RAE_JOB_NAME": f"bench-{int(night.timestamp()) // 60}", "RAE_CRONJOB_NAME": "bench"}
    return await run_task(url, "decay", readers=readers, **job)
