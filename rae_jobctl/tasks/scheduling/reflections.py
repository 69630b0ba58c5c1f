"""schedule-reflections: reflection requests for projects with activity since the last run, none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.db.ledger import Run, RunKey, open_run
from rae_jobctl.db.pauses import Pausable, Pause, list_pauses, paused_by
from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.schema import require_schema
from rae_jobctl.db.tenants import ALL_TENANTS, list_tenants
from rae_jobctl.deadline import StopSignal
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.repeated import already_done
from rae_jobctl.tasks.scheduling.board import GROUP_LABEL, Board, Wanted, group_of
from rae_jobctl.tasks.webhooks.outbox import deliver
from rae_jobctl.webhooks.settings import WebhookSettings

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool

TASK = "schedule-reflections"
KIND = "ReflectionRequest"
#: Runs that were missed for longer than this are not made up for.
LONGEST_GAP = timedelta(days=7)
#: A memory is seen once its transaction has committed, and that may be after a run that looked beyond its created_at.
OVERLAP = timedelta(minutes=5)
#: Reasons that pass: the project is looked at again though nothing new comes.
DEFERRING = ("CoolDown", "Paused", "RequestLive", "TooManyRequests")

_LAST = """
SELECT result ->> 'until' AS until, coalesce(result -> 'deferred', '[]'::jsonb) AS deferred
FROM rae_jobs.task_runs
WHERE task = $1
  AND tenant_id = $2
  AND state = 'finished'
  AND result ? 'until'
ORDER BY result ->> 'until' DESC
LIMIT 1
"""

# The memories that the reflection would read, not only the new ones, say whether there are enough.
_ACTIVE = """
SELECT m.project, count(*) AS memories, max(m.created_at) AS newest, (
    SELECT max(r.created_at)
    FROM reflections AS r
    WHERE r.tenant_id = $1
      AND r.project = m.project
) AS reflected
FROM memories AS m
WHERE m.tenant_id = $1
  AND m.layer = 'episodic'
  AND m.project IS NOT NULL
  AND m.created_at > $3
  AND m.created_at <= $4
