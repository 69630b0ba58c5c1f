"""process-graph-queue on a million memories of a hundred projects, and claims of four workers, each against the plainest SQL.

A run is measured whole, ledger and locks included, with a board in memory: all of it but Kubernetes. The plainest count is one
GROUP BY of what was not extracted; the plainest claim marks the memory itself, so that a worker which dies loses it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from bench.figures import Figure, at_least, at_most
from bench.postgres import migrated_database
from rae_jobctl.db.pool import open_pool, tenant_transaction
from rae_jobctl.deadline import StopSignal
from rae_jobctl.settings import DatabaseSettings
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.extraction import selection
from rae_jobctl.tasks.extraction.params import ExtractionParams
from rae_jobctl.tasks.scheduling.board import Known, Wanted
from rae_jobctl.tasks.scheduling.queue import QueuePolicy, process_queue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from rae_jobctl.db.pool import Pool

ROWS = 1_000_000
FEW = 10_000
TENANTS, PROJECTS = 10, 10
FEW_MS, ALL_MS = 50, 500
WORKERS, BATCH = 4, 50
CLAIMS_GOAL = 10_000
_HELD = 10_000
_PLAIN_CLAIMS = 100_000
_TIMES = 9

_FILL = """
INSERT INTO memories (tenant_id, project, content, layer, graph_extracted, created_at)
SELECT ('00000000-0000-0000-0000-' || lpad((n % $3 + 1)::text, 12, '0'))::uuid, 'project-' || n / $3 % $4,
       rpad('memory ' || n, 300, 'x'), 'episodic', n > $2, now() - interval '30 days' + n * interval '1 second'
FROM generate_series(1, $1::int) AS n
"""
_PLAIN = "SELECT tenant_id, project, count(*) FROM memories WHERE NOT graph_extracted GROUP BY tenant_id, project"
_PLAIN_CLAIM = """
UPDATE memories
SET graph_extracted = true
WHERE id IN (
    SELECT id
    FROM memories
    WHERE tenant_id = $1 AND project = $2 AND layer = 'episodic' AND NOT graph_extracted
    ORDER BY created_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING id
"""


class _Board:
    """Takes every request and remembers none, so that each run has all to ask for."""

    async def known(self, kind: str) -> list[Known]:
        return []

    async def create(self, wanted: Wanted) -> bool:
        return True


def run() -> Iterator[Figure]:
    """Yield the times of a run at 10k and at 1M pending, then the claims."""
    os.environ.setdefault("RAE_APP_LOG_LEVEL", "WARNING")
    with migrated_database() as url:
        few, plain = asyncio.run(_few(url))
        yield at_most("queue.sql.10k_pending", few, "ms", plain, FEW_MS)
    with migrated_database() as url:
        yield from asyncio.run(_all(url))


async def _few(url: str) -> tuple[float, float]:
    async with _filled(url, FEW) as pool:
        return await _queue(pool), await _median(lambda: pool.fetch(_PLAIN))


async def _all(url: str) -> list[Figure]:
    async with _filled(url, ROWS) as pool:
        whole, plain = await _queue(pool), await _median(lambda: pool.fetch(_PLAIN))
        first, _ = await _claims(pool, _leases, _HELD)
        held = await _queue(pool)
        claimed, seconds = await _claims(pool, _leases, ROWS - len(first))
        claimed += first
        twice = len(claimed) - len(set(claimed))
        marked, plain_seconds = await _claims(pool, _marks, _PLAIN_CLAIMS)
    rate = (len(claimed) - len(first)) / seconds
    return [
        at_most("queue.sql.1m_pending", whole, "ms", plain, ALL_MS),
        Figure("queue.sql.1m_pending_10k_leased", held, "ms", plain, held / plain, "", True),
        at_least("queue.claims", rate, "claims/s", len(marked) / plain_seconds, CLAIMS_GOAL),
        Figure("queue.claimed", float(len(claimed)), "memories", float(ROWS), len(claimed) / ROWS, "all", len(claimed) >= ROWS),
        Figure("queue.claimed_twice", float(twice), "memories", 0.0, 0.0, "none", not twice),
    ]


@asynccontextmanager
async def _filled(url: str, pending: int) -> AsyncIterator[Pool]:
    """A million memories, of which the first so many wait; the pool is as a task's."""
    async with open_pool(DatabaseSettings(url, pool_size=WORKERS + 1), "bench") as pool:
        await pool.execute(_FILL, ROWS, pending, TENANTS, PROJECTS, timeout=1800)
        await pool.execute("VACUUM ANALYZE memories", timeout=600)
        yield pool


async def _median(measured: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds, after one run that warms up."""
    taken = []
    for _ in range(_TIMES + 1):
        began = time.perf_counter()
        await measured()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken[1:])


async def _queue(pool: Pool) -> float:
    async def once() -> None:
        slot = Slot(f"once:{uuid4()}", datetime.now(UTC), "fresh")
        await process_queue(pool, _Board(), QueuePolicy(), slot=slot, stop=StopSignal())

    return await _median(once)


def _groups() -> list[tuple[UUID, str]]:
    return [(UUID(f"{0:020}{tenant:012}"), f"project-{n}") for tenant in range(1, TENANTS + 1) for n in range(PROJECTS)]


Work = Callable[["Pool", UUID, str], "AsyncGenerator[list[UUID]]"]


async def _claims(pool: Pool, work: Work, count: int) -> tuple[list[UUID], float]:
    """Claims of all workers, in one project after another, all of them in the same one at a time."""
    claimed: list[UUID] = []

    async def worker() -> None:
        for tenant_id, project in _groups():
            async with aclosing(work(pool, tenant_id, project)) as batches:
                async for ids in batches:
                    claimed.extend(ids)
                    if len(claimed) >= count:
                        return

    began = time.perf_counter()
    await asyncio.gather(*[worker() for _ in range(WORKERS)])
    return claimed, time.perf_counter() - began


async def _leases(pool: Pool, tenant_id: UUID, project: str) -> AsyncGenerator[list[UUID]]:
    params = ExtractionParams(str(tenant_id), project, pending=True, lease_seconds=86400)
    place = None
    async with pool.acquire() as connection:
        while True:
            async with tenant_transaction(connection, tenant_id):
                claim = await selection.claim(connection, tenant_id, params, BATCH, place)
            if not claim.ids:
                return
            place = claim.place
            yield list(claim.ids)


async def _marks(pool: Pool, tenant_id: UUID, project: str) -> AsyncGenerator[list[UUID]]:
    async with pool.acquire() as connection:
        while rows := await connection.fetch(_PLAIN_CLAIM, tenant_id, project, BATCH):
            yield [row["id"] for row in rows]
