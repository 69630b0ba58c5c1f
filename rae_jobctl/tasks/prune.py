"""The deprecated task `prune`: episodic memories older than a number of days go; every other layer stays."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rae_jobctl.db.ledger import RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.tenants import Tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ConfigError
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.progress import Progress
from rae_jobctl.settings import Environment, number
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.deletion import Audit, Deletion, delete_due
from rae_jobctl.tasks.fleet import chosen_tenants, for_each_tenant
from rae_jobctl.tasks.repeated import already_done
from rae_jobctl.tasks.retention.policy import tenants_tags
from rae_jobctl.tasks.retention.tables import EXEMPT
from rae_jobctl.tasks.vectors.outbox import delete_queued_vectors
from rae_jobctl.tasks.walk import Due

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

TASK = "prune"
_PREVIEW = "SELECT count(*) AS memories, min(m.created_at) AS oldest, max(m.created_at) AS newest FROM memories AS m WHERE "


@dataclass(frozen=True)
class PruneParams:
    """What to delete, and which run this is.

    Attributes:
        days: kept; 0 keeps everything.
        slot: its moment is where the days are counted back from, so a retry has the same cut-off.
        stop: asked between batches.
        wait: wait for locks.
        archive: keep the rows in rae_jobs.archived_memories.
        protected: tags whose bearers stay; a tenant's own come to them.
    """

    days: int
    slot: Slot
    stop: StopSignal
    wait: bool = False
    archive: bool = False
    protected: tuple[str, ...] = ()

    @property
    def cutoff(self) -> datetime:
        """Memories created before go."""
        return self.slot.at - timedelta(days=self.days)

    @property
    def deletion(self) -> Deletion:
        """The rows that go."""
        due = Due(f"m.layer = 'episodic' AND m.created_at < $2 AND {EXEMPT}", (self.cutoff, list(self.protected)))
        audit = Audit("", "archived" if self.archive else "retention")
        return Deletion(due, audit, "deleted", archive=self.archive)


def retention_days(env: Environment | None = None) -> int:
    """MEMORY_RETENTION_DAYS; 0, the default, deletes nothing.

    Raises:
        ConfigError: negative, not whole, or beyond a century.
    """
    value = number(os.environ if env is None else env, "MEMORY_RETENTION_DAYS", 0, low=0, high=36_500)
    if value != int(value):
        raise ConfigError(f"MEMORY_RETENTION_DAYS={value:g} is no whole number of days")
    return int(value)


async def prune(pool: Pool, params: PruneParams, *, tenant: str | None, dry_run: bool) -> Outcome:
    """Prune one tenant, or all that have memories.

    Raises:
        BadDataError: no such tenant.
        TaskError: as `for_each_tenant` says.
    """
    tenants = await chosen_tenants(pool, tenant)

    async def work(one: Tenant) -> Outcome:
        own = replace(params, protected=tenants_tags(one, params.protected))
        return await (_preview(pool, own, one) if dry_run else _prune_tenant(pool, own, one))

    return await for_each_tenant(TASK, tenants, work, params.stop)


async def _prune_tenant(pool: Pool, params: PruneParams, tenant: Tenant) -> Outcome:
    key = RunKey(TASK, tenant.id, params.slot.key)
    about = {"retention_days": params.days, "cutoff": params.cutoff.isoformat(), "archive": params.archive}
    lock = Resource("memories", "exclusive")
    async with open_run(pool, key, resource=lock, arguments=about, stop=params.stop, wait=params.wait) as run:
        if run.already_finished is not None:
            return already_done(run)
        await delete_due(run, params.deletion, Progress(None, "memories"), params.stop)
        run.check_stop()
        await delete_queued_vectors(pool, tenant.id, params.stop)
        deleted = run.counters.get("deleted", 0)
        reason = "Done" if deleted else "NothingToDo"
        message = _told(deleted, "archived" if params.archive else "deleted", params)
        await run.finish(reason=reason, message=message, result={"cutoff": about["cutoff"]})
    get_logger().info("memory_prune_finished", tenant_id=str(tenant.id), deleted=deleted, retention_days=params.days)
    return Outcome(TASK, reason, message, {"deleted": deleted}, {"cutoff": about["cutoff"]}, run_ids=(str(run.id),))


async def _preview(pool: Pool, params: PruneParams, tenant: Tenant) -> Outcome:
    due = params.deletion.due
    async with pool.acquire() as connection, tenant_transaction(connection, tenant.id, readonly=True):
        row = await connection.fetchrow(_PREVIEW + due.where, tenant.id, *due.arguments)
    assert row is not None
    span = {name: row[name].isoformat() if row[name] else None for name in ("oldest", "newest")}
    count = row["memories"]
    reason = "DryRun" if count else "NothingToDo"
    result = {"cutoff": params.cutoff.isoformat(), **span}
    message = _told(count, "to archive" if params.archive else "to delete", params)
    return Outcome(TASK, reason, message, {"deleted": count}, result, dry_run=True)


def _told(count: int, verb: str, params: PruneParams) -> str:
    return f"{count} episodic memories {verb}, created before {params.cutoff:%Y-%m-%d %H:%M} UTC"
