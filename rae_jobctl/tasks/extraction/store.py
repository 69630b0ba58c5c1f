"""Writing triples: memories are marked, nodes and edges upserted in bulk, all in the caller's transaction."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.llm.types import EntityType, Triple

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

#: Quotations and memory ids kept on one edge; a fact stated a thousand times is proven by fewer.
MAX_EVIDENCE_PER_EDGE = 20
MAX_SOURCES_PER_EDGE = 200

# Whoever marks a memory stores its triples: the row's lock makes rivals wait, and then they find it marked. Locked in the order
# of ids, so that two runs with the same memories do not wait for each other in a circle.
_MARK = """
WITH mine AS (
    SELECT id
    FROM memories
    WHERE tenant_id = $1
      AND project = $2
      AND id = ANY ($3::uuid[])
      AND NOT coalesce(metadata ? 'graph_extracted_at', false)
    ORDER BY id
    FOR NO KEY UPDATE
)
UPDATE memories AS m
SET graph_extracted = true,
    metadata = CASE WHEN jsonb_typeof(m.metadata) = 'object' THEN m.metadata ELSE '{}'::jsonb END
        || jsonb_build_object('graph_extracted_at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
FROM mine
WHERE m.id = mine.id
  AND m.tenant_id = $1
  AND NOT coalesce(m.metadata ? 'graph_extracted_at', false)
RETURNING m.id
"""

# A claim locks memories, then their state; so does whoever stores, or the two would wait for each other where a lease has lapsed.
_LOCK = """
SELECT
FROM memories
WHERE tenant_id = $1
  AND project = $2
  AND id = ANY ($3::uuid[])
ORDER BY id
FOR NO KEY UPDATE
"""

_TAKE_LEASES = """
DELETE FROM rae_jobs.extraction_state
WHERE tenant_id = $1
  AND memory_id = ANY ($2::uuid[])
  AND lease_token = ANY ($3::uuid[])
RETURNING memory_id
"""

_FORGET_FAILURES = """
DELETE FROM rae_jobs.extraction_state
WHERE tenant_id = $1
  AND memory_id = ANY ($2::uuid[])
"""

# A lease has counted this try already. The pauses are those of a request's attempts: 60 s, doubled each time.
_FAIL = """
INSERT INTO rae_jobs.extraction_state AS s (memory_id, tenant_id, project, tries, not_before, last_error, dead)
SELECT f.id, $1, $2, 1, now() + interval '60 seconds', f.reason, $5 <= 1
FROM unnest($3::uuid[], $4::text[]) AS f (id, reason)
ON CONFLICT (memory_id) DO UPDATE
SET tries = s.tries + (s.lease_token IS NULL)::int,
    not_before = now() + interval '60 seconds' * (2 ^ least(s.tries, 10)),
    last_error = excluded.last_error,
    dead = s.tries + (s.lease_token IS NULL)::int >= $5,
    lease_token = NULL,
    leased_until = NULL,
    updated_at = now()
RETURNING dead
"""

# In the order of names, so that two runs that bring the same names do not wait for each other in a circle.
_NODES = """
INSERT INTO knowledge_graph_nodes AS n (tenant_id, project, node_id, label, properties)
SELECT $1, $2, g.name, g.name, $5::jsonb || jsonb_build_object('entity_type', g.type)
FROM unnest($3::text[], $4::text[]) AS g (name, type)
ORDER BY g.name
ON CONFLICT (tenant_id, project, node_id) DO UPDATE
SET properties = n.properties || jsonb_build_object('entity_type', excluded.properties ->> 'entity_type'), updated_at = now()
WHERE coalesce(n.properties ->> 'entity_type', 'OTHER') IN ('OTHER', 'CONCEPT')
  AND excluded.properties ->> 'entity_type' NOT IN ('OTHER', 'CONCEPT')
RETURNING (xmax = 0) AS created
"""


def _merged(key: str, limit: int) -> str:
    """SQL of an array property without duplicates, the oldest first: what the edge has, then what comes."""
    return f"""(
        SELECT coalesce(jsonb_agg(d.v ORDER BY d.o), '[]'::jsonb)
        FROM (
            SELECT x.v, min(x.o) AS o
            FROM jsonb_array_elements(
                CASE WHEN jsonb_typeof(e.properties -> '{key}') = 'array' THEN e.properties -> '{key}' ELSE '[]'::jsonb END
                || (excluded.properties -> '{key}')
            ) WITH ORDINALITY AS x (v, o)
            GROUP BY x.v
            ORDER BY o
            LIMIT {limit}
        ) AS d
    )"""  # noqa: S608 - both are constants of this module


def _node(name: str) -> str:
    """SQL of one node by its name, the first that is not before it.

    Neither a join nor an equation: as long as the statistics do not know a project, the planner takes it for one row and would
    read all of its graph for each batch, by the index of (tenant_id, project). Only the unique index gives this order.
    """
    return f"""(
        SELECT n.id, n.node_id
        FROM knowledge_graph_nodes AS n
        WHERE n.tenant_id = $1 AND n.project = $2 AND n.node_id >= u.{name}
        ORDER BY n.node_id
        LIMIT 1
    )"""  # noqa: S608 - a constant of this module


EDGES = f"""
INSERT INTO knowledge_graph_edges AS e (tenant_id, project, source_node_id, target_node_id, relation, properties)
SELECT $1, $2, s.id, t.id, u.relation,
       $8::jsonb || jsonb_build_object(
           'confidence', u.confidence, 'evidence', u.evidence::jsonb, 'source_memory_ids', u.sources::jsonb
       )
FROM unnest($3::text[], $4::text[], $5::text[], $6::float8[], $7::text[], $9::text[])
    AS u (subject, relation, object, confidence, evidence, sources)
CROSS JOIN LATERAL {_node("subject")} AS s
CROSS JOIN LATERAL {_node("object")} AS t
WHERE s.node_id = u.subject
  AND t.node_id = u.object
ORDER BY s.id, t.id, u.relation
ON CONFLICT (tenant_id, project, source_node_id, target_node_id, relation) DO UPDATE
SET properties = coalesce(e.properties, '{{}}'::jsonb) || jsonb_build_object(
        'confidence', greatest(
            CASE WHEN jsonb_typeof(e.properties -> 'confidence') = 'number' THEN (e.properties ->> 'confidence')::float8 END,
            (excluded.properties ->> 'confidence')::float8
        ),
        'evidence', {_merged("evidence", MAX_EVIDENCE_PER_EDGE)},
        'source_memory_ids', {_merged("source_memory_ids", MAX_SOURCES_PER_EDGE)}
    ),
    updated_at = now()
RETURNING (xmax = 0) AS created
"""  # noqa: S608 - made of constants of this module


@dataclass(frozen=True)
class Origin:
    """Who says so: stored with nodes and edges as RAE does."""

    method: str
    model: str


@dataclass(frozen=True)
class Stored:
    """What a batch has written.

    Attributes:
        memories: ids that this batch has marked.
        triples: those of them that were stored.
    """

    memories: frozenset[UUID]
    triples: tuple[Triple, ...]
    nodes_created: int = 0
    edges_created: int = 0
    edges_updated: int = 0


async def store(
    connection: Connection,
    tenant_id: UUID,
    project: str,
    done: Sequence[UUID],
    triples: Sequence[Triple],
    origin: Origin,
    leases: Sequence[UUID] = (),
) -> Stored:
    """Mark `done` and write the triples of those memories that were ours to mark.

    Args:
        connection: in a transaction with row-level security set.
        done: extracted memories, with or without triples.
        leases: with them, only memories whose lease is still one of these.
    """
    await connection.execute(_LOCK, tenant_id, project, list(done))
    mine = await _ours(connection, tenant_id, done, leases)
    marked = frozenset(row["id"] for row in await connection.fetch(_MARK, tenant_id, project, list(mine)))
    kept = tuple(triple for triple in triples if triple.memory_id in marked)
    if not kept:
        return Stored(marked, ())
    about = {"project": project, "tenant_id": str(tenant_id), "extraction_method": origin.method, "model": origin.model}
    nodes = await connection.fetch(_NODES, tenant_id, project, *_node_columns(kept), about)
    edges = await connection.fetch(EDGES, *edge_columns(tenant_id, project, kept, about))
    created = sum(row["created"] for row in edges)
    return Stored(marked, kept, sum(row["created"] for row in nodes), created, len(edges) - created)


async def _ours(connection: Connection, tenant_id: UUID, done: Sequence[UUID], leases: Sequence[UUID]) -> Sequence[UUID]:
    if not leases:
        await connection.execute(_FORGET_FAILURES, tenant_id, list(done))
        return done
    return [row["memory_id"] for row in await connection.fetch(_TAKE_LEASES, tenant_id, list(done), list(leases))]


async def fail(connection: Connection, tenant_id: UUID, project: str, failed: Mapping[UUID, str], tries: int) -> int:
    """Count a failure of each memory; returns how many are dead now."""
    if not failed:
        return 0
    ids = sorted(failed)
    rows = await connection.fetch(_FAIL, tenant_id, project, ids, [failed[i] for i in ids], tries)
    return sum(row["dead"] for row in rows)


def _node_columns(triples: Sequence[Triple]) -> tuple[list[str], list[str]]:
    types: dict[str, EntityType] = {}
    for triple in triples:
        for name, kind in ((triple.subject, triple.subject_type), (triple.object, triple.object_type)):
            if types.get(name) in (None, EntityType.OTHER, EntityType.CONCEPT):
                types[name] = kind
    return list(types), [str(kind) for kind in types.values()]


def edge_columns(tenant_id: UUID, project: str, triples: Sequence[Triple], about: Mapping[str, Any]) -> tuple[Any, ...]:
    """What EDGES takes: each (subject, relation, object) once, with all its evidence."""
    groups: dict[tuple[str, str, str], list[Triple]] = defaultdict(list)
    for triple in triples:
        groups[triple.subject, triple.predicate, triple.object].append(triple)
    keys = list(groups)
    # As text: nested lists would pass for an array of two dimensions.
    evidence = [json.dumps(_evidence(groups[k]), ensure_ascii=False) for k in keys]
    sources = [json.dumps(list(dict.fromkeys(str(t.memory_id) for t in groups[k]))[:MAX_SOURCES_PER_EDGE]) for k in keys]
    return (
        *(tenant_id, project, [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys]),
        *([max(t.confidence for t in groups[k]) for k in keys], evidence, about, sources),
    )


def _evidence(triples: Sequence[Triple]) -> list[dict[str, str]]:
    return [{"memory_id": str(t.memory_id), "text": t.evidence} for t in triples[:MAX_EVIDENCE_PER_EDGE]]


def as_json(triple: Triple) -> dict[str, Any]:
    """A triple for results; keys are camelCase as in the custom resources."""
    return {
        "memoryId": str(triple.memory_id),
        "subject": triple.subject,
        "subjectType": str(triple.subject_type),
        "predicate": triple.predicate,
        "object": triple.object,
        "objectType": str(triple.object_type),
        "confidence": triple.confidence,
        "evidence": triple.evidence,
    }
