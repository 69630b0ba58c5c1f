"""process-graph-queue: for what waits for extraction, requests that name tenant, project and shard, never ids.

A request is a wish to work on a shard, not a list of memories, so one that fails or ends early holds up nothing: what still waits
is asked for by the next round. A round is a run of this task; its number, from the ledger, is in the requests' names, so that a
run that was killed and is run again makes none twice. Runs exclude each other, so that a shard has one live request at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rae_jobctl.db.ledger import Run, RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.db.pauses import Pausable, Pause, list_pauses, paused_by
from rae_jobctl.db.schema import require_schema
from rae_jobctl.db.tenants import ALL_TENANTS
from rae_jobctl.deadline import StopSignal
from rae_jobctl.llm.types import Estimate
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.metering.refusals import recent_refusals
from rae_jobctl.tasks.repeated import already_done
from rae_jobctl.tasks.scheduling.backlog import MOST_COUNTED, UNBOUNDED, Backlog, Estimator, estimate, read_backlogs
from rae_jobctl.tasks.scheduling.board import GROUP_LABEL, ROUND_LABEL, SHARD_LABEL, Board, Known, Wanted, group_of
from rae_jobctl.tasks.scheduling.refusals import Refusals, lowered

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool

TASK = "process-graph-queue"
KIND = "GraphExtractionRequest"
#: Entries of a result; all are counted.
MAX_SHOWN = 200

# Of the last runs: a retry may be the last that started, and have the number of an earlier round.
_LAST_ROUND = """
SELECT coalesce(max((counters ->> 'round')::bigint), 0)
FROM (
    SELECT counters
    FROM rae_jobs.task_runs
    WHERE tenant_id = $1 AND task = $2
    ORDER BY started_at DESC
    LIMIT 100
) AS last
"""


@dataclass(frozen=True)
class QueuePolicy:
    """How much is asked for at once.

    Attributes:
        max_shards: of one project, reached at MOST_COUNTED memories.
        max_requests: made by one run.
        limit: memories of one request.
        tries: as the extraction's: a dead memory waits no more.
    """

    max_shards: int = 8
    max_requests: int = 20
    limit: int = 1000
    tries: int = 3

    def after(self, refusals: int) -> QueuePolicy:
        """Less at once where the language model refused us lately."""
        return replace(self, max_shards=lowered(self.max_shards, refusals), max_requests=lowered(self.max_requests, refusals))


@dataclass(frozen=True)
class Plan:
    """What one round does.

    Attributes:
        wanted: requests to make now, of at most `policy.max_requests`.
        postponed: requests that are due beyond that.
        skipped: projects with something pending that get no request now, with the reason.
    """

    wanted: tuple[Wanted, ...]
    postponed: int
    skipped: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Seen:
    """What a round goes by."""

    backlogs: Sequence[Backlog]
    pauses: Sequence[Pause]
    known: Sequence[Known]
    refusals: int
    round: int


async def process_queue(
    pool: Pool,
    board: Board,
    policy: QueuePolicy,
    *,
    slot: Slot,
    stop: StopSignal,
    wait: bool = False,
    refusals: Refusals = recent_refusals,
) -> Outcome:
    """Make the requests that are due; a run of a slot that is done makes none.

    Raises:
        RunLocked: another run is at work.
        TransientError, ConfigError: as the board and the database say.
    """
    async with pool.acquire() as connection:
        await require_schema(connection)
    alone = Resource("queue", "exclusive")
    async with open_run(pool, RunKey(TASK, ALL_TENANTS, slot.key), resource=alone, stop=stop, wait=wait) as run:
        if run.already_finished is not None:
            return already_done(run)
        known = await board.known(KIND)
        number = await _round(run, known)
        async with run.reading() as reader:
            backlogs, pauses = await read_backlogs(reader, policy.tries), await list_pauses(reader, Pausable.QUEUE)
        seen = Seen(backlogs, pauses, known, await refusals(pool), number)
        now = plan(seen, policy)
        before = sum(one.round == number for one in known)
        made = before + sum([await board.create(one) for one in now.wanted])
        outcome = _outcome(seen, now, made, policy)
        run.counters.update(outcome.counters)
        await run.finish(reason=outcome.reason, message=outcome.message, result=outcome.result)
        return outcome.with_runs(str(run.id))


async def preview(
    pool: Pool, board: Board, policy: QueuePolicy, estimator: Estimator | None, *, refusals: Refusals = recent_refusals
) -> Outcome:
    """What `process_queue` would do, with all that waits counted and what it would cost, in read-only transactions.

    Args:
        estimator: of the provider that would extract, None when that is not known here.
    """
    known = await board.known(KIND)
    async with pool.acquire() as connection:
        async with connection.transaction(readonly=True):
            await require_schema(connection)
            backlogs = await read_backlogs(connection, policy.tries, UNBOUNDED)
            pauses = await list_pauses(connection, Pausable.QUEUE)
            number = await _next_round(connection, known)
        seen = Seen(backlogs, pauses, known, await refusals(pool), number)
        now = plan(seen, policy)
        outcome = _outcome(seen, now, None, policy)
        if estimator is None:
            return outcome
        return outcome.with_result(estimates=await _estimates(connection, seen, now, policy, estimator))


async def _round(run: Run, known: Sequence[Known]) -> int:
    """The number of this round; a later attempt has that of the first."""
    if run.cursor is None:
        async with run.batch() as connection:
            run.cursor = {"round": await _next_round(connection, known)}
            run.counters["round"] = run.cursor["round"]
    return int(run.cursor["round"])


async def _next_round(connection: Connection, known: Sequence[Known]) -> int:
    """Above all rounds before, also those of requests that outlived their run's row in the ledger."""
    last: int = await connection.fetchval(_LAST_ROUND, ALL_TENANTS, TASK)
    return max([last, *(one.round for one in known)]) + 1


