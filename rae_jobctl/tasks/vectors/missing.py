"""Memories without a vector: no search finds them. Mended from the embeddings that PostgreSQL holds, where it holds any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.tasks.vectors import findings as count
from rae_jobctl.tasks.vectors.embeddings import fitting, parse
from rae_jobctl.tasks.vectors.findings import Findings
from rae_jobctl.vectors.types import NewPoint

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Record
    from rae_jobctl.progress import Progress
    from rae_jobctl.tasks.vectors.params import ConsistencyParams
    from rae_jobctl.tasks.vectors.session import Session
    from rae_jobctl.vectors.client import QdrantClient

#: Ids of one look, so that a tenant's rows are not sorted anew for each page.
LOOK = 50_000
PAGE = 1000
#: Vectors of one upsert: 384 and 768 numbers are 25 KB of JSON.
WRITE = 100
STEP = "missing"
_FIRST = UUID(int=0)

# The best way depends on the tenant's share of the table, and one plan for all would read the whole table for a small tenant.
_PLAN_FOR_EACH = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"

# A row of the last minutes may be waiting for its vector.
_IDS = """
SELECT id
FROM memories
WHERE tenant_id = $1
  AND id > $2
  AND (created_at IS NULL OR created_at < now() - make_interval(secs => $4))
ORDER BY id
LIMIT $3
"""

_STILL_THERE = """
SELECT id
FROM memories
WHERE tenant_id = $1
  AND id = ANY ($2)
ORDER BY id
"""

_EMBEDDINGS = """
SELECT m.id, m.agent_id, m.session_id, m.layer, m.project, m.tags, m.created_at, m.metadata,
       m.embedding::text AS own,
       (SELECT jsonb_object_agg(e.model_name, e.embedding::text) FROM memory_embeddings AS e WHERE e.memory_id = m.id) AS by_model
FROM memories AS m
WHERE m.tenant_id = $1
  AND m.id = ANY ($2)
"""


@dataclass(frozen=True)
class MissingStep:
    """The search for one tenant's memories that have no point.

    Attributes:
        tenant_id: whose.
        session: where the place is kept.
        sizes: dimensions of the collection's vectors by name.
    """

    tenant_id: UUID
    qdrant: QdrantClient
    params: ConsistencyParams
    session: Session
    sizes: Mapping[str, int]
    progress: Progress

    async def all(self) -> None:
        """Go through every memory from where an earlier attempt stopped.

        Raises:
            TimeSliced, SoftLimitReached: the soft limit came between two pages.
            TransientError, ConfigError: of the database or of Qdrant.
        """
        after = UUID(Findings(self.session).place.get("after") or str(_FIRST))
        while True:
            self.session.check_stop()
            async with self.session.reading() as connection:
                await connection.execute(_PLAN_FOR_EACH)
                rows = await connection.fetch(_IDS, self.tenant_id, after, LOOK, self.params.grace)
            ids = [row["id"] for row in rows]
            for begin in range(0, len(ids), PAGE):
                self.session.check_stop()
                await self._page(ids[begin : begin + PAGE])
            if len(ids) < LOOK:
                return
            after = ids[-1]

    async def _page(self, ids: Sequence[UUID]) -> None:
        owners = await self.qdrant.owners(ids)
        # A point under a memory's id that is not its tenant's is never written over; it is a ghost of whoever it names.
        absent = await self._still_there([one for one in ids if owners.get(one) != str(self.tenant_id)])
        mended = await self._mend([one for one in absent if one not in owners]) if self.params.repair else set()
        left = [one for one in absent if one not in mended]
        async with self.session.batch():
            found = Findings(self.session)
            found.move(step=STEP, after=str(ids[-1]))
            found.add(count.MEMORIES, len(ids))
            found.add(count.MISSING, len(absent))
            found.note(count.MISSING, map(str, absent))
            if self.params.repair:
                found.add(count.MENDED, len(mended))
                found.add(count.UNMENDABLE, len(left))
                found.note("unmendable", map(str, left))
        self.progress.advance(len(ids))

    async def _still_there(self, ids: Sequence[UUID]) -> list[UUID]:
        """The second look: a memory may have been deleted since its id was read."""
        if not ids:
            return []
        async with self.session.reading() as connection:
            return [row["id"] for row in await connection.fetch(_STILL_THERE, self.tenant_id, list(ids))]

    async def _mend(self, ids: Sequence[UUID]) -> set[UUID]:
        mended: set[UUID] = set()
        for begin in range(0, len(ids), WRITE):
            async with self.session.reading() as connection:
                rows = await connection.fetch(_EMBEDDINGS, self.tenant_id, list(ids[begin : begin + WRITE]))
            points = [point for row in rows if (point := self._point(row)) is not None]
            if not self.params.dry_run:
                await self.qdrant.upsert(points)
            mended |= {point.id for point in points}
        return mended

    def _point(self, row: Record) -> NewPoint | None:
        by_model = {name: vector for name, text in (row["by_model"] or {}).items() if (vector := parse(text))}
        vectors = fitting(parse(row["own"]), by_model, self.sizes)
        return NewPoint(row["id"], vectors, _payload(row, self.tenant_id)) if vectors else None


def _payload(row: Record, tenant_id: UUID) -> dict[str, Any]:
    """What RAE's searches filter by. Its own points hold the memory's text as well, which no search reads: it stays out."""
    metadata = row["metadata"] if isinstance(row["metadata"], dict) else {}
    more = {"project": row["project"], "tags": row["tags"], "created_at": row["created_at"] and row["created_at"].isoformat()}
    return {
        **{name: value for name, value in metadata.items() if name != "content"},
        **{name: value for name, value in more.items() if value is not None},
        "memory_id": str(row["id"]),
        "tenant_id": str(tenant_id),
        "agent_id": row["agent_id"],
        "session_id": row["session_id"] or metadata.get("session_id") or "default",
        "layer": row["layer"] or "episodic",
    }
