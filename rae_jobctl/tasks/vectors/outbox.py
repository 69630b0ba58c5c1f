"""Vectors follow deletions through an outbox: queued in the deletion's own transaction, deleted in Qdrant after its commit.

A crash or an absent Qdrant in between leaves the rows in the outbox, for the next task that deletes of this tenant and for
`check-consistency`. Deleting a point twice changes nothing, so each is deleted at least once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.errors import SoftLimitReached, TimeSliced
from rae_jobctl.logs import get_logger
from rae_jobctl.vectors.settings import QdrantSettings, is_configured

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool
    from rae_jobctl.deadline import StopSignal
    from rae_jobctl.vectors.client import QdrantClient

#: Points of one deletion.
BATCH = 500

_QUEUE = """
INSERT INTO rae_jobs.vector_deletions (tenant_id, memory_id)
SELECT $1, id
FROM unnest($2::uuid[]) AS id
ON CONFLICT (tenant_id, memory_id) DO NOTHING
"""

# A memory that is there (again) keeps its vector.
_NEXT = """
SELECT d.memory_id, EXISTS (SELECT FROM memories AS m WHERE m.tenant_id = $1 AND m.id = d.memory_id) AS alive
FROM rae_jobs.vector_deletions AS d
WHERE d.tenant_id = $1
ORDER BY d.memory_id
LIMIT $2
"""

_DONE = """
DELETE FROM rae_jobs.vector_deletions
WHERE tenant_id = $1
  AND memory_id = ANY ($2)
"""


async def queue_vector_deletions(connection: Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    """Note that the vectors of deleted memories must go; nothing where no Qdrant is configured.

    Call it in the transaction that deletes the memories, and `delete_queued_vectors` once it is committed.

    Args:
        connection: of the open batch.
        tenant_id: whose memories they were.
        ids: of the deleted memories.

    Raises:
        ConfigError: QDRANT_URL or QDRANT_HOST is set to what is no server.
    """
    if ids and is_configured():
        await enqueue(connection, tenant_id, ids)


async def enqueue(connection: Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    """`queue_vector_deletions` for a caller that has a Qdrant at hand."""
    await connection.execute(_QUEUE, tenant_id, list(ids))


async def delete_queued_vectors(pool: Pool, tenant_id: UUID, stop: StopSignal | None = None) -> int:
    """Delete in Qdrant what is queued for a tenant, and take it off the queue; nothing where no Qdrant is configured.

    Call it outside of any transaction, after the memories' deletion is committed. What fails stays queued.

    Args:
        pool: a connection is taken from it for each short statement, none is held during a call of Qdrant.
        tenant_id: whose; a point of another tenant is never deleted.
        stop: asked between batches.

    Returns:
        Vectors that were asked to go, whether or not they had been there.

    Raises:
        TransientError: Qdrant or the database is away.
        TimeSliced: the soft limit or a signal came after the first batch.
        SoftLimitReached: it came before.
        ConfigError: Qdrant refuses the key, or has no such collection.
    """
    settings = QdrantSettings.from_env()
    if settings is None:
        return 0
    # Most deletions find nothing to do, and must not pay for the HTTP client.
    async with pool.acquire() as connection:
        if not await _next(connection, tenant_id, 1):
            return 0
    from rae_jobctl.vectors.client import open_qdrant

    async with open_qdrant(settings) as qdrant:
        return await work_off(pool, qdrant, tenant_id, stop)


async def work_off(pool: Pool, qdrant: QdrantClient, tenant_id: UUID, stop: StopSignal | None = None) -> int:
    """`delete_queued_vectors` with a client that is open already."""
    deleted = 0
    while True:
        if stop is not None and stop.should_stop:
            raise _stopped(stop, deleted)
        async with pool.acquire() as connection:
            queued = await _next(connection, tenant_id, BATCH)
        if not queued:
            break
        await qdrant.delete(tenant_id, [str(memory) for memory, alive in queued.items() if not alive])
        # Only now: a crash before it deletes the same points once more.
        await pool.execute(_DONE, tenant_id, list(queued))
        deleted += sum(not alive for alive in queued.values())
    if deleted:
        get_logger().info("vectors_deleted", tenant_id=str(tenant_id), deleted=deleted)
    return deleted


async def _next(connection: Connection, tenant_id: UUID, limit: int) -> dict[UUID, bool]:
    async with tenant_transaction(connection, tenant_id, readonly=True):
        rows = await connection.fetch(_NEXT, tenant_id, limit)
    return {row["memory_id"]: row["alive"] for row in rows}


def _stopped(stop: StopSignal, deleted: int) -> SoftLimitReached | TimeSliced:
    if deleted:
        return TimeSliced(f"stopped by {stop.cause} with vectors left to delete; the next attempt goes on from here")
    return SoftLimitReached(f"stopped by {stop.cause} before any vector was deleted")
