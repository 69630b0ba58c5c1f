"""Reading the memories of a reflection, claiming its input, and storing it where RAE and its retrieval find it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from rae_jobctl.llm.prompts import REFLECTION_PROMPT_VERSION
from rae_jobctl.llm.types import Insight, Memory, ReflectionDraft, ReflectionKind, Theme

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection

_SINGLE_SOURCE = "single_source"

_RECENT = """
SELECT id, content
FROM memories
WHERE tenant_id = $1
  AND project = $2
  AND layer = 'episodic'
  AND created_at >= $3
  AND created_at <= $4
ORDER BY created_at DESC, id
LIMIT $5
"""

# Dreaming: what mattered most, failures first.
_WEIGHTY = """
SELECT id, content
FROM memories
WHERE tenant_id = $1
  AND project = $2
  AND layer = 'episodic'
  AND created_at >= $3
  AND created_at <= $4
ORDER BY (content ~* '\\y(fail|error|crash|bug|broken|regression|outage|incident|timeout)') DESC,
    importance DESC NULLS LAST, created_at DESC, id
LIMIT $5
"""

_CLAIM = """
INSERT INTO rae_jobs.reflection_claims AS c (input_hash, tenant_id, project, run_id, claimed_until)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5::float8))
ON CONFLICT (input_hash) DO UPDATE
SET run_id = excluded.run_id, claimed_until = excluded.claimed_until
WHERE c.stored_at IS NULL
  AND (c.claimed_until < now() OR c.run_id = excluded.run_id)
RETURNING true
"""

_CLAIMED = """
SELECT reflection_id, stored_at
FROM rae_jobs.reflection_claims
WHERE input_hash = $1
  AND tenant_id = $2
"""

_RELEASE = """
UPDATE rae_jobs.reflection_claims
SET claimed_until = now()
WHERE input_hash = $1
  AND tenant_id = $2
  AND run_id = $3
  AND stored_at IS NULL
"""

_SETTLE = """
UPDATE rae_jobs.reflection_claims
SET reflection_id = $4, stored_at = now()
WHERE input_hash = $1
  AND tenant_id = $2
  AND run_id = $3
  AND stored_at IS NULL
