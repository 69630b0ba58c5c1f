"""The flow of an extraction: select or claim, call the model for several batches at once, store each batch as it comes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.db.ledger import Run, RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.schema import require_schema
from rae_jobctl.db.tenants import Tenant, resolve_tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BadDataError, BudgetExhausted, SoftLimitReached
from rae_jobctl.llm.types import Extraction, Memory, Provider, Triple
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.progress import Progress
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.extraction import selection
from rae_jobctl.tasks.extraction.gate import has_content
from rae_jobctl.tasks.extraction.params import ExtractionParams
from rae_jobctl.tasks.extraction.store import Origin, as_json, fail, store
from rae_jobctl.tasks.metering.meter import leaves_to_request, metered
from rae_jobctl.tasks.metering.settings import NO_LIMITS, LimitSettings
from rae_jobctl.tasks.repeated import already_done
from rae_jobctl.tasks.usage import add_usage

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

TASK = "extract-graph"
#: Triples that a result shows; all are in the graph.
MAX_SHOWN = 200
_FEWEST_SPARE_WORKERS = 2
#: USD per million prompt, cached and completion tokens.
Price = tuple[float, float, float] | None


@dataclass(frozen=True)
class _Work:
    """What one worker takes: memories, and the lease on them where they come from the queue."""

    memories: tuple[Memory, ...]
    lease: UUID | None = None


@dataclass(eq=False)
class _Answer:
    """What came of one worker's memories, until it is stored.

    Attributes:
        kept: the triples above the threshold.
        without_content: memories that cost no call.
    """

    work: _Work
    extraction: Extraction
    kept: tuple[Triple, ...]
    without_content: int


@dataclass
class _Job:
    """One extraction on its way."""

    pool: Pool
    provider: Provider
    params: ExtractionParams
    tenant: Tenant
    run: Run
    stop: StopSignal
    progress: Progress
    calling: asyncio.Semaphore
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    answers: list[_Answer] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    claimed: int = 0
    place: selection.Place | None = None
    failure: BaseException | None = None

    @property
    def ending(self) -> bool:
        """Whether no further call may begin."""
        return self.failure is not None or self.stop.should_stop

    def count(self, **counts: int) -> None:
        for name, value in counts.items():
            self.run.counters[name] = self.run.counters.get(name, 0) + value


async def extract_graph(
    pool: Pool,
    provider: Provider,
    params: ExtractionParams,
    *,
    slot: Slot,
    stop: StopSignal,
    price: Price = None,
    limits: LimitSettings = NO_LIMITS,
    wait: bool = False,
) -> Outcome:
    """Extract, store and mark; or, with `params.store` off, extract and report.

    Raises:
        BadDataError: no such tenant, none of the ids named exists, or no memory could be extracted.
        TransientError: the model or the database is away; what was committed stays.
        BudgetExhausted: the same, for a request; without one the run ends, and that is its reason.
        TimeSliced, SoftLimitReached: the soft limit or a signal came.
    """
    async with pool.acquire() as connection:
        await require_schema(connection)
        tenant = await resolve_tenant(connection, params.tenant)
    key = RunKey(TASK, tenant.id, slot.key, params.project, params.shard)
    resource = [Resource("graph", "shared")] if params.store else []
    about = _arguments(params, provider)
    async with open_run(pool, key, resource=resource, arguments=about, stop=stop, wait=wait) as run:
        if run.already_finished is not None:
            return already_done(run)
        get_logger().info("graph_extraction_started", tenant_id=str(tenant.id), project_id=params.project, **about)
        async with metered(pool, provider, run, tenant, price, limits, stop) as paying:
            calling = asyncio.Semaphore(_under_way(provider))
            job = _Job(pool, paying, params, tenant, run, stop, Progress(None, "memories"), calling)
            job.claimed = run.counters.get("memories", 0) if params.pending else 0
            try:
                await _extract_all(job)
            except BudgetExhausted as exhausted:
                if leaves_to_request():
                    raise
                return await _end_early(job, exhausted)
            return await _finish(job)


def _arguments(params: ExtractionParams, provider: Provider) -> dict[str, Any]:
    return {
        "memory_ids": len(params.memory_ids),
        "limit": params.limit,
        "pending": params.pending,
        "shards": params.shards,
        "min_confidence": params.min_confidence,
        "store": params.store,
        "provider": provider.name,
        "model": provider.model,
    }


async def _extract_all(job: _Job) -> None:
    queue: deque[_Work] = deque() if job.params.pending else await _select(job)
    job.run.progressed = False
    # More workers than calls: while those wait for the model, the next work is claimed.
    spare = max(_FEWEST_SPARE_WORKERS, job.provider.concurrency // 2)
    workers = [_worker(job, queue) for _ in range(_under_way(job.provider) + spare)]
    await asyncio.gather(*workers)
    if isinstance(job.failure, SoftLimitReached):
        # Stopped while it waited for its turn: a slice, if anything was committed.
        job.run.check_stop()
    if job.failure is not None:
        raise job.failure
    if queue or (job.stop.should_stop and job.params.pending and job.claimed < job.params.limit):
        job.run.check_stop()


def _under_way(provider: Provider) -> int:
    """How many batches may be booked, called or stored at once: a quarter more than calls, which the provider itself bounds."""
    return provider.concurrency + provider.concurrency // 4


async def _select(job: _Job) -> deque[_Work]:
    """The memories still to do: a first attempt chooses and writes its choice down, a later one goes on with it."""
    run, params = job.run, job.params
    if run.cursor is None:
        async with run.batch() as connection:
            ids = await selection.select_ids(connection, job.tenant.id, params)
            found = await selection.load(connection, job.tenant.id, params.project, ids)
            job.count(memories=len(found.fresh) + len(found.extracted), notFound=len(found.missing))
            job.count(alreadyExtracted=len(found.extracted))
            _require_any(run, params)
            run.cursor = {"todo": [str(memory.id) for memory in found.fresh]}
    else:
        async with run.reading() as connection:
            ids = [UUID(text) for text in run.cursor["todo"]]
            found = await selection.load(connection, job.tenant.id, params.project, ids)
    job.progress.total = len(found.fresh)
    size = job.provider.batch_size
    return deque(_Work(found.fresh[i : i + size]) for i in range(0, len(found.fresh), size))


def _require_any(run: Run, params: ExtractionParams) -> None:
    """Refuse a choice of nothing; within the batch that would write it down, so that a later attempt looks again."""
    if params.memory_ids and run.counters.get("notFound", 0) == len(set(params.memory_ids)):
        raise BadDataError(
            f"none of the {len(set(params.memory_ids))} memories named is in project {params.project!r} of this tenant",
            reason="MemoriesNotFound",
            hint="check the ids, --tenant and --project",
        )


async def _worker(job: _Job, queue: deque[_Work]) -> None:
    """Take work until there is none, a stop is asked for, or another worker failed; what is under way ends first."""
    try:
        while not job.ending:
            work = await _next(job, queue)
            if work is None:
                return
            if not await _do(job, work):
                queue.appendleft(work)
    except Exception as error:
        job.failure = job.failure or error


async def _next(job: _Job, queue: deque[_Work]) -> _Work | None:
    if not job.params.pending:
        return queue.popleft() if queue else None
    count = min(job.provider.batch_size, job.params.limit - job.claimed)
    if count <= 0:
        return None
    job.claimed += count
    # On a connection of its own: the lease must stand before the call, whatever becomes of the run.
    async with job.pool.acquire() as connection, tenant_transaction(connection, job.tenant.id):
        # A lease is seen at once and need not outlive the server: the commit of its answer would make it durable as well.
        await connection.execute("SET LOCAL synchronous_commit = off")
        claim = await selection.claim(connection, job.tenant.id, job.params, count, job.place)
        found = await selection.load(connection, job.tenant.id, job.params.project, claim.ids)
    job.place = claim.place
    job.claimed -= count - len(claim.ids)
    job.count(memories=len(found.fresh) + len(found.extracted))
    memories = (*found.fresh, *(Memory(i, "") for i in found.extracted))
    return _Work(memories, claim.token) if claim.ids else None


async def _do(job: _Job, work: _Work) -> bool:
    """Extract and store; False when the end came before the call."""
    worth = [memory for memory in work.memories if has_content(memory.content)]
    # Held until the answer is stored, so that a kill costs a bounded number of answers.
    async with job.calling:
        if job.ending:
            await _give_back(job, work)
            return False
        try:
            extraction = await job.provider.extract(worth) if worth else Extraction()
        except BaseException:
            await _give_back(job, work)
            raise
        kept = tuple(triple for triple in extraction.triples if triple.confidence >= job.params.min_confidence)
        await _keep_soon(job, _Answer(work, extraction, kept, len(work.memories) - len(worth)))
    job.progress.advance(len(work.memories) - len(extraction.unasked))
    if extraction.stopped is not None:
        await _give_back(job, work)
        raise extraction.stopped
    return True


async def _keep_soon(job: _Job, answer: _Answer) -> None:
    """Store an answer together with all that came while the one before was stored: one commit, one upsert for them all."""
    job.answers.append(answer)
    async with job.writing:
        if answer not in job.answers:
            return
        group = job.answers[:]
        try:
            await _keep(job, group)
        except Exception:
            # The fault may be another's; that one then meets it alone.
            if len(group) == 1:
                raise
            group = [answer]
            await _keep(job, group)
        finally:
            job.answers = [other for other in job.answers if other not in group]


async def _give_back(job: _Job, work: _Work) -> None:
    if work.lease is None:
        return
    async with job.pool.acquire() as connection, tenant_transaction(connection, job.tenant.id):
        await selection.release(connection, job.tenant.id, work.lease)


async def _keep(job: _Job, answers: Sequence[_Answer]) -> None:
    """Store answers, their marks, failures, cursor and counters: all of it or nothing."""
    run, params, tenant = job.run, job.params, job.tenant
    extraction = sum((answer.extraction for answer in answers), Extraction())
    kept = [triple for answer in answers for triple in answer.kept]
    asked = [m.id for answer in answers for m in answer.work.memories if m.id not in answer.extraction.unasked]
    done = [memory for memory in asked if memory not in extraction.failed]
    async with run.batch() as connection:
        job.count(failed=len(extraction.failed), lowConfidence=len(extraction.triples) - len(kept))
        job.count(rejected=sum(extraction.rejected.values()), withoutContent=sum(a.without_content for a in answers))
        add_usage(run.counters, extraction.usage)
        if params.store:
            origin = Origin(f"rae-jobctl/{job.provider.name}", job.provider.model)
            leases = [answer.work.lease for answer in answers if answer.work.lease is not None]
            stored = await store(connection, tenant.id, params.project, done, kept, origin, leases)
            dead = await fail(connection, tenant.id, params.project, extraction.failed, params.tries)
            job.count(extracted=len(stored.memories), triples=len(stored.triples), dead=dead)
            job.count(nodesCreated=stored.nodes_created, edgesCreated=stored.edges_created, edgesUpdated=stored.edges_updated)
            kept = list(stored.triples)
        else:
            job.count(extracted=len(done), triples=len(kept))
        _move(run, asked)
    job.shown += [as_json(triple) for triple in kept[: MAX_SHOWN - len(job.shown)]]
    get_logger().debug("graph_extraction_batch", memories=len(done), failed=len(extraction.failed), triples=len(kept))


def _move(run: Run, done: Sequence[UUID]) -> None:
    if run.cursor is not None:
        left = {str(memory) for memory in done}
        run.cursor = {**run.cursor, "todo": [text for text in run.cursor["todo"] if text not in left]}


async def _end_early(job: _Job, exhausted: BudgetExhausted) -> Outcome:
    """The end of a run that nobody repeats: what it did not come to goes on waiting for the next one."""
    counters = _counters(job.run)
    done = f"{counters.get('triples', 0)} triples from {counters.get('extracted', 0)} memories before that"
    outcome = await _close(job, exhausted.reason, f"{exhausted.message}; {done}", counters)
    return replace(outcome, retry_after=exhausted.retry_after)


async def _finish(job: _Job) -> Outcome:
    counters = _counters(job.run)
    failed, extracted = counters.get("failed", 0), counters.get("extracted", 0)
    if failed and not extracted:
        raise BadDataError(
            f"none of {failed} memories could be extracted",
            reason="ExtractionFailed",
            hint="rae_jobs.extraction_state.last_error has the reason of each",
        )
    return await _close(job, *_verdict(job, counters), counters)


def _counters(run: Run) -> dict[str, int]:
    return {name: value for name, value in run.counters.items() if value or name in ("memories", "triples")}


async def _close(job: _Job, reason: str, message: str, counters: dict[str, int]) -> Outcome:
    result = {"project": job.params.project, "stored": job.params.store, "model": job.provider.model, "triples": job.shown}
    await job.run.finish(reason=reason, message=message, result=result)
    get_logger().info("graph_extraction_finished", reason=reason, **counters)
    return Outcome(TASK, reason, message, counters, result, run_ids=(str(job.run.id),))


def _verdict(job: _Job, counters: dict[str, int]) -> tuple[str, str]:
    if not counters.get("memories"):
        return "NothingToDo", f"no memory of project {job.params.project!r} waits for extraction"
    if not counters.get("extracted") and counters.get("alreadyExtracted"):
        return "NothingToDo", f"all {counters['memories']} memories were extracted before"
    where = "stored" if job.params.store else "found"
    message = f"{counters.get('triples', 0)} triples {where} from {counters.get('extracted', 0)} memories"
    if counters.get("failed"):
        return "PartlyDone", f"{message}; {counters['failed']} memories failed"
    return "Done", message


async def preview(pool: Pool, provider: Provider, params: ExtractionParams) -> Outcome:
    """What `extract_graph` would do, in read-only transactions: with a free provider its triples, with a paid one the cost.

    Raises:
        BadDataError: as extract_graph.
    """
    async with pool.acquire() as connection:
        async with connection.transaction(readonly=True):
            await require_schema(connection)
            tenant = await resolve_tenant(connection, params.tenant)
        async with tenant_transaction(connection, tenant.id, readonly=True):
            ids = await selection.select_ids(connection, tenant.id, params)
            found = await selection.load(connection, tenant.id, params.project, ids)
    worth = [memory for memory in found.fresh if has_content(memory.content)]
    counters = {
        "memories": len(found.fresh) + len(found.extracted),
        "alreadyExtracted": len(found.extracted),
        "notFound": len(found.missing),
        "withoutContent": len(found.fresh) - len(worth),
    }
    if provider.paid:
        return _estimated(provider, params, worth, counters)
    extraction = await provider.extract(worth)
    kept = [triple for triple in extraction.triples if triple.confidence >= params.min_confidence]
    counters |= {"triples": len(kept), "failed": len(extraction.failed), "rejected": sum(extraction.rejected.values())}
    result = {
        "project": params.project,
        "stored": False,
        "model": provider.model,
        "triples": [as_json(t) for t in kept[:MAX_SHOWN]],
    }
    message = f"would store {len(kept)} triples from {len(found.fresh)} memories"
    return Outcome(TASK, "DryRun", message, counters, result, dry_run=True)


def _estimated(provider: Provider, params: ExtractionParams, worth: Sequence[Memory], counters: dict[str, int]) -> Outcome:
    estimate = provider.estimate_extraction(worth)
    result = {
        "project": params.project,
        "stored": False,
        "model": provider.model,
        "estimate": {
            "calls": estimate.calls,
            "promptTokens": estimate.prompt_tokens,
            "completionTokens": estimate.completion_tokens,
            "costUsd": None if estimate.cost_usd is None else round(estimate.cost_usd, 6),
        },
    }
    cost = "price unknown" if estimate.cost_usd is None else f"about {estimate.cost_usd:.4f} USD"
    tokens = estimate.prompt_tokens + estimate.completion_tokens
    message = f"would send {len(worth)} memories in {estimate.calls} calls, about {tokens} tokens, {cost}"
    return Outcome(TASK, "DryRun", message, counters, result, dry_run=True)


def summarise(outcome: Outcome) -> dict[str, Any] | None:
    """The part of a result that fits a status: names of the first triples, never text of a memory."""
    triples = outcome.result.get("triples")
    if not triples:
        return None
    first = [f"{t['subject'][:60]} {t['predicate'][:60]} {t['object'][:60]}" for t in triples[:3]]
    return {"project": outcome.result["project"], "triples": outcome.counters.get("triples", 0), "first": first}
