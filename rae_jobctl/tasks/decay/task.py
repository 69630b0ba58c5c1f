"""The task `decay`: for each tenant, strength once for each day, then the memories that have expired.

Exactly-once rests on the row: `decayed_through` is the day up to which it has been decayed, and it moves in the statement that
changes the strength. The ledger adds what the rows cannot know: that this occurrence has been done, and how far.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
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
from rae_jobctl.tasks.decay.params import DecayParams, Factors
from rae_jobctl.tasks.decay.statements import COUNT_EXPIRED, DELETE_EXPIRED, LAST_DAY, PREVIEW
from rae_jobctl.tasks.decay.walk import Walk
from rae_jobctl.tasks.deletion import BATCH, record_deletion
from rae_jobctl.tasks.fleet import chosen_tenants, for_each_tenant
from rae_jobctl.tasks.repeated import already_done

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rae_jobctl.db.pool import Pool, Record

TASK = "decay"
_BUCKETS = [f"{low / 10:.1f}" for low in range(10)] + ["1.0"]


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

    @property
    def at(self) -> datetime:
        """The moment, in UTC."""
        return self.slot.at


async def decay(pool: Pool, params: DecayParams, occurrence: Occurrence, *, tenant: str | None, dry_run: bool) -> Outcome:
    """Decay one tenant, or all that have memories.

    Args:
        pool: of the tasks' role.
        params: day, rate, catch-up.
        occurrence: slot and stop.
        tenant: a UUID or name, or None for all.
        dry_run: read only; say what would change.

    Raises:
        BadDataError: no such tenant.
        TaskError: as `for_each_tenant` says.
    """
    tenants = await chosen_tenants(pool, tenant)

    async def work(one: Tenant) -> Outcome:
        factors = Factors.of(params.rate_of(one), params.max_days)
        if dry_run:
            return await _preview(pool, params, factors, one, occurrence)
        return await _decay_tenant(pool, params, factors, one, occurrence)

    return await for_each_tenant(TASK, tenants, work, occurrence.stop)


async def _decay_tenant(pool: Pool, params: DecayParams, factors: Factors, tenant: Tenant, occurrence: Occurrence) -> Outcome:
    key = RunKey(TASK, tenant.id, occurrence.slot.key)
    about = {"day": params.day.isoformat(), "rate": factors.factors[0], "max_days": params.max_days}
    lock = Resource("memories", "exclusive")
    async with open_run(pool, key, resource=lock, arguments=about, stop=occurrence.stop, wait=occurrence.wait) as run:
        if run.already_finished is not None:
            return already_done(run)
        progress = Progress(None, "memories")
        behind = await _may_be_behind(run, params)
        await Walk(run, params.day, factors, progress, behind, occurrence.stop).all()
        await _delete_expired(run, occurrence.at, progress)
        return await _finish(run, params, factors)


async def _may_be_behind(run: Run, params: DecayParams) -> bool:
    """Whether rows may be behind by more days than are made good: not when the tenant's last run is recent."""
    async with run.reading() as connection:
        last = await connection.fetchval(LAST_DAY, run.key.tenant_id)
    return last is None or bool(last < params.day - timedelta(days=params.max_days))


async def _delete_expired(run: Run, moment: datetime, progress: Progress) -> None:
    while True:
        run.check_stop()
        async with run.batch() as connection:
            rows = await connection.fetch(DELETE_EXPIRED, run.key.tenant_id, moment, BATCH)
            await record_deletion(connection, run, [row["id"] for row in rows], data_class="memories", reason="expired")
            run.counters["expired"] = run.counters.get("expired", 0) + len(rows)
        progress.advance(len(rows))
        if len(rows) < BATCH:
            return


async def _finish(run: Run, params: DecayParams, factors: Factors) -> Outcome:
    counters = {"decayed": run.counters.get("decayed", 0), "expired": run.counters.get("expired", 0)}
    reason = "Done" if any(counters.values()) else "NothingToDo"
    message = f"{counters['decayed']} memories decayed through {params.day}, {counters['expired']} expired"
    lost = {name: run.counters.get(name, 0) for name in ("lostMemories", "lostDays")}
    if lost["lostMemories"]:
        message += f"; {lost['lostMemories']} were up to {lost['lostDays']} days further behind, which are not made good"
    result = {
        "day": params.day.isoformat(),
        "rate": factors.factors[0],
        **lost,
    }
    await run.finish(reason=reason, message=message, result=result)
    get_logger().info("memory_decay_finished", tenant_id=str(run.key.tenant_id), **counters, **lost)
    return Outcome(TASK, reason=reason, message=message, counters=counters, result=result, run_ids=(str(run.id),))


async def _preview(pool: Pool, params: DecayParams, factors: Factors, tenant: Tenant, occurrence: Occurrence) -> Outcome:
    async with pool.acquire() as connection, tenant_transaction(connection, tenant.id, readonly=True):
        rows = await connection.fetch(PREVIEW, tenant.id, params.day, factors.factors, factors.floors)
        expired = await connection.fetchval(COUNT_EXPIRED, tenant.id, occurrence.at)
    counters = {"decayed": sum(row["memories"] for row in rows), "expired": expired}
    result = {
        "day": params.day.isoformat(),
        "rate": factors.factors[0],
        "daysBehind": max((row["days"] for row in rows), default=0),
        "lostMemories": sum(row["lost"] for row in rows),
        "strengths": _histogram(rows),
    }
    message = f"would decay {counters['decayed']} memories through {params.day} and delete {expired} expired ones"
    reason = "DryRun" if any(counters.values()) else "NothingToDo"
    return Outcome(TASK, reason=reason, message=message, counters=counters, result=result, dry_run=True)


def _histogram(rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Memories by tenth of strength, before and after; those without a strength are left out."""
    before, after = [0] * 11, [0] * 11
    for row in rows:
        if row["before"] is not None:
            before[min(max(row["before"], 1), 11) - 1] += row["memories"]
            after[min(max(row["after"], 1), 11) - 1] += row["memories"]
    return [{"from": low, "before": b, "after": a} for low, b, a in zip(_BUCKETS, before, after, strict=True)]