GROUP BY m.project
HAVING max(m.created_at) > $2 OR m.project = ANY ($5::text[])
ORDER BY m.project
"""


@dataclass(frozen=True)
class ReflectionPolicy:
    """When a project is worth a reflection.

    Attributes:
        window: how far back the requested reflection reads.
        cool_down: time after a reflection during which no other is asked for.
        min_memories: in the window.
        max_memories: read by one reflection.
        max_requests: made by one run.
    """

    window: timedelta = timedelta(hours=24)
    cool_down: timedelta = timedelta(hours=1)
    min_memories: int = 3
    max_memories: int = 50
    max_requests: int = 100


@dataclass(frozen=True)
class Activity:
    """A project with new episodic memories.

    Attributes:
        memories: in the policy's window.
        newest: when the last of them was made.
        reflected: when the project was reflected upon last, None if never.
    """

    tenant_id: UUID
    project: str
    memories: int
    newest: datetime
    reflected: datetime | None


@dataclass(frozen=True)
class Since:
    """What the last finished run left to this one.

    Attributes:
        moment: memories made after it are new.
        deferred: projects with new memories that it left for later, and since when they have waited.
    """

    moment: datetime
    deferred: Mapping[tuple[UUID, str], datetime] = field(default_factory=dict)

    def projects(self, tenant_id: UUID) -> list[str]:
        """The deferred ones of a tenant."""
        return [project for tenant, project in self.deferred if tenant == tenant_id]

    def waiting(self, activity: Activity, now: datetime) -> datetime:
        """Since when a project has been put off; now when it was not."""
        return self.deferred.get((activity.tenant_id, activity.project), now)


async def schedule_reflections(
    pool: Pool,
    board: Board,
    policy: ReflectionPolicy,
    *,
    slot: Slot,
    stop: StopSignal,
    dry_run: bool,
    wait: bool = False,
    webhook: WebhookSettings | None = None,
) -> Outcome:
    """Make the requests that are due, and say of each project that was active why it got none.

    The ledger keeps up to when the last finished run looked, so that a missed run's hour is looked at by the next one, and what
    that run left for later, so that new memories which came within a cool-down are reflected upon after it. Afterwards the
    notifications that reflections left behind are delivered.

    Args:
        webhook: whom to notify; None notifies nobody.
    """
    until = slot.at if slot.origin == "cronjob" else datetime.now(UTC)
    if dry_run:
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            await require_schema(connection)
            since = await _since(connection, until)
        return await _schedule(pool, board, policy, since, until, dry_run=True)
    async with pool.acquire() as connection:
        await require_schema(connection)
    async with open_run(pool, RunKey(TASK, ALL_TENANTS, slot.key), stop=stop, wait=wait) as run:
        outcome = already_done(run) if run.already_finished is not None else await _run(run, pool, board, policy, until)
    return outcome.with_counters(**(await deliver(pool, webhook, stop)).counters)


async def _run(run: Run, pool: Pool, board: Board, policy: ReflectionPolicy, until: datetime) -> Outcome:
    async with run.reading() as reader:
        since = await _since(reader, until)
    outcome = await _schedule(pool, board, policy, since, until, dry_run=False)
    run.counters.update(outcome.counters)
    await run.finish(reason=outcome.reason, message=outcome.message, result=outcome.result)
    return outcome


async def _since(connection: Connection, until: datetime) -> Since:
    last = await connection.fetchrow(_LAST, TASK, ALL_TENANTS)
    hour_ago = until - timedelta(hours=1)
    if last is None:
        return Since(hour_ago)
    moment = max(min(datetime.fromisoformat(last["until"]), hour_ago) - OVERLAP, until - LONGEST_GAP)
    waited = {(UUID(d["tenantId"]), d["project"]): datetime.fromisoformat(d["since"]) for d in last["deferred"]}
    return Since(moment, waited)


async def _schedule(
    pool: Pool, board: Board, policy: ReflectionPolicy, since: Since, until: datetime, *, dry_run: bool
) -> Outcome:
    active, pauses = await read_activity(pool, policy, since, until)
    live = {one.labels.get(GROUP_LABEL) for one in await board.known(KIND) if not one.finished}
    skipped: list[dict[str, Any]] = []
    wanted: list[Wanted] = []
    deferred: list[dict[str, Any]] = []
    # What has waited longest comes first, so that no project is put off for ever where many are active.
    for activity in sorted(active, key=lambda one: since.waiting(one, until)):
        reason = "Paused" if paused_by(pauses, activity.tenant_id, activity.project) else why_not(activity, policy, until, live)
        if reason is None and len(wanted) >= policy.max_requests:
            reason = "TooManyRequests"
        if reason is None:
            wanted.append(_request(activity, policy, until))
        else:
            about = {"tenantId": str(activity.tenant_id), "project": activity.project}
            skipped.append({**about, "reason": reason})
            if reason in DEFERRING:
                deferred.append({**about, "since": since.waiting(activity, until).isoformat()})
    made = 0 if dry_run else sum([await board.create(one) for one in wanted])
    return _outcome(active, wanted, skipped, made, until, dry_run).with_result(deferred=deferred)


def _outcome(
    active: Sequence[Activity],
    wanted: Sequence[Wanted],
    skipped: Sequence[dict[str, Any]],
    made: int,
    until: datetime,
    dry_run: bool,
) -> Outcome:
    counters = {"projects": len(active), "scheduled": len(wanted) if dry_run else made, "skipped": len(skipped)}
    get_logger().info("reflections_scheduled", dry_run=dry_run, **counters, **Counter(entry["reason"] for entry in skipped))
    result = {
        "until": until.astimezone(UTC).isoformat(),
        "requests": [{"name": one.name, **dict(one.spec)} for one in wanted],
        "skipped": list(skipped[:200]),
    }
    reason = "DryRun" if dry_run else "Done" if made else "NothingToDo"
    message = f"{counters['scheduled']} requests {'due' if dry_run else 'made'} for {len(active)} active projects"
    return Outcome(TASK, reason, message, counters, result, dry_run=dry_run)


async def read_activity(
    pool: Pool, policy: ReflectionPolicy, since: Since, until: datetime
) -> tuple[list[Activity], list[Pause]]:
    """Projects of all tenants with new episodic memories, those that the last run deferred included, and what is paused."""
    found: list[Activity] = []
    begin = min(since.moment, until - policy.window)
    async with pool.acquire() as connection:
        async with connection.transaction(readonly=True):
            tenants = await list_tenants(connection)
            pauses = await list_pauses(connection, Pausable.REFLECTIONS)
        for tenant in tenants:
            async with tenant_transaction(connection, tenant.id, readonly=True):
                rows = await connection.fetch(_ACTIVE, tenant.id, since.moment, begin, until, since.projects(tenant.id))
            found += [Activity(tenant.id, r["project"], r["memories"], r["newest"], r["reflected"]) for r in rows]
    return found, pauses


def why_not(activity: Activity, policy: ReflectionPolicy, now: datetime, live: set[str | None]) -> str | None:
    """The reason for which a project gets no request, None when it is due."""
    if group_of(activity.tenant_id, activity.project) in live:
        return "RequestLive"
    if activity.memories < policy.min_memories:
        return "TooFewMemories"
    if activity.reflected is None:
        return None
    if activity.reflected >= activity.newest:
        return "NothingNew"
    return "CoolDown" if now - activity.reflected < policy.cool_down else None


def _request(activity: Activity, policy: ReflectionPolicy, until: datetime) -> Wanted:
    group = group_of(activity.tenant_id, activity.project)
    spec = {
        "tenantId": str(activity.tenant_id),
        "project": activity.project,
        "since": f"{max(1, round(policy.window.total_seconds() / 3600))}h",
        "maxMemories": policy.max_memories,
        "minClusterSize": policy.min_memories,
    }
    return Wanted(KIND, f"reflect-{group}-{until.astimezone(UTC):%Y%m%d%H%M}", {GROUP_LABEL: group}, spec)
