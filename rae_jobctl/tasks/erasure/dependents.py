"""What goes with a row that goes: in the transaction that deletes it, each table with an audit row of its own."""
# ruff: noqa: S608 - only quoted names of the catalogue are put into the text

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.tasks.erasure.audit import record
from rae_jobctl.tasks.erasure.catalogue import Catalogue
from rae_jobctl.tasks.erasure.rules import Action
from rae_jobctl.tasks.vectors.outbox import queue_vector_deletions

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection
    from rae_jobctl.tasks.erasure.subject import Subject

_STATES = "DELETE FROM rae_jobs.extraction_state WHERE tenant_id = $1 AND memory_id = ANY ($2) RETURNING memory_id AS id"
_FEEDBACK = "DELETE FROM memory_feedback WHERE tenant_id = $1 AND memory_id = ANY ($2) RETURNING id"

# Found by the unique index: a reflection's memory has its very text.
_REFLECTIVE = """
SELECT m.id
FROM reflections AS r
JOIN memories AS m
    ON m.tenant_id = $1
    AND m.content_hash = encode(sha256(convert_to(r.content, 'UTF8')), 'hex')
    AND m.metadata ->> 'reflection_id' = r.id::text
WHERE r.tenant_id = $1
  AND r.id = ANY ($2)
FOR UPDATE OF m
"""
_DELETE_MEMORIES = "DELETE FROM memories WHERE tenant_id = $1 AND id = ANY ($2) RETURNING id"

# RAE's foreign key would delete them, unseen.
_CHILDREN = """
WITH RECURSIVE below AS (
    SELECT id, ARRAY[id] AS path FROM reflections WHERE tenant_id = $1 AND parent_reflection_id = ANY ($2)
    UNION ALL
    SELECT r.id, b.path || r.id
    FROM reflections AS r
    JOIN below AS b ON r.parent_reflection_id = b.id AND r.id <> ALL (b.path)
    WHERE r.tenant_id = $1
)
SELECT DISTINCT id FROM below
"""

_DELETE_REFLECTIONS = "DELETE FROM reflections WHERE tenant_id = $1 AND id = ANY ($2) RETURNING id"
_RELATIONSHIPS = """
DELETE FROM reflection_relationships
WHERE tenant_id = $1
  AND (source_reflection_id = ANY ($2) OR target_reflection_id = ANY ($2))
RETURNING id::text
"""
_USAGE = "DELETE FROM reflection_usage_log WHERE tenant_id = $1 AND reflection_id = ANY ($2) RETURNING id"

#: A node may have a million edges: they go before it, so many a transaction.
_EDGES_OF_NODES = """
DELETE FROM knowledge_graph_edges
WHERE tenant_id = $1
  AND id IN (
      SELECT id FROM knowledge_graph_edges WHERE tenant_id = $1 AND source_node_id = ANY ($2)
      UNION
      SELECT id FROM knowledge_graph_edges WHERE tenant_id = $1 AND target_node_id = ANY ($2)
      LIMIT $3
  )
RETURNING id, source_node_id, target_node_id
"""

# Whoever has no edge left after one of its edges went was in the graph for that alone.
_LONELY = """
DELETE FROM knowledge_graph_nodes AS n
WHERE n.tenant_id = $1
  AND n.id = ANY ($2)
  AND NOT EXISTS (SELECT FROM knowledge_graph_edges AS e WHERE e.source_node_id = n.id)
  AND NOT EXISTS (SELECT FROM knowledge_graph_edges AS e WHERE e.target_node_id = n.id)
RETURNING n.id
"""

_COUNT_EDGES = """
SELECT id, source_node_id, target_node_id
FROM knowledge_graph_edges
WHERE tenant_id = $1
  AND (id = ANY ($2) OR source_node_id = ANY ($3) OR target_node_id = ANY ($3))
"""
_COUNT_LONELY = """
SELECT count(*)
FROM unnest($2::uuid[]) AS n (id)
WHERE NOT EXISTS (
    SELECT FROM knowledge_graph_edges AS e
    WHERE e.tenant_id = $1 AND e.id <> ALL ($3) AND (e.source_node_id = n.id OR e.target_node_id = n.id)
)
"""


async def followers(connection: Connection, tenant_id: UUID, gone: Mapping[str, Collection[UUID]]) -> dict[str, int]:
    """How many rows would go with rows that would be deleted, by table; `gone` has those by table."""
    counts: dict[str, int] = {}
    reflections = gone.get("reflections", ())
    if reflections:
        below = await connection.fetch(_CHILDREN, tenant_id, list(reflections))
        counts["reflections"] = sum(row["id"] not in reflections for row in below)
    nodes, edges = gone.get("knowledge_graph_nodes", ()), gone.get("knowledge_graph_edges", ())
    if nodes or edges:
        rows = await connection.fetch(_COUNT_EDGES, tenant_id, list(edges), list(nodes))
        ends = {row[name] for row in rows for name in ("source_node_id", "target_node_id")}.difference(nodes)
        counts["knowledge_graph_edges"] = len(rows) - len(edges)
        every = [row["id"] for row in rows]
        counts["knowledge_graph_nodes"] = await connection.fetchval(_COUNT_LONELY, tenant_id, list(ends), every)
    return {name: count for name, count in counts.items() if count}