def shards_for(waiting: int, most: int) -> int:
    """One for a small backlog, the most at MOST_COUNTED, in proportion between; none for none."""
    if not waiting:
        return 0
    return max(1, min(most, round(most * waiting / MOST_COUNTED)))


def plan(seen: Seen, policy: QueuePolicy) -> Plan:
    """The requests that are missing, one shard of every project before the second of any, so that none waits for a large one.

    Projects that were never asked for come first, then those that were asked for longest ago. What an earlier attempt of this
    round has made counts against the cap.
    """
    policy = policy.after(seen.refusals)
    live = _by_group(one for one in seen.known if not one.finished and one.shard is not None)
    due: list[tuple[int, Wanted]] = []
    skipped: list[Mapping[str, Any]] = []
    for backlog in _by_turn(seen.backlogs, seen.known):
        missing, reason = _missing(backlog, live.get(group_of(backlog.tenant_id, backlog.project), []), seen.pauses, policy)
        due += [(turn, _request(backlog, *share, seen.round, policy)) for turn, share in enumerate(missing)]
        if reason:
            skipped.append(_skip(backlog, reason))
    due.sort(key=lambda one: one[0])
    made = sum(one.round == seen.round for one in seen.known)
    wanted = [one for _, one in due[: max(0, policy.max_requests - made)]]
    late = {one.labels[GROUP_LABEL] for _, one in due} - {one.labels[GROUP_LABEL] for one in wanted}
    skipped += [_skip(b, "TooManyRequests") for b in seen.backlogs if group_of(b.tenant_id, b.project) in late]
    return Plan(tuple(wanted), len(due) - len(wanted), tuple(skipped))


def _missing(
    backlog: Backlog, live: Sequence[Known], pauses: Sequence[Pause], policy: QueuePolicy
) -> tuple[list[tuple[int, int]], str | None]:
    """The shares (number, of how many) that lack a request, and the reason when there are none.

    Requests at work on shares of an earlier, larger backlog count as well: what is in flight is enough then. A suspended one
    holds its share but is not at work.
    """
    if paused_by(pauses, backlog.tenant_id, backlog.project):
        return [], "Paused"
    shards = shards_for(backlog.waiting, policy.max_shards)
    if not shards:
        return [], "Held" if backlog.held else None
    taken = {one.shard for one in live}
    count = shards - sum(not one.suspended for one in live)
    free = [(shard, shards) for shard in range(shards) if shard not in taken][: max(0, count)]
    return free, None if free else "RequestLive"


def _by_group(known: Iterable[Known]) -> dict[str, list[Known]]:
    groups: dict[str, list[Known]] = {}
    for one in known:
        groups.setdefault(one.labels.get(GROUP_LABEL, ""), []).append(one)
    return groups


def _by_turn(backlogs: Sequence[Backlog], known: Iterable[Known]) -> list[Backlog]:
    """In the order of the last round in which each was asked for."""
    last = {group: max(one.round for one in requests) for group, requests in _by_group(known).items()}
    return sorted(backlogs, key=lambda backlog: last.get(group_of(backlog.tenant_id, backlog.project), 0))


