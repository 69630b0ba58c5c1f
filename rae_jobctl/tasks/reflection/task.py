"""The flow of a reflection: read, find themes, claim the input, reflect, store once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.db.ledger import Run, RunKey, open_run
from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.schema import require_schema
from rae_jobctl.db.tenants import Tenant, resolve_tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BudgetExhausted, RunLocked
from rae_jobctl.llm.pricing import cost_usd
from rae_jobctl.llm.themes import centroid, cosine, find_themes, vectors
from rae_jobctl.llm.types import Memory, Provider, ReflectionDraft, Theme
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.metering.meter import leaves_to_request, metered
from rae_jobctl.tasks.metering.settings import NO_LIMITS, LimitSettings
from rae_jobctl.tasks.reflection import store
from rae_jobctl.tasks.reflection.params import ReflectionParams, input_hash
from rae_jobctl.tasks.repeated import already_done
from rae_jobctl.tasks.usage import add_usage
from rae_jobctl.tasks.webhooks.outbox import REFLECTION_CREATED, deliver, enqueue
from rae_jobctl.webhooks.settings import WebhookSettings

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool

TASK = "generate-reflection"
#: Longer than any attempt: a claim lapses by itself only when its run has died.
CLAIM_SECONDS = 900.0
Price = tuple[float, float, float] | None


@dataclass(frozen=True)
class _Job:
    provider: Provider
    params: ReflectionParams
    price: Price
    tenant: Tenant
    run: Run
    notifies: bool


async def generate_reflection(
    pool: Pool,
    provider: Provider,
    params: ReflectionParams,
    *,
    slot: Slot,
    stop: StopSignal,
    price: Price = None,
    limits: LimitSettings = NO_LIMITS,
    wait: bool = False,
    webhook: WebhookSettings | None = None,
) -> Outcome:
    """Reflect upon the recent memories of a project and store the reflection, once for the same input.

    Args:
        webhook: who is notified of a stored reflection; None notifies nobody.

    Raises:
        BadDataError: no such tenant.
        RunLocked: another run is reflecting upon the same input at this moment.
        TransientError: the model or the database is away.
        BudgetExhausted: the budget has no room for it, and it is a request's; without one that is how the run ends.
    """
    async with pool.acquire() as connection:
        await require_schema(connection)
        tenant = await resolve_tenant(connection, params.tenant)
    key = RunKey(TASK, tenant.id, slot.key, params.project)
    about = _arguments(params, provider)
    async with open_run(pool, key, arguments=about, stop=stop, wait=wait) as run:
        if run.already_finished is not None:
            outcome = already_done(run)
        else:
            get_logger().info("reflection_started", tenant_id=str(tenant.id), project_id=params.project, **about)
            run.check_stop()
            async with metered(pool, provider, run, tenant, price, limits, stop) as paying:
                outcome = await _reflect_within_budget(_Job(paying, params, price, tenant, run, webhook is not None), slot)
            get_logger().info("reflection_finished", reason=outcome.reason, **outcome.counters)
    # Also of a run that had finished before: it may have died just then.
    delivered = await deliver(pool, webhook, stop, run_id=run.id)
    return outcome.with_counters(**delivered.counters)


def _arguments(params: ReflectionParams, provider: Provider) -> dict[str, Any]:
    return {
        "since_seconds": int(params.since.total_seconds()),
        "max_memories": params.max_memories,
        "min_cluster_size": params.min_cluster_size,
        "kind": str(params.kind),
        "provider": provider.name,
        "model": provider.model,
    }


def _until(slot: Slot) -> datetime:
    # A CronJob's run is about the time that it was scheduled for, however late it runs.
    return slot.at if slot.origin == "cronjob" else datetime.now(UTC)


async def _reflect_within_budget(job: _Job, slot: Slot) -> Outcome:
    try:
        return await _reflect(job, slot)
    except BudgetExhausted as exhausted:
        if leaves_to_request():
            raise
        ended = await _end(job, exhausted.reason, f"{exhausted.message}; nothing is stored", {"project": job.params.project})
        return replace(ended, retry_after=exhausted.retry_after)


async def _reflect(job: _Job, slot: Slot) -> Outcome:
    run, params = job.run, job.params
    async with run.reading() as connection:
        memories = await _read(connection, job.tenant, params, _until(slot))
    run.counters["memories"] = len(memories)
    if len(memories) < params.min_cluster_size:
        return await _end(job, "TooFewMemories", _too_few(memories, params), {"project": params.project})
    themes = themes_of(memories, params.min_cluster_size)
    run.counters["themes"] = len(themes)
    digest = input_hash(job.tenant.id, params.project, (m.id for m in memories), params.kind, _model(job.provider))
    async with run.batch() as connection:
        claimed = await store.claim(connection, run, digest, CLAIM_SECONDS)
        known, before = (False, None) if claimed else await store.stored_reflection(connection, job.tenant.id, digest)
    if known:
        return await _end(
            job, "AlreadyReflected", "these memories have been reflected upon before", _stored_result(params, before)
        )
    if not claimed:
        raise RunLocked(
            "another run is reflecting upon the same memories", hint="its result will serve this request too; try again"
        )
    return await _write(job, themes, digest)


async def _write(job: _Job, themes: Sequence[Theme], digest: str) -> Outcome:
    run, params, provider = job.run, job.params, job.provider
    started = time.monotonic()
    try:
        draft = await provider.reflect(themes, params.kind)
    except BaseException:
        async with run.batch() as connection:
            await store.release(connection, run, digest)
        run.progressed = False
        raise
    seconds = time.monotonic() - started
    made = store.Generation(
        digest, provider.name, provider.model, seconds, cost_usd(job.price, draft.usage) if provider.paid else 0.0
    )
    add_usage(run.counters, draft.usage)
    run.counters.update(insights=len(draft.insights), rejected=sum(draft.rejected.values()))
    async with run.batch() as connection:
        if not draft.insights:
            await store.release(connection, run, digest)
            return await _end(
                job, "NoInsights", "the memories bear out no insight; nothing is stored", _causes(params, draft), connection
            )
        stored = await store.store(connection, run, draft, themes, params.kind, made)
        if stored is None:
            raise RunLocked("the claim on these memories lapsed and another run took it")
        result = {
            **_result(params, draft, made),
            "reflectionId": str(stored[0]),
            "memoryId": str(stored[1]) if stored[1] else None,
        }
        if job.notifies:
            await enqueue(connection, run, REFLECTION_CREATED, _event(params, draft, stored[0], run))
        message = f"{len(draft.insights)} insights from {run.counters['memories']} memories in {len(themes)} themes"
        return await _end(job, "Done", message, result, connection)


def _event(params: ReflectionParams, draft: ReflectionDraft, reflection_id: UUID, run: Run) -> dict[str, Any]:
    counts = {"memories": run.counters["memories"], "themes": run.counters["themes"], "insights": len(draft.insights)}
    return {"reflectionId": str(reflection_id), "kind": str(params.kind), "priority": store.priority(draft), **counts}


async def _end(job: _Job, reason: str, message: str, result: Mapping[str, Any], connection: Connection | None = None) -> Outcome:
    await job.run.finish(reason=reason, message=message, result=result, connection=connection)
    return Outcome(TASK, reason, message, dict(job.run.counters), result, run_ids=(str(job.run.id),))


async def preview(pool: Pool, provider: Provider, params: ReflectionParams, *, slot: Slot) -> Outcome:
    """What `generate_reflection` would do, in read-only transactions: a free provider's reflection, or a paid one's cost.

    Raises:
        BadDataError: no such tenant.
    """
    async with pool.acquire() as connection:
        async with connection.transaction(readonly=True):
            await require_schema(connection)
            tenant = await resolve_tenant(connection, params.tenant)
        async with tenant_transaction(connection, tenant.id, readonly=True):
            memories = await _read(connection, tenant, params, _until(slot))
    counters = {"memories": len(memories)}
    if len(memories) < params.min_cluster_size:
        return Outcome(TASK, "TooFewMemories", _too_few(memories, params), counters, {"project": params.project}, dry_run=True)
    themes = themes_of(memories, params.min_cluster_size)
    counters["themes"] = len(themes)
    if provider.paid:
        return _estimated(provider, params, themes, counters)
    draft = await provider.reflect(themes, params.kind)
    made = store.Generation("", provider.name, provider.model, 0.0, 0.0)
    message = f"would store {len(draft.insights)} insights from {len(memories)} memories in {len(themes)} themes"
    return Outcome(TASK, "DryRun", message, counters, _result(params, draft, made), dry_run=True)


def _estimated(provider: Provider, params: ReflectionParams, themes: Sequence[Theme], counters: dict[str, int]) -> Outcome:
    estimate = provider.estimate_reflection(themes)
    cost = "price unknown" if estimate.cost_usd is None else f"about {estimate.cost_usd:.4f} USD"
    tokens = estimate.prompt_tokens + estimate.completion_tokens
    result = {
        "project": params.project,
        "model": provider.model,
        "estimate": {
            "calls": estimate.calls,
            "promptTokens": estimate.prompt_tokens,
            "completionTokens": estimate.completion_tokens,
            "costUsd": None if estimate.cost_usd is None else round(estimate.cost_usd, 6),
        },
    }
    message = f"would reflect upon {len(themes)} themes in {estimate.calls} calls, about {tokens} tokens, {cost}"
    return Outcome(TASK, "DryRun", message, counters, result, dry_run=True)


async def _read(connection: Connection, tenant: Tenant, params: ReflectionParams, until: datetime) -> list[Memory]:
    span = (until - params.since, until)
    return await store.recent_memories(connection, tenant.id, params.project, *span, params.max_memories, params.kind)


def themes_of(memories: Sequence[Memory], min_size: int) -> list[Theme]:
    """The themes of the memories; where none is large enough, all of them as one, the most central first."""
    themes = find_themes(memories, min_size)
    if themes:
        return themes
    ordered = sorted(memories, key=lambda memory: memory.id)
    found = vectors([memory.content for memory in ordered])
    middle = centroid(found)
    ranked = sorted(zip(ordered, found, strict=True), key=lambda pair: (-cosine(pair[1], middle), pair[0].id))
    return [Theme((), tuple(memory for memory, _ in ranked))]


def _model(provider: Provider) -> str:
    return f"{provider.name}:{provider.model}"


def _too_few(memories: Sequence[Memory], params: ReflectionParams) -> str:
    hours = params.since.total_seconds() / 3600
    return (
        f"{len(memories)} episodic memories in the last {hours:g} h are fewer than {params.min_cluster_size}; nothing is stored"
    )


def _result(params: ReflectionParams, draft: ReflectionDraft, made: store.Generation) -> dict[str, Any]:
    scores = draft.scores
    return {
        "project": params.project,
        "reflection": {
            "summary": draft.summary,
            "key_insights": [insight.text for insight in draft.insights],
            "suggested_actions": list(draft.actions),
        },
        "insight_evidence": [
            {
                "memoryIds": [str(i) for i in insight.evidence],
                "confidence": insight.confidence,
                "singleSource": insight.single_source,
            }
            for insight in draft.insights
        ],
        "kind": str(params.kind),
        "model": made.model,
        "priority": store.priority(draft),
        "scores": {
            "score": round(scores.composite, 3),
            "novelty": scores.novelty,
            "importance": scores.importance,
            "utility": scores.utility,
            "confidence": scores.confidence,
        },
    }


def _stored_result(params: ReflectionParams, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The result of a reflection that was stored earlier; only the project when RAE has deleted it since."""
    if before is None:
        return {"project": params.project}
    metadata = before["metadata"] or {}
    insights = metadata.get("key_insights", [])
    return {
        "project": params.project,
        "reflection": {
            "summary": before["summary"],
            "key_insights": [insight["text"] for insight in insights],
            "suggested_actions": metadata.get("suggested_actions", []),
        },
        "insight_evidence": [
            {"memoryIds": insight["evidence"], "confidence": insight["confidence"], "singleSource": insight["single_source"]}
            for insight in insights
        ],
        "kind": str(params.kind),
        "priority": before["priority"],
        "reflectionId": str(before["id"]),
    }


def _causes(params: ReflectionParams, draft: ReflectionDraft) -> dict[str, Any]:
    return {"project": params.project, "rejected": dict(draft.rejected)}


def summarise(outcome: Outcome) -> dict[str, Any] | None:
    """The part of a result that fits a status: ids and counts, never text made from memories."""
    result = outcome.result
    if "reflectionId" not in result:
        return None
    return {
        "project": result["project"],
        "reflectionId": result["reflectionId"],
        "insights": len(result["reflection"]["key_insights"]),
        "priority": result["priority"],
    }
