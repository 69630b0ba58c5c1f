"""Days of decay that were missed beyond what a run makes good, applied on purpose and once.

The ledger says which they are: a run that came too late counted the days it did not make good. A row has missed those of them
that came after its own day. Nothing in a row tells that it has had a missed day made good, so exactly-once rests on the key: rows
are taken in the order of their ids, which do not change, and the last id moves in the transaction of its batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.db.ledger import Run, RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.tenants import Tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BadDataError
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.progress import Progress
from rae_jobctl.tasks.decay.formulas import FORGOTTEN
from rae_jobctl.tasks.decay.params import DecayParams
from rae_jobctl.tasks.fleet import chosen_tenants, for_each_tenant
from rae_jobctl.tasks.repeated import already_done

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool, Record

TASK = "backfill-decay"
_BATCH = 2000
#: A smaller factor leaves nothing of any strength, and a product with it may underflow, which PostgreSQL refuses.
_LEAST_FACTOR = 1e-200

# Runs of decay that changed something, with what they did not make good; then what backfills did.
_RUNS = """
SELECT state = 'finished' AS finished, created_at, finished_at, (arguments ->> 'day')::date AS day,
       (arguments ->> 'max_days')::integer AS made_good, coalesce((counters ->> 'lostDays')::integer, 0) AS lost
FROM rae_jobs.task_runs
WHERE tenant_id = $1 AND task = 'decay' AND (counters ->> 'decayed')::bigint > 0
"""
_BACKFILLED = """
SELECT slot, state, CASE WHEN state = 'finished' THEN result -> 'days' ELSE cursor -> 'days' END AS days
FROM rae_jobs.task_runs
WHERE tenant_id = $1 AND task = 'backfill-decay' AND slot <> $2
"""
_IDS = """
SELECT id
FROM memories
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id > $2)
ORDER BY id
LIMIT $3
"""
# How many of the days came after the row's own; one without a date was there before them all. $3 factors by that number.
_MISSED = "cardinality($2::date[]) - coalesce(width_bucket((m.created_at AT TIME ZONE 'UTC')::date, $2::date[]), 0)"
_APPLY = f"""
UPDATE memories AS m
SET strength = CASE WHEN abs(m.strength * ($3::float8[])[{_MISSED}]) < $4 THEN 0 ELSE m.strength * ($3::float8[])[{_MISSED}] END
WHERE m.tenant_id = $1 AND m.id = ANY ($5) AND {_MISSED} > 0 AND abs(m.strength) > $4
"""  # noqa: S608
_COUNT = f"SELECT count(*) FROM memories AS m WHERE m.tenant_id = $1 AND {_MISSED} > 0 AND abs(m.strength) > $3"  # noqa: S608


@dataclass(frozen=True)
class Range:
    """From the first day to the last, both included, in UTC."""

    first: date
    last: date

    @property
    def days(self) -> list[date]:
        """Each day."""
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    @property
    def slot(self) -> str:
        """The ledger's slot: the same range is the same run."""
        return f"{self.first}..{self.last}"


async def backfill(
    pool: Pool, params: DecayParams, wanted: Range, *, tenant: str | None, dry_run: bool, stop: StopSignal, wait: bool = False
) -> Outcome:
    """Apply the missed days of a range to one tenant, or to all that have memories.

    Args:
        pool: of the tasks' role.
        params: the rate; a tenant's own wins.
        wanted: days; those that no run recorded as missed, or that are made good already, are left out.
        tenant: a UUID or name, or None for all.
        dry_run: read only.
        stop, wait: as for every run.

    Raises:
        BadDataError: no such tenant; an unfinished backfill of a tenant covers some of the days.
        TaskError: as `for_each_tenant` says.
    """
    tenants = await chosen_tenants(pool, tenant)

    async def work(one: Tenant) -> Outcome:
        # Before the ledger hears of it, so that what is refused leaves no dead letter.
        async with pool.acquire() as connection, tenant_transaction(connection, one.id, readonly=True):
            days = await _missed_days(connection, one.id, wanted)
        rate = params.rate_of(one)
        if dry_run:
            return await _preview(pool, one, days, rate)
        key = RunKey(TASK, one.id, wanted.slot)
        about = {"from": wanted.first.isoformat(), "to": wanted.last.isoformat(), "rate": rate}
        async with open_run(pool, key, resource=Resource("memories", "exclusive"), arguments=about, stop=stop, wait=wait) as run:
            if run.already_finished is not None:
                return already_done(run)
            # Once more under the lock: while we waited for it, another backfill may have made some of the days good.
            async with run.reading() as own:
                days = await _missed_days(own, one.id, wanted)
            return await _apply_all(run, days, rate)

    return await for_each_tenant(TASK, tenants, work, stop)