def _request(backlog: Backlog, shard: int, shards: int, number: int, policy: QueuePolicy) -> Wanted:
    group = group_of(backlog.tenant_id, backlog.project)
    labels = {GROUP_LABEL: group, SHARD_LABEL: str(shard), ROUND_LABEL: str(number)}
    spec = {
        "tenantId": str(backlog.tenant_id),
        "project": backlog.project,
        "pending": True,
        "shard": shard,
        "shards": shards,
        "limit": policy.limit,
    }
    return Wanted(KIND, f"queue-{group}-{shard}-{number}", labels, spec)


def _skip(backlog: Backlog, reason: str) -> Mapping[str, Any]:
    return {
        "tenantId": str(backlog.tenant_id),
        "project": backlog.project,
        "reason": reason,
        "waiting": backlog.waiting,
        "held": backlog.held,
    }


def _outcome(seen: Seen, now: Plan, made: int | None, policy: QueuePolicy) -> Outcome:
    """The outcome of a round; of a dry run when nothing was made."""
    dry_run = made is None
    reasons = Counter(entry["reason"] for entry in now.skipped)
    counters = {
        "round": seen.round,
        "memories": sum(backlog.waiting for backlog in seen.backlogs),
        "projects": sum(backlog.waiting > 0 for backlog in seen.backlogs),
        "scheduled": len(now.wanted) if made is None else made,
        "live": sum(not one.finished for one in seen.known),
        "postponed": now.postponed,
        "skipped": len(now.skipped),
        "refusals": seen.refusals,
    }
    get_logger().info("graph_queue_processed", dry_run=dry_run, **counters, skipped_because=dict(reasons))
    result = {
        "requests": [{"name": one.name, **dict(one.spec)} for one in now.wanted[:MAX_SHOWN]],
        "skipped": list(now.skipped[:MAX_SHOWN]),
    }
    reason = "DryRun" if dry_run else "Done" if counters["scheduled"] else "Paused" if _all_paused(reasons) else "NothingToDo"
    return Outcome(TASK, reason, _message(counters, reasons, dry_run, policy), counters, result, dry_run=dry_run)


def _all_paused(reasons: Counter[str]) -> bool:
    return bool(reasons) and set(reasons) <= {"Paused", "Held"} and "Paused" in reasons


def _message(counters: Mapping[str, int], reasons: Counter[str], dry_run: bool, policy: QueuePolicy) -> str:
    verb = "due" if dry_run else "made"
    parts = [f"{counters['scheduled']} requests {verb} for {counters['memories']} waiting memories"]
    if reasons:
        parts.append("skipped " + ", ".join(f"{count} ({reason})" for reason, count in sorted(reasons.items())))
    if counters["refusals"]:
        less = policy.after(counters["refusals"])
        parts.append(f"after {counters['refusals']} refusals of the model at most {less.max_shards} shares of a project")
    return "; ".join(parts)


async def _estimates(
    connection: Connection, seen: Seen, now: Plan, policy: QueuePolicy, estimator: Estimator
) -> list[Mapping[str, Any]]:
    """By tenant and project: what this round's requests would cost, and what all that waits would."""
    asked = Counter(one.labels[GROUP_LABEL] for one in now.wanted)
    found = []
    for backlog in seen.backlogs:
        if backlog.waiting:
            requests = asked[group_of(backlog.tenant_id, backlog.project)]
            cost = await estimate(connection, backlog, estimator)
            found.append(_estimated(backlog, requests, cost, policy))
    return found


def _estimated(backlog: Backlog, requests: int, cost: Callable[[int], Estimate], policy: QueuePolicy) -> Mapping[str, Any]:
    now = min(backlog.waiting, requests * policy.limit)
    return {
        "tenantId": str(backlog.tenant_id),
        "project": backlog.project,
        "requests": requests,
        "now": _as_json(now, cost(now)),
        "backlog": _as_json(backlog.waiting, cost(backlog.waiting)),
    }


def _as_json(memories: int, cost: Estimate) -> Mapping[str, Any]:
    return {
        "memories": memories,
        "calls": cost.calls,
        "promptTokens": cost.prompt_tokens,
        "completionTokens": cost.completion_tokens,
        "costUsd": None if cost.cost_usd is None else round(cost.cost_usd, 6),
    }
