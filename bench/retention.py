"""Retention where half of a table is too old, bare and with an embedding for each memory, against one plain DELETE."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator

import asyncpg

from bench.figures import Figure, at_least, at_most
from bench.passes import TENANT, Meter, Pass, fill, run_task
from bench.postgres import migrated_database

#: Of each kind, the old half in front, as a table grows.
BARE, EMBEDDED = 1_000_000, 300_000
BARE_GOAL, EMBEDDED_GOAL = 50_000, 15_000
LONGEST_TRANSACTION_MS = 1000
MEMORY_LIMIT_MB = 80
_OLD_DAYS = 400

_DELETE = "DELETE FROM memories WHERE tenant_id = $1 AND layer = 'episodic' AND created_at < now() - interval '365 days'"
_EMBED = """
INSERT INTO memory_embeddings (memory_id, model_name, embedding)
SELECT id, 'bench', ('[' || rtrim(repeat('0.5,', 384), ',') || ']')::vector
FROM memories
"""


def run() -> Iterator[Figure]:
    """Yield rows per second of both kinds, the longest transaction and the memory."""
    bare, plain = _measure(BARE, embedded=False)
    with_embedding, plain_embedding = _measure(EMBEDDED, embedded=True)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    longest = 1000 * max(bare.longest, with_embedding.longest)
    yield at_least("retention.rows_per_second", BARE / 2 / bare.seconds, "rows/s", BARE / 2 / plain.seconds, BARE_GOAL)
    rate, base = (EMBEDDED / 2 / one.seconds for one in (with_embedding, plain_embedding))
    yield at_least("retention.with_embeddings", rate, "rows/s", base, EMBEDDED_GOAL)
    yield at_most("retention.longest_transaction", longest, "ms", 1000 * plain.seconds, LONGEST_TRANSACTION_MS)
    yield at_most("retention.memory", memory, "MB", MEMORY_LIMIT_MB, MEMORY_LIMIT_MB)
    yield Figure("retention.wal", bare.wal, "MB", plain.wal, bare.wal / plain.wal, "", True)


def _measure(rows: int, *, embedded: bool) -> tuple[Pass, Pass]:
    """The task's pass and the plain one, on tables that are equal."""
    passes = []
    for task in (True, False):
        with migrated_database() as url:
            asyncio.run(_prepare(url, rows, embedded))
            passes.append(asyncio.run(_cleanup(url) if task else _plain(url)))
    return passes[0], passes[1]


async def _prepare(url: str, rows: int, embedded: bool) -> None:
    await fill(url, rows // 2, _OLD_DAYS)
    await fill(url, rows // 2)
    if embedded:
        connection = await asyncpg.connect(url)
        await connection.execute(_EMBED, timeout=1800)
        await connection.execute("VACUUM ANALYZE memory_embeddings", timeout=600)
        await connection.close()


async def _cleanup(url: str) -> Pass:
    return await run_task(url, "cleanup-expired-data", RAE_RETENTION_EMBEDDINGS_DAYS="0")


async def _plain(url: str) -> Pass:
    connection = await asyncpg.connect(url)
    meter = Meter(connection)
    await meter.begin()
    began = time.perf_counter()
    await connection.execute(_DELETE, TENANT, timeout=1800)
    done = await meter.end(time.perf_counter() - began)
    await connection.close()
    return done
