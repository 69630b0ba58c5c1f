"""The task `decay`: for each tenant, strength or importance once for each day; with strength, then what has expired.

Exactly-once rests on the row: its watermark is the day up to which it has been decayed, and it moves in the statement that
changes the value. The ledger adds what the rows cannot know: that this occurrence has been done, and how far.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rae_jobctl.db.ledger import Run, RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.tenants import Tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.progress import Progress
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.decay.formulas import Formula, formula_of
from rae_jobctl.tasks.decay.params import DecayParams
from rae_jobctl.tasks.deletion import Audit, Deletion, delete_due
from rae_jobctl.tasks.fleet import chosen_tenants, for_each_tenant
from rae_jobctl.tasks.repeated import already_done
from rae_jobctl.tasks.vectors.outbox import delete_queued_vectors
from rae_jobctl.tasks.walk import Again, Due, Manner, Place, Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rae_jobctl.db.pool import Connection, Pool, Record

TASK = "decay"
_BUCKETS = [f"{low / 10:.1f}" for low in range(10)] + ["1.0"]

# The last day that a run of this tenant finished.
_LAST_DAY = """
SELECT max((result ->> 'day')::date)
FROM rae_jobs.task_runs
WHERE task = $2
  AND tenant_id = $1
  AND state = 'finished'
"""
_COUNT_EXPIRED = "SELECT count(*) FROM memories AS m WHERE {where}"


@dataclass(frozen=True)
class Occurrence:
    """Which run this is, and how it is to behave.

    Attributes:
        slot: the occurrence; its moment is also what `expires_at` is compared with.
        stop: asked between batches.
        wait: wait for locks.
    """

    slot: Slot
    stop: StopSignal
    wait: bool = False


def expired(moment: datetime) -> Deletion:
    """The memories whose time has passed; protected tags do not count, since each was given its own time on purpose."""
    due = Due("m.expires_at < $2", (moment,))
    return Deletion(due, Audit("", "expired"), "expired", Manner(sparse=True))


async def decay(pool: Pool, params: DecayParams, occurrence: Occurrence, *, tenant: str | None, dry_run: bool) -> Outcome:
    """Decay one tenant, or all that have memories.

    Args:
        pool: of the tasks' role.
        params: formula, day, rate, catch-up.
        occurrence: slot and stop.
        tenant: a UUID or name, or None for all.
        dry_run: read only; say what would change.

    Raises:
        BadDataError: no such tenant.
        TaskError: as `for_each_tenant` says.
    """
    tenants = await chosen_tenants(pool, tenant)

    async def work(one: Tenant) -> Outcome:
        formula = formula_of(params, params.rate_of(one))
        if dry_run:
            return await _preview(pool, params, formula, one)
        return await _decay_tenant(pool, params, formula, one, occurrence)

    return await for_each_tenant(TASK, tenants, work, occurrence.stop)


async def _decay_tenant(pool: Pool, params: DecayParams, formula: Formula, tenant: Tenant, occurrence: Occurrence) -> Outcome:
    key = RunKey(formula.task, tenant.id, occurrence.slot.key)
    about = {"day": params.day.isoformat(), "rate": formula.rate, "max_days": params.max_days}
    lock = Resource("memories", "exclusive")
    async with open_run(pool, key, resource=lock, arguments=about, stop=occurrence.stop, wait=occurrence.wait) as run:
        if run.already_finished is not None:
            return already_done(run)
        progress = Progress(None, "memories")
        fading = _Fading(run, formula, params, await _may_be_behind(run, params))
        await Walk(run, formula.due, fading.change, Manner(striped=True, again=Again.WHEN_MOVED), progress, occurrence.stop).all()
        if not params.importance:
            await delete_due(run, expired(params.at), progress, occurrence.stop)
            run.check_stop()
            await delete_queued_vectors(pool, tenant.id, occurrence.stop)
        return await _finish(run, params, formula)


@dataclass(frozen=True)
class _Fading:
    """What one run does to the rows of a batch; `behind`: count what is behind by more days than are made good."""

    run: Run
    formula: Formula
    params: DecayParams
    behind: bool

    async def change(self, connection: Connection, places: list[Place]) -> int:
        about, counters = (self.run.key.tenant_id, self.params.day), self.run.counters
        if self.behind:
            row = await connection.fetchrow(self.formula.lost, *about, self.params.max_days, places)
            assert row is not None
            counters["lostMemories"] = counters.get("lostMemories", 0) + row["memories"]
            counters["lostDays"] = max(counters.get("lostDays", 0), row["days"])
        tag = await connection.execute(self.formula.update, *about, *self.formula.arguments, places)
        count = int(tag.rsplit(" ", 1)[-1])
        counters["decayed"] = counters.get("decayed", 0) + count
        return count


async def _may_be_behind(run: Run, params: DecayParams) -> bool:
    """Whether rows may be behind by more days than are made good: not when the tenant's last run is recent."""
    async with run.reading() as connection:
        last = await connection.fetchval(_LAST_DAY, run.key.tenant_id, run.key.task)
    return last is None or bool(last < params.first_made_good())


