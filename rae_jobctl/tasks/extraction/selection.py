"""Which memories an extraction reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from rae_jobctl.llm.types import Memory
from rae_jobctl.tasks.extraction.params import ExtractionParams

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

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

_PENDING = """
SELECT m.id
FROM memories AS m
LEFT JOIN rae_jobs.extraction_state AS s ON s.memory_id = m.id
WHERE m.tenant_id = $1
  AND m.project = $2
  AND m.layer = 'episodic'
  AND NOT m.graph_extracted
  AND (s.memory_id IS NULL OR (NOT s.dead AND s.tries < $4
       AND coalesce(s.leased_until, '-infinity') < now() AND coalesce(s.not_before, '-infinity') <= now()))
  AND ($6 = 1 OR mod(abs(hashtextextended(m.id::text, 0) % 1000003), $6) = $5)
ORDER BY m.created_at, m.id
LIMIT $3
"""

_WAITING = f"SELECT count(*) FROM ({_PENDING}) AS waiting"  # noqa: S608 - made of a constant of this module

_BY_ID = """
SELECT id, content, coalesce(metadata ? 'graph_extracted_at', false) AS extracted
FROM memories
WHERE tenant_id = $1
  AND project = $2
  AND id = ANY ($3::uuid[])
"""

# The lease commits before the call, and counts a try: a memory that kills its pod is dead after `tries` pods.
_CLAIM = f"""
WITH free AS ({_PENDING} FOR NO KEY UPDATE OF m SKIP LOCKED)
INSERT INTO rae_jobs.extraction_state AS s (memory_id, tenant_id, project, lease_token, leased_until, tries)
SELECT id, $1, $2, $7, now() + make_interval(secs => $8::float8), 1
FROM free
ON CONFLICT (memory_id) DO UPDATE
SET lease_token = excluded.lease_token, leased_until = excluded.leased_until, tries = s.tries + 1, updated_at = now()
WHERE NOT s.dead AND coalesce(s.leased_until, '-infinity') < now()
RETURNING memory_id
"""  # noqa: S608 - made of a constant of this module

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
        rows = await connection.fetch(_PENDING, tenant_id, params.project, params.limit, *share)
    else:
        rows = await connection.fetch(_NEWEST, tenant_id, params.project, params.limit)
    return [row["id"] for row in rows]


async def count_waiting(connection: Connection, tenant_id: UUID, project: str, tries: int, most: int) -> int:
    """How many memories `claim` would find now, counted up to `most`."""
    return int(await connection.fetchval(_WAITING, tenant_id, project, most, tries, 0, 1))


async def load(connection: Connection, tenant_id: UUID, project: str, ids: Sequence[UUID]) -> Found:
    """Read memories by id."""
    rows = {row["id"]: row for row in await connection.fetch(_BY_ID, tenant_id, project, list(ids))}
    return Found(
        tuple(Memory(i, rows[i]["content"]) for i in ids if i in rows and not rows[i]["extracted"]),
        tuple(i for i in ids if i in rows and rows[i]["extracted"]),
        tuple(i for i in ids if i not in rows),
    )


async def claim(connection: Connection, tenant_id: UUID, params: ExtractionParams, count: int) -> tuple[UUID, list[UUID]]:
    """Lease up to `count` pending memories that nobody else has; returns the token and the ids. The caller commits."""
    token = uuid4()
    await connection.execute(_BURY, tenant_id, params.project, params.tries)
    share = (params.tries, params.shard, params.shards, token, params.lease_seconds)
    rows = await connection.fetch(_CLAIM, tenant_id, params.project, count, *share)
    return token, [row["memory_id"] for row in rows]


async def release(connection: Connection, tenant_id: UUID, token: UUID) -> None:
    """Give a lease back as if it had not been: the service failed, not the memory."""
    await connection.execute(_RELEASE, tenant_id, token)
