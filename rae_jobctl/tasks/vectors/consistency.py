"""The task `check-consistency`: PostgreSQL's memories and Qdrant's vectors, compared both ways and, if asked, mended.

PostgreSQL is right: a vector without a memory goes, a memory without a vector gets one where an embedding is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rae_jobctl.db.ledger import Run, RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.db.schema import require_schema
from rae_jobctl.db.tenants import Tenant, list_known_tenants
from rae_jobctl.errors import ExitCode
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.progress import Progress
from rae_jobctl.tasks.fleet import chosen_tenants, for_each_tenant
from rae_jobctl.tasks.repeated import already_done
from rae_jobctl.tasks.vectors import findings as count
from rae_jobctl.tasks.vectors.findings import Findings, left_over, told
from rae_jobctl.tasks.vectors.ghosts import GhostStep
from rae_jobctl.tasks.vectors.missing import MissingStep
from rae_jobctl.tasks.vectors.outbox import work_off
from rae_jobctl.tasks.vectors.session import DryRun, Session
from rae_jobctl.tasks.vectors.unknown import Unknown, find_unknown
from rae_jobctl.vectors.client import open_qdrant

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool
    from rae_jobctl.tasks.vectors.params import ConsistencyParams
    from rae_jobctl.vectors.client import QdrantClient
    from rae_jobctl.vectors.settings import QdrantSettings

TASK = "check-consistency"
CONSISTENT, REPAIRED, INCONSISTENT = "Consistent", "Repaired", "Inconsistent"

_WAITING = "SELECT count(*) FROM rae_jobs.vector_deletions WHERE tenant_id = $1"


def skipped(*, dry_run: bool) -> Outcome:
    """The outcome where no Qdrant is configured."""
    message = "no Qdrant is configured (QDRANT_URL and QDRANT_HOST are unset): there is nothing to compare"
    return Outcome(TASK, "Skipped", message, dry_run=dry_run)


async def check_consistency(
    pool: Pool, settings: QdrantSettings, params: ConsistencyParams, *, tenant: str | None, fail_on_findings: bool = False
) -> Outcome:
    """Compare one tenant, or all that PostgreSQL knows and then what is of none of them.

    Args:
        pool: with room for two connections.
        settings: where Qdrant is.
        params: what to do.
        tenant: UUID or name; None for all.
        fail_on_findings: exit code 65 when something is left that was not mended.

    Raises:
        BadDataError: no such tenant.
        ConfigError: Qdrant refuses the key or has no such collection.
        TransientError: Qdrant is away; also as `for_each_tenant` says.
    """
    async with open_qdrant(settings) as qdrant:
        # Before any tenant: what is wrong with Qdrant itself is told once.
        check = _Check(pool, qdrant, params, await qdrant.vector_sizes())
        if tenant is not None:
            return _ended(await check.each(await chosen_tenants(pool, tenant)), params, fail_on_findings)
        async with pool.acquire() as connection:
            await require_schema(connection)
            known = await list_known_tenants(connection)
        unknown = await find_unknown(qdrant, known)
        strangers = unknown.tenants() if params.unknown_tenants else []
        outcome = await check.each([*known, *strangers])
        left = await find_unknown(qdrant, [*known, *strangers]) if strangers else unknown
        return _ended(_with_unknown(outcome, unknown, left), params, fail_on_findings)


@dataclass(frozen=True)
class _Check:
    pool: Pool
    qdrant: QdrantClient
    params: ConsistencyParams
    sizes: dict[str, int]

    async def each(self, tenants: Sequence[Tenant]) -> Outcome:
        return await for_each_tenant(TASK, tenants, self._preview if self.params.dry_run else self._tenant, self.params.stop)

    async def _preview(self, tenant: Tenant) -> Outcome:
        session = DryRun(self.pool, tenant.id, self.params.stop)
        async with session.reading() as connection:
            Findings(session).add(count.QUEUED, await connection.fetchval(_WAITING, tenant.id))
        await self._compare(tenant, session, None)
        reason, message, result = self._summary(session)
        return Outcome(TASK, reason, message, session.counters, result, dry_run=True)

    async def _tenant(self, tenant: Tenant) -> Outcome:
        params = self.params
        key = RunKey(TASK, tenant.id, params.slot.key)
        about = {"repair": params.repair, "collection": self.qdrant.collection, "grace_seconds": params.grace}
        # A report changes nothing; a repair must not run beside a deletion of the same memories.
        lock = [Resource("memories", "exclusive")] if params.repair else []
        async with open_run(self.pool, key, resource=lock, arguments=about, stop=params.stop, wait=params.wait) as run:
            if run.already_finished is not None:
                return already_done(run)
            await self._work_off(run)
            await self._compare(tenant, run, run if params.repair else None)
            reason, message, result = self._summary(run)
            await run.finish(reason=reason, message=message, result=result)
        get_logger().info("consistency_checked", tenant_id=str(tenant.id), reason=reason, **run.counters)
        return Outcome(TASK, reason, message, run.counters, result, run_ids=(str(run.id),))

    async def _work_off(self, run: Run) -> None:
        deleted = await work_off(self.pool, self.qdrant, run.key.tenant_id, self.params.stop)
        if deleted:
            async with run.batch():
                Findings(run).add(count.QUEUED, deleted)

    async def _compare(self, tenant: Tenant, session: Session, run: Run | None) -> None:
        progress = Progress(None, "vectors and memories")
        await GhostStep(tenant.id, self.qdrant, self.params, session, run, self.pool, progress).all()
        await MissingStep(tenant.id, self.qdrant, self.params, session, self.sizes, progress).all()

    def _summary(self, session: Session) -> tuple[str, str, dict[str, Any]]:
        message = told(session.counters, mended=not self.params.dry_run)
        return _reason(session.counters), message, {"ids": Findings(session).ids()}


def _reason(counters: dict[str, int]) -> str:
    if left_over(counters):
        return INCONSISTENT
    return REPAIRED if counters.get(count.GHOSTS, 0) or counters.get(count.MISSING, 0) else CONSISTENT


def _with_unknown(outcome: Outcome, found: Unknown, left: Unknown) -> Outcome:
    counters = {**outcome.counters, count.UNKNOWN: left.count} if left.count else outcome.counters
    return replace(outcome, counters=counters, result={**outcome.result, **found.as_json()})


def _ended(outcome: Outcome, params: ConsistencyParams, fail_on_findings: bool) -> Outcome:
    """The sum's own reason: one inconsistent tenant among many consistent ones must not read as done."""
    if outcome.failures:
        return outcome
    counters = dict(outcome.counters)
    code = ExitCode.BAD_DATA if fail_on_findings and left_over(counters) else ExitCode.DONE
    if outcome.reason == "AlreadyDone":
        return replace(outcome, exit_code=code)
    tenants = f"{counters.get('tenants', 0)} tenants: " if counters.get("tenants", 0) != 1 else ""
    message = tenants + told(counters, mended=not params.dry_run)
    return replace(outcome, reason=_reason(counters), message=message, exit_code=code)
