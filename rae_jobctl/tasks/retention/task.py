"""The task `cleanup-expired-data`: for each tenant and class of data, what is older than it may be kept goes.

A batch is one transaction with its audit row. A class that is not reached within a pod's time is reached by the next attempt:
the ledger's cursor names the table at work and how far it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rae_jobctl.db.control import BATCH, expire_batch
from rae_jobctl.db.ledger import Run, RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.tenants import Tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.progress import Progress
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.deletion import Deletion, delete_due
from rae_jobctl.tasks.fleet import for_each_tenant, known_tenants
from rae_jobctl.tasks.repeated import already_done
from rae_jobctl.tasks.retention.policy import Defaults, Policy
from rae_jobctl.tasks.retention.tables import Found, find_tables
from rae_jobctl.tasks.vectors.outbox import delete_queued_vectors

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

TASK = "cleanup-expired-data"
_AT = "at"
_RESULTS, _RUNS = "expiredResults", "forgottenRuns"


@dataclass(frozen=True)
class CleanupParams:
    """What to keep, and which run this is.

    Attributes:
        defaults: the installation's retention.
        slot: its moment is where the days are counted back from, so a retry has the same cut-off.
        stop: asked between batches.
        wait: wait for locks.
    """

    defaults: Defaults
    slot: Slot
    stop: StopSignal
    wait: bool = False


@dataclass(frozen=True)
class Step:
    """One table of one class, with what is to go of it."""

    data_class: str
    cutoff: datetime
    deletion: Deletion

    @property
    def name(self) -> str:
        """As in cursor and counters."""
        return self.deletion.counter


async def cleanup(pool: Pool, params: CleanupParams, *, tenant: str | None, dry_run: bool) -> Outcome:
    """Clean up one tenant, or all that anything is kept for.

    Raises:
        BadDataError: no such tenant.
        ConfigError: a table's rows are hidden from this role.
        TaskError: as `for_each_tenant` says.
    """
    tenants = await known_tenants(pool, tenant)
    async with pool.acquire() as connection:
        found, absent = await find_tables(connection)

    async def work(one: Tenant) -> Outcome:
        policy = params.defaults.of(one)
        steps = _steps(policy, found, params.slot.at)
        if dry_run:
            outcome = await _preview(pool, one, steps)
        else:
            outcome = await _clean_tenant(pool, params, one, policy, steps)
        return outcome

    outcome = await for_each_tenant(TASK, tenants, work, params.stop)
    # The same for every tenant, so it is said once.
    return outcome.with_result(skippedTables=absent)


def _steps(policy: Policy, found: Sequence[Found], at: datetime) -> list[Step]:
    return [
        Step(data_class, policy.cutoff(data_class, at), one.deletion(policy.cutoff(data_class, at), policy.protected))
        for one in found
        if (data_class := one.table.data_class) in policy.days
    ]


async def _clean_tenant(pool: Pool, params: CleanupParams, tenant: Tenant, policy: Policy, steps: Sequence[Step]) -> Outcome:
    key = RunKey(TASK, tenant.id, params.slot.key)
    about = {"days": dict(policy.days), "protected": list(policy.protected), "at": params.slot.at.isoformat()}
    # Nodes and edges go as well where the graph's class has days: no extraction may be at work on them meanwhile.
    resources = [Resource("memories", "exclusive"), *([Resource("graph", "exclusive")] if "graph" in policy.days else [])]
    async with open_run(pool, key, resource=resources, arguments=about, stop=params.stop, wait=params.wait) as run:
        if run.already_finished is not None:
            return already_done(run)
        await _delete(run, steps, params.stop)
        await _forget_runs(run)
        run.check_stop()
        await delete_queued_vectors(pool, tenant.id, params.stop)
        outcome = _told(steps, run.counters, dry_run=False)
        await run.finish(reason=outcome.reason, message=outcome.message, result=outcome.result)
    get_logger().info("cleanup_finished", tenant_id=str(tenant.id), **outcome.counters)
    return outcome.with_runs(str(run.id))


async def _delete(run: Run, steps: Sequence[Step], stop: StopSignal) -> None:
    progress = Progress(None, "rows")
    names = [step.name for step in steps]
    at = (run.cursor or {}).get(_AT)
    begin = names.index(at) if at in names else 0
    for step in steps[begin:]:
        if (run.cursor or {}).get(_AT) != step.name:
            run.cursor = {_AT: step.name}
        await delete_due(run, step.deletion, progress, stop)


async def _forget_runs(run: Run) -> None:
    """What the ledger itself keeps of the tenant goes by its own days; it is no data of RAE, so it has no audit."""
    while True:
        run.check_stop()
        async with run.batch() as connection:
            gone = await expire_batch(connection, run.key.tenant_id)
            run.counters[_RESULTS] = run.counters.get(_RESULTS, 0) + gone.results
            run.counters[_RUNS] = run.counters.get(_RUNS, 0) + gone.runs
        if max(gone.results, gone.runs) < BATCH:
            return


async def _preview(pool: Pool, tenant: Tenant, steps: Sequence[Step]) -> Outcome:
    counters: dict[str, int] = {}
    for step in steps:
        due = step.deletion.due
        # A transaction a table: counting a large one takes its time, and holds back what PostgreSQL can reclaim.
        async with pool.acquire() as connection, tenant_transaction(connection, tenant.id, readonly=True):
            statement = f"SELECT count(*) FROM {due.table} AS m WHERE {due.where}"  # noqa: S608 - our own texts
            counters[step.name] = await connection.fetchval(statement, tenant.id, *due.arguments)
    return _told(steps, counters, dry_run=True)


def _told(steps: Sequence[Step], counters: Mapping[str, int], *, dry_run: bool) -> Outcome:
    by_class: dict[str, dict[str, Any]] = {}
    for step in steps:
        one = by_class.setdefault(step.data_class, {"class": step.data_class, "cutoff": step.cutoff.isoformat(), "tables": {}})
        one["tables"][step.deletion.due.table] = counters.get(step.name, 0)
    sums = {name: sum(one["tables"].values()) for name, one in by_class.items()}
    total = sum(sums.values())
    parts = ", ".join(f"{count} {name}" for name, count in sums.items() if count) or "nothing is old enough"
    message = f"{'would delete' if dry_run else 'deleted'} {parts}" if total else parts
    reason = ("DryRun" if dry_run else "Done") if total else "NothingToDo"
    result = {"classes": list(by_class.values())}
    ledger = {name: counters[name] for name in (_RESULTS, _RUNS) if counters.get(name)}
    return Outcome(TASK, reason, message, {"deleted": total, **sums, **ledger}, result, dry_run=dry_run)