async def _finish(run: Run, params: DecayParams, formula: Formula) -> Outcome:
    counters = _counters(params, run.counters.get("decayed", 0), run.counters.get("expired", 0))
    reason = "Done" if any(counters.values()) else "NothingToDo"
    message = f"{counters['decayed']} memories decayed through {params.day}"
    message += f", {counters['expired']} expired" if "expired" in counters else ""
    lost = {name: run.counters.get(name, 0) for name in ("lostMemories", "lostDays")}
    if lost["lostMemories"]:
        message += f"; {lost['lostMemories']} were up to {lost['lostDays']} days further behind, which are not made good"
    result = {"day": params.day.isoformat(), "rate": formula.rate, "of": formula.column, **lost}
    await run.finish(reason=reason, message=message, result=result)
    get_logger().info("memory_decay_finished", tenant_id=str(run.key.tenant_id), of=formula.column, **counters, **lost)
    return Outcome(TASK, reason=reason, message=message, counters=counters, result=result, run_ids=(str(run.id),))


def _counters(params: DecayParams, decayed: int, expired: int) -> dict[str, int]:
    return {"decayed": decayed} if params.importance else {"decayed": decayed, "expired": expired}


async def _preview(pool: Pool, params: DecayParams, formula: Formula, tenant: Tenant) -> Outcome:
    due = expired(params.at).due
    async with pool.acquire() as connection, tenant_transaction(connection, tenant.id, readonly=True):
        rows = await connection.fetch(formula.preview, tenant.id, params.day, *formula.arguments)
        gone = 0
        if not params.importance:
            gone = await connection.fetchval(_COUNT_EXPIRED.format(where=due.where), tenant.id, *due.arguments)
    counters = _counters(params, sum(row["memories"] for row in rows), gone)
    result = {
        "day": params.day.isoformat(),
        "rate": formula.rate,
        "of": formula.column,
        "daysBehind": max((row["days"] for row in rows), default=0),
        "lostMemories": sum(row["lost"] for row in rows),
        "strengths": _histogram(rows),
    }
    message = f"would decay the {formula.column} of {counters['decayed']} memories through {params.day}"
    message += f" and delete {gone} expired ones" if "expired" in counters else ""
    reason = "DryRun" if any(counters.values()) else "NothingToDo"
    return Outcome(TASK, reason=reason, message=message, counters=counters, result=result, dry_run=True)


def _histogram(rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Memories by tenth of strength or importance, before and after; those without one are left out."""
    before, after = [0] * 11, [0] * 11
    for row in rows:
        if row["before"] is not None:
            before[min(max(row["before"], 1), 11) - 1] += row["memories"]
            after[min(max(row["after"], 1), 11) - 1] += row["memories"]
    return [{"from": low, "before": b, "after": a} for low, b, a in zip(_BUCKETS, before, after, strict=True)]