@dataclass
class Gone:
    """What a batch has deleted beside its own rows.

    Attributes:
        rows: by table.
        erased: memories and reflections among them.
    """

    rows: dict[str, int] = field(default_factory=dict)
    erased: list[UUID] = field(default_factory=list)


@dataclass
class Dependents:
    """Deletes what depends on deleted rows.

    Attributes:
        connection: of the open batch.
        run, subject: for the audit.
        catalogue: which tables there are.
        gone: what has been deleted.
    """

    connection: Connection
    run: Run
    subject: Subject
    catalogue: Catalogue
    gone: Gone = field(default_factory=Gone)

    async def before(self, action: Action, rows: Sequence[Mapping[str, Any]]) -> None:
        """Called with the rows that are about to be deleted."""
        if action is Action.MEMORY:
            await self._memories([row["id"] for row in rows])
        if action is Action.ARCHIVED:
            archived = [row["memory_id"] for row in rows]
            # Whoever archived them may have had no Qdrant at hand.
            await queue_vector_deletions(self.connection, self.subject.tenant_id, archived)
            self.gone.erased += archived
        if action is Action.REFLECTION:
            await self._reflections([row["id"] for row in rows])

    async def after(self, action: Action, rows: Sequence[Mapping[str, Any]]) -> None:
        """Called with the rows that have just been deleted."""
        if action is Action.EDGE:
            await self._lonely(rows)

    async def edges_of(self, nodes: Sequence[UUID], most: int) -> int:
        """Delete up to `most` edges of nodes that are to go, and the neighbours that are left alone; returns how many edges."""
        found = await self.connection.fetch(_EDGES_OF_NODES, self.subject.tenant_id, list(nodes), most)
        rows = [dict(row) for row in found]
        await self._count("knowledge_graph_edges", "graph", [row["id"] for row in rows])
        await self._lonely(rows)
        return len(rows)

    async def _memories(self, ids: list[UUID]) -> None:
        await queue_vector_deletions(self.connection, self.subject.tenant_id, ids)
        self.gone.erased += ids
        if self.catalogue.memory_embeddings:
            # Its rows have no tenant: they are those of memories that were selected by tenant.
            sql = f"DELETE FROM {self.catalogue.memory_embeddings} WHERE memory_id = ANY ($1) RETURNING memory_id, model_name"
            rows = await self.connection.fetch(sql, ids)
            await self._count("memory_embeddings", "embeddings", [f"{row['memory_id']}/{row['model_name']}" for row in rows])
        await self._delete("extraction_state", "extraction", _STATES, ids)
        if "memory_feedback" not in self.catalogue.missing:
            await self._delete("memory_feedback", "feedback", _FEEDBACK, ids)

    async def _reflections(self, ids: list[UUID]) -> None:
        tenant = self.subject.tenant_id
        below = [row["id"] for row in await self.connection.fetch(_CHILDREN, tenant, ids) if row["id"] not in ids]
        every = [*ids, *below]
        memories = [row["id"] for row in await self.connection.fetch(_REFLECTIVE, tenant, every)]
        await self._memories(memories)
        await self._delete("memories", "memories", _DELETE_MEMORIES, memories)
        for table, sql in (("reflection_relationships", _RELATIONSHIPS), ("reflection_usage_log", _USAGE)):
            if table not in self.catalogue.missing:
                await self._delete(table, "reflections", sql, every)
        await self._delete("reflections", "reflections", _DELETE_REFLECTIONS, below)
        self.gone.erased += every

    async def _lonely(self, edges: Sequence[Mapping[str, Any]]) -> None:
        ends = list({row[name] for row in edges for name in ("source_node_id", "target_node_id")})
        if ends:
            await self._delete("knowledge_graph_nodes", "graph", _LONELY, ends)

    async def _delete(self, table: str, data_class: str, sql: str, ids: Sequence[UUID]) -> None:
        if ids:
            rows = await self.connection.fetch(sql, self.subject.tenant_id, list(ids))
            await self._count(table, data_class, [row["id"] for row in rows])

    async def _count(self, table: str, data_class: str, keys: Sequence[Any]) -> None:
        if keys:
            await record(self.connection, self.run, self.subject, table, data_class, keys, deleted=True)
            self.gone.rows[table] = self.gone.rows.get(table, 0) + len(keys)