async def _missed_days(connection: Connection, tenant: UUID, wanted: Range) -> list[date]:
    lost = _missed_by_all(await connection.fetch(_RUNS, tenant))
    done = await connection.fetch(_BACKFILLED, tenant, wanted.slot)
    for row in done:
        days = {date.fromisoformat(day) for day in row["days"] or []}
        if row["state"] != "finished" and days & set(wanted.days):
            raise BadDataError(
                f"an unfinished backfill of {row['slot']} covers some of these days",
                reason="BackfillUnfinished",
                hint=f"finish it first: rae-jobctl backfill decay --tenant {tenant} --from {row['slot'].replace('..', ' --to ')}",
            )
        lost -= days
    return sorted(lost & set(wanted.days))


def _missed_by_all(runs: Sequence[Record]) -> set[date]:
    """The days that every memory of the tenant missed, if it was there.

    A run that did not reach its end has decayed some rows and not others. When a later run finds those others too far behind, the
    days count as missed only if the rows of the earlier run missed them as well: nothing in a row tells which of both it is.
    """
    missed: set[date] = set()
    for last in (run for run in runs if run["finished"]):
        began_before = (run for run in runs if run is not last and run["created_at"] < last["finished_at"])
        before = [run for run in began_before if run["day"] <= last["day"]]
        missed |= {day for day in _lost(last) if all(run["day"] < day or day in _lost(run) for run in before)}
    return missed


def _lost(run: Record) -> set[date]:
    last: date = run["day"] - timedelta(days=run["made_good"])
    return {last - timedelta(days=n) for n in range(run["lost"])}


async def _apply_all(run: Run, days: Sequence[date], rate: float) -> Outcome:
    # What the first attempt found holds for all attempts: its first batches are committed by it.
    stored = (run.cursor or {}).get("days")
    chosen = [date.fromisoformat(day) for day in stored] if stored else list(days)
    powers = [rate**n for n in range(1, len(chosen) + 1)]
    text, factors = [day.isoformat() for day in chosen], [power if power > _LEAST_FACTOR else 0.0 for power in powers]
    progress = Progress(None, "memories")
    while chosen:
        run.check_stop()
        after = (run.cursor or {}).get("after")
        async with run.batch() as connection:
            ids = [row["id"] for row in await connection.fetch(_IDS, run.key.tenant_id, after, _BATCH)]
            tag = await connection.execute(_APPLY, run.key.tenant_id, chosen, factors, FORGOTTEN, ids)
            run.counters["decayed"] = run.counters.get("decayed", 0) + int(tag.rsplit(" ", 1)[-1])
            run.cursor = {"days": text, "after": str(ids[-1]) if ids else after}
        progress.advance(len(ids))
        if len(ids) < _BATCH:
            break
    decayed = run.counters.get("decayed", 0)
    outcome = _told("decayed", decayed, text, rate)
    await run.finish(reason=outcome.reason, message=outcome.message, result=outcome.result)
    get_logger().info("decay_backfill_finished", tenant_id=str(run.key.tenant_id), decayed=decayed, days=len(text))
    return outcome.with_runs(str(run.id))


async def _preview(pool: Pool, tenant: Tenant, days: Sequence[date], rate: float) -> Outcome:
    count = 0
    if days:
        async with pool.acquire() as connection, tenant_transaction(connection, tenant.id, readonly=True):
            count = await connection.fetchval(_COUNT, tenant.id, list(days), FORGOTTEN)
    return _told("would decay", count, [day.isoformat() for day in days], rate, dry_run=True)


def _told(verb: str, count: int, days: Sequence[str], rate: float, *, dry_run: bool = False) -> Outcome:
    result: dict[str, Any] = {"days": list(days), "rate": rate}
    if not days:
        message = "no run recorded one of these days as missed by all memories, or it is made good already"
        return Outcome(TASK, "NothingToDo", message, {"decayed": 0}, result, dry_run=dry_run)
    message = f"{verb} {count} memories for {_span(days)}, at {rate:g} a day"
    return Outcome(TASK, "DryRun" if dry_run else "Done", message, {"decayed": count}, result, dry_run=dry_run)


def _span(days: Iterable[str]) -> str:
    every = list(days)
    return every[0] if len(every) == 1 else f"{len(every)} days from {every[0]} to {every[-1]}"