RETURNING true
"""

_REFLECTION = """
INSERT INTO reflections (
    id, tenant_id, project, content, summary, type, priority,
    score, novelty_score, importance_score, utility_score, confidence_score,
    source_memory_ids, cache_key, tags, metadata,
    generation_model, generation_duration_ms, generation_tokens_used, generation_cost_usd
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
"""

# The same text may be there already, for RAE keeps a text once a tenant.
_MEMORY = """
INSERT INTO memories (
    id, tenant_id, project, layer, memory_type, content, content_hash, source, importance, tags, metadata, graph_extracted
)
VALUES ($1, $2, $3, 'reflective', 'reflection', $4, $5, 'rae-jobctl generate-reflection', $6, $7, $8, true)
ON CONFLICT (tenant_id, content_hash) DO NOTHING
RETURNING id
"""

_STORED = """
SELECT id, summary, priority, metadata
FROM reflections
WHERE id = $1
  AND tenant_id = $2
"""


@dataclass(frozen=True)
class Generation:
    """How a draft came about.

    Attributes:
        input_hash: of its input.
        provider, model: who wrote it.
        seconds: how long it took.
        cost_usd: None when unknown.
    """

    input_hash: str
    provider: str
    model: str
    seconds: float
    cost_usd: float | None


async def recent_memories(
    connection: Connection, tenant_id: UUID, project: str, since: datetime, until: datetime, most: int, kind: ReflectionKind
) -> list[Memory]:
    """Episodic memories of the span: the newest, or for `meta` those that weigh most."""
    query = _WEIGHTY if kind is ReflectionKind.META else _RECENT
    rows = await connection.fetch(query, tenant_id, project, since, until, most)
    return [Memory(row["id"], row["content"]) for row in rows]


async def claim(connection: Connection, run: Run, digest: str, seconds: float) -> bool:
    """Whether this run may reflect upon the input now: nobody has, and nobody else is about to."""
    key = run.key
    return bool(await connection.fetchval(_CLAIM, digest, key.tenant_id, key.project, run.id, seconds))


async def stored_reflection(connection: Connection, tenant_id: UUID, digest: str) -> tuple[bool, Mapping[str, Any] | None]:
    """Whether the input has been stored, and its result if the reflection is still there."""
    row = await connection.fetchrow(_CLAIMED, digest, tenant_id)
    if row is None or row["stored_at"] is None:
        return False, None
    reflection = await connection.fetchrow(_STORED, row["reflection_id"], tenant_id)
    return True, None if reflection is None else dict(reflection)


async def release(connection: Connection, run: Run, digest: str) -> None:
    """Give a claim back, so that another run need not wait for it to lapse."""
    await connection.execute(_RELEASE, digest, run.key.tenant_id, run.id)


async def store(
    connection: Connection, run: Run, draft: ReflectionDraft, themes: Sequence[Theme], kind: ReflectionKind, made: Generation
) -> tuple[UUID, UUID | None] | None:
    """Write the reflection and its memory, and settle the claim; None when the claim is no longer this run's.

    Returns:
        The ids of the reflection and of the memory; the latter is None when the tenant had the same text already.
    """
    reflection_id = uuid4()
    if not await connection.fetchval(_SETTLE, made.input_hash, run.key.tenant_id, run.id, reflection_id):
        return None
    await _store_row(connection, run, reflection_id, draft, themes, kind, made)
    about = {
        "reflection_id": str(reflection_id),
        "kind": str(kind),
        "input_hash": made.input_hash,
        "source_memory_ids": [str(i) for i in sources(draft)],
    }
    text = full_text(draft)
    digest = hashlib.sha256(text.encode()).hexdigest()
    row = (uuid4(), run.key.tenant_id, run.key.project, text, digest, draft.scores.importance)
    return reflection_id, await connection.fetchval(_MEMORY, *row, ["reflection", str(kind)], about)


async def _store_row(
    connection: Connection,
    run: Run,
    reflection_id: UUID,
    draft: ReflectionDraft,
    themes: Sequence[Theme],
    kind: ReflectionKind,
    made: Generation,
) -> None:
    scores, usage = draft.scores, draft.usage
    await connection.execute(
        _REFLECTION,
        *(reflection_id, run.key.tenant_id, run.key.project, full_text(draft), draft.summary, str(kind), priority(draft)),
        *(scores.composite, scores.novelty, scores.importance, scores.utility, scores.confidence),
        *(sources(draft), made.input_hash, _tags(themes), _metadata(run, draft, themes, made)),
        *(made.model, made.seconds * 1000, usage.prompt_tokens + usage.completion_tokens, made.cost_usd),
    )


def _metadata(run: Run, draft: ReflectionDraft, themes: Sequence[Theme], made: Generation) -> dict[str, Any]:
    return {
        "key_insights": [insight_json(insight) for insight in draft.insights],
        "suggested_actions": list(draft.actions),
        "themes": [{"terms": list(theme.terms), "memories": len(theme.memories)} for theme in themes],
        "provider": made.provider,
        "prompt_version": REFLECTION_PROMPT_VERSION,
        "input_hash": made.input_hash,
        "run_id": str(run.id),
    }


def _tags(themes: Sequence[Theme]) -> list[str]:
    return list(dict.fromkeys(term[:100] for theme in themes for term in theme.terms[:2]))[:10]


def insight_json(insight: Insight) -> dict[str, Any]:
    """An insight as `reflections.metadata` keeps it."""
    evidence = [str(memory_id) for memory_id in insight.evidence]
    return {"text": insight.text, "evidence": evidence, "confidence": insight.confidence, _SINGLE_SOURCE: insight.single_source}


def sources(draft: ReflectionDraft) -> list[UUID]:
    """Every memory that an insight rests on, once."""
    return list(dict.fromkeys(memory_id for insight in draft.insights for memory_id in insight.evidence))


def full_text(draft: ReflectionDraft) -> str:
    """The reflection as one text, for `reflections.content` and the reflective memory."""
    parts = [draft.summary]
    if draft.insights:
        parts.append("Key insights:\n" + "\n".join(f"- {insight.text}" for insight in draft.insights))
    if draft.actions:
        parts.append("Suggested actions:\n" + "\n".join(f"- {action}" for action in draft.actions))
    return "\n\n".join(parts)


def priority(draft: ReflectionDraft) -> int:
    """RAE's rule: five times the score, and up to one more for a broad base, within 1 to 5."""
    return max(1, min(5, round(5 * draft.scores.composite + min(1.0, len(sources(draft)) / 10))))
