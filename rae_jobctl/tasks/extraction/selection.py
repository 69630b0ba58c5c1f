"""Which memories an extraction reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from rae_jobctl.llm.types import Memory
from rae_jobctl.tasks.extraction.params import ExtractionParams

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Record

# graph_extracted is true for all that was there before the column; only graph_extracted_at says that we have done it.
_NEWEST = """
SELECT m.id
FROM memories AS m
LEFT JOIN rae_jobs.extraction_state AS s ON s.memory_id = m.id
WHERE m.tenant_id = $1
  AND m.project = $2
  AND m.layer = 'episodic'
  AND NOT coalesce(m.metadata ? 'graph_extracted_at', false)
  AND NOT coalesce(s.dead, false)
ORDER BY m.created_at DESC NULLS LAST, m.id
LIMIT $3
"""

# In the index's order, so it ends after `limit` rows. The state is asked for row by row: a join would read all that is pending.
_PENDING = """
SELECT m.id, m.created_at
FROM memories AS m
WHERE m.tenant_id = $1
  AND m.project = $2
  AND m.layer = 'episodic'
  AND NOT m.graph_extracted
  AND coalesce((
      SELECT NOT s.dead AND s.tries < $4
             AND coalesce(s.leased_until, '-infinity') < now() AND coalesce(s.not_before, '-infinity') <= now()
      FROM rae_jobs.extraction_state AS s
      WHERE s.memory_id = m.id
  ), true)
  AND ($6 = 1 OR mod(abs(hashtextextended(m.id::text, 0) % 1000003), $6) = $5)
  {after}
ORDER BY m.created_at, m.id
LIMIT $3
"""

_BY_ID = """
SELECT id, content, coalesce(metadata ? 'graph_extracted_at', false) AS extracted
FROM memories
WHERE tenant_id = $1
  AND project = $2
  AND id = ANY ($3::uuid[])
"""

# The lease commits before the call, and counts a try: a memory that kills its pod is dead after `tries` pods.
_CLAIM = """
WITH free AS ({pending} FOR NO KEY UPDATE OF m SKIP LOCKED),
claimed AS (
    INSERT INTO rae_jobs.extraction_state AS s (memory_id, tenant_id, project, lease_token, leased_until, tries)
    SELECT id, $1, $2, $7, now() + make_interval(secs => $8::float8), 1
    FROM free
    ON CONFLICT (memory_id) DO UPDATE
    SET lease_token = excluded.lease_token, leased_until = excluded.leased_until, tries = s.tries + 1, updated_at = now()
    WHERE NOT s.dead AND coalesce(s.leased_until, '-infinity') < now()
    RETURNING memory_id
)
SELECT f.id, f.created_at, c.memory_id IS NOT NULL AS ours
FROM free AS f
LEFT JOIN claimed AS c ON c.memory_id = f.id
ORDER BY f.created_at, f.id
"""
_FIRST = _PENDING.format(after="")
_CLAIM_FIRST = _CLAIM.format(pending=_FIRST)
_CLAIM_AFTER = _CLAIM.format(pending=_PENDING.format(after="AND (m.created_at, m.id) > ($9, $10)"))

_BURY = """
UPDATE rae_jobs.extraction_state
SET dead = true, last_error = coalesce(last_error, 'Died'), lease_token = NULL, updated_at = now()
WHERE tenant_id = $1
  AND project = $2
  AND NOT dead
  AND tries >= $3
  AND leased_until < now()
"""

_RELEASE = """
UPDATE rae_jobs.extraction_state
SET lease_token = NULL, leased_until = NULL, tries = tries - 1, updated_at = now()
WHERE tenant_id = $1
  AND lease_token = $2
"""


@dataclass(frozen=True)
class Place:
    """How far a run has come in the queue, which is in the order of creation."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True)
class Claim:
    """Memories that are leased to one worker.

    Attributes:
        token: of the lease.
        place: of the last of them, None at the queue's end.
    """

    token: UUID
    ids: tuple[UUID, ...]
    place: Place | None


@dataclass(frozen=True)
class Found:
    """Memories by id, as they are now.

    Attributes:
        fresh: not yet extracted, in the order asked for.
        extracted: ids that were extracted before.
        missing: ids that this tenant and project do not have.
    """

    fresh: tuple[Memory, ...]
    extracted: tuple[UUID, ...]
    missing: tuple[UUID, ...]


async def select_ids(connection: Connection, tenant_id: UUID, params: ExtractionParams) -> list[UUID]:
    """The ids that the parameters mean: those named, or a selection. Claims nothing."""
    if params.memory_ids:
        return list(dict.fromkeys(params.memory_ids))
    if params.pending:
        share = (params.tries, params.shard, params.shards)
        rows = await connection.fetch(_FIRST, tenant_id, params.project, params.limit, *share)
    else:
        rows = await connection.fetch(_NEWEST, tenant_id, params.project, params.limit)
    return [row["id"] for row in rows]


async def load(connection: Connection, tenant_id: UUID, project: str, ids: Sequence[UUID]) -> Found:
    """Read memories by id."""
    rows = {row["id"]: row for row in await connection.fetch(_BY_ID, tenant_id, project, list(ids))}
    return Found(
        tuple(Memory(i, rows[i]["content"]) for i in ids if i in rows and not rows[i]["extracted"]),
        tuple(i for i in ids if i in rows and rows[i]["extracted"]),
        tuple(i for i in ids if i not in rows),
    )


async def claim(
    connection: Connection, tenant_id: UUID, params: ExtractionParams, count: int, after: Place | None = None
) -> Claim:
    """Lease up to `count` pending memories that nobody else has; none only at the queue's end. The caller commits.

    Args:
        after: the last claim's, to go on there: what is leased or dead is not walked over again. At the queue's end it begins
            anew once, since what was leased may be free by now.
    """
    token = uuid4()
    while True:
        claimed = await _claim(connection, tenant_id, params, count, token, after)
        if claimed.ids or claimed.place is None:
            return claimed
        # A rival leased just these between our look and our write.
        after = claimed.place


async def _claim(
    connection: Connection, tenant_id: UUID, params: ExtractionParams, count: int, token: UUID, after: Place | None
) -> Claim:
    found = [] if after is None else await _lease(connection, tenant_id, params, count, token, after)
    if len(found) < count:
        await connection.execute(_BURY, tenant_id, params.project, params.tries)
        found += await _lease(connection, tenant_id, params, count - len(found), token, None)
    last = found[-1] if len(found) >= count else None
    place = Place(last["created_at"], last["id"]) if last is not None and last["created_at"] is not None else None
    return Claim(token, tuple(row["id"] for row in found if row["ours"]), place)


async def _lease(
    connection: Connection, tenant_id: UUID, params: ExtractionParams, count: int, token: UUID, after: Place | None
) -> list[Record]:
    share = (params.tries, params.shard, params.shards, token, params.lease_seconds)
    if after is None:
        return await connection.fetch(_CLAIM_FIRST, tenant_id, params.project, count, *share)
    return await connection.fetch(_CLAIM_AFTER, tenant_id, params.project, count, *share, after.created_at, after.id)


async def release(connection: Connection, tenant_id: UUID, token: UUID) -> None:
    """Give a lease back as if it had not been: the service failed, not the memory."""
    await connection.execute(_RELEASE, tenant_id, token)
