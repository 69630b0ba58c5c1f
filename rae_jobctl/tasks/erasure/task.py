"""The erasure as a whole: rounds over all tables until one finds nothing, then what is kept elsewhere, and the report."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.db.ledger import RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.schema import require_schema
from rae_jobctl.db.tenants import Tenant, resolve_tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BadDataError, ExitCode, SoftLimitReached, UsageError
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.progress import Progress
from rae_jobctl.settings import text
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.erasure.audit import erased_before
from rae_jobctl.tasks.erasure.catalogue import Catalogue, read_catalogue
from rae_jobctl.tasks.erasure.dependents import followers
from rae_jobctl.tasks.erasure.elsewhere import Requests, forget_cached, forget_requests
from rae_jobctl.tasks.erasure.subject import Subject, subject_of
from rae_jobctl.tasks.erasure.sweep import SOURCES, Erased, Erasing, Sweep
from rae_jobctl.tasks.erasure.words import Words
from rae_jobctl.tasks.repeated import already_done
from rae_jobctl.tasks.vectors.outbox import delete_queued_vectors

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection, Pool

TASK = "erase-user"
#: RAE may write about the person while we erase; who does not stop writing is reported.
MAX_ROUNDS = 3
_SHOWN = 20
_RESOURCES = (Resource("memories", "exclusive"), Resource("graph", "exclusive"))


@dataclass(frozen=True)
class ErasureParams:
    """Whom to erase, and which run this is.

    Attributes:
        tenant: by UUID or name.
        identifiers: checked; never shown.
        key: of the keyed hash.
        slot: of the run.
        stop: asked between batches.
        wait: wait for locks.
        requests: where custom resources are, or None to leave them alone.
    """

    tenant: str
    identifiers: tuple[str, ...] = field(repr=False)
    key: bytes = field(repr=False)
    slot: Slot
    stop: StopSignal
    wait: bool = False
    requests: Requests | None = None


@dataclass
class _Job:
    tenant: Tenant
    subject: Subject
    catalogue: Catalogue
    params: ErasureParams
    erased: Erased = field(default_factory=Erased)
    progress: Progress = field(default_factory=lambda: Progress(None, "pages"))


class _NotErased(BadDataError):
    """Something is left; `result` says what."""

    reason = "NotErased"

    def __init__(self, message: str, hint: str, result: Mapping[str, Any]) -> None:
        super().__init__(message, hint=hint)
        self.result = result


async def erase_user(pool: Pool, params: ErasureParams, *, dry_run: bool) -> Outcome:
    """Erase one person of one tenant, or say what would be done.

    Returns:
        Counters deleted, rewritten, anonymised; `result` by table. Exit code 65 when something is left or could not be seen.

    Raises:
        UsageError: the slot names the person.
        BadDataError: no such tenant.
        TimeSliced, SoftLimitReached: asked to stop.
        TransientError, ConfigError: of the database, Redis or Kubernetes.
    """
    if Words(params.identifiers).found(params.slot.key):
        raise UsageError("--slot names the person, and a slot is kept", hint="use the number of the ticket")
    async with pool.acquire() as connection:
        await require_schema(connection)
        tenant = await resolve_tenant(connection, params.tenant)
        catalogue = await read_catalogue(connection)
        subject = subject_of(tenant.id, params.identifiers, params.key)
        job = _Job(tenant, subject, catalogue, params)
        async with tenant_transaction(connection, tenant.id, readonly=True):
            job.erased.add(await erased_before(connection, subject))
        if dry_run:
            return await _preview(connection, job)
    try:
        return await _erase(pool, job)
    except _NotErased as error:
        counters = {name: sum(one.get(name, 0) for one in error.result["tables"].values()) for name in _KINDS}
        return Outcome(TASK, error.reason, error.message, counters, error.result, exit_code=ExitCode.BAD_DATA)


async def _erase(pool: Pool, job: _Job) -> Outcome:
    # The person is part of the key: the same slot with somebody else is other work.
    key = RunKey(TASK, job.tenant.id, f"{job.params.slot.key}:{job.subject.hashes[0][:16]}")
    about = {"subject": list(job.subject.hashes)}
    async with open_run(pool, key, resource=_RESOURCES, arguments=about, stop=job.params.stop, wait=job.params.wait) as run:
        if run.already_finished is not None:
            return already_done(run)
        remaining = await _rounds(run, job)
        run.check_stop()
        await delete_queued_vectors(pool, job.tenant.id, job.params.stop)
        elsewhere = await _elsewhere(job, dry_run=False)
        result = {**_result(job, _by_table(run.counters)), **elsewhere}
        await _refuse_leftovers(run, job, remaining, result)
        counters = _totals(run.counters)
        reason = "Done" if any(counters.values()) else "NothingToDo"
        message = _told(counters, "erased: ")
        await run.finish(reason=reason, message=message, result=result)
    get_logger().info("user_erased", tenant_id=str(job.tenant.id), subject=job.subject.hashes, **counters)
    return Outcome(TASK, reason, message, counters, result, run_ids=(str(run.id),))


async def _rounds(run: Run, job: _Job) -> dict[str, int]:
    """Erase until nothing is found; returns what is left, by table."""
    await _round(run, job, run.cursor or {})
    for _ in range(MAX_ROUNDS - 1):
        if not await _count(run, job, changing=True):
            return {}
        await _round(run, job, {})
    return await _count(run, job, changing=True)


async def _round(run: Run, job: _Job, cursor: Mapping[str, Any]) -> None:
    """One pass over all tables, from where the attempt before stopped."""
    sweep = Erasing(run, job.subject, job.catalogue, job.erased, job.progress, run=run)
    tables = [table for table in job.catalogue.tables if table.changes and table.visible]
    begin = next((n for n, table in enumerate(tables) if table.relation == cursor.get("table")), 0)
    for table in tables[begin:]:
        page = int(cursor.get("page", 0)) if table.relation == cursor.get("table") else 0
        await sweep.erase(table, page)


async def _count(session: Any, job: _Job, *, changing: bool) -> dict[str, int]:
    sweep = Sweep(session, job.subject, job.catalogue, job.erased, job.progress)
    found: dict[str, int] = {}
    for table in job.catalogue.tables:
        if table.visible and table.changes is changing:
            found[table.name] = found.get(table.name, 0) + await sweep.count(table)
    return {name: count for name, count in found.items() if count}


async def _refuse_leftovers(session: Any, job: _Job, remaining: Mapping[str, int], result: dict[str, Any]) -> None:
    uncovered = await _count(session, job, changing=False)
    hidden = _hidden(job.catalogue)
    result.update(remaining=dict(remaining), notCovered=uncovered, notReadable=hidden)
    left = [f"{name}: {count} rows" for name, count in (*remaining.items(), *uncovered.items())]
    if left or hidden:
        told = [*left, *(f"{name}: not readable" for name in hidden)]
        hint = _hint(remaining, uncovered, hidden)
        raise _NotErased(f"not everything is erased: {'; '.join(told[:_SHOWN])}", hint, {**result, "hint": hint})


def _hint(remaining: Mapping[str, int], uncovered: Mapping[str, int], hidden: list[str]) -> str:
    hints = []
    if remaining:
        hints.append("RAE goes on writing about the person: end that, and run again")
    if uncovered:
        hints.append(f"nobody told rae-jobctl what to do with {', '.join(uncovered)}: change those rows by hand, and run again")
    if hidden:
        hints.append("`rae-jobctl db migrate`, by the tables' owner and with RAE_JOB_ROLE set, lets every table be looked at")
    return "; ".join(hints)


def _hidden(catalogue: Catalogue) -> list[str]:
    return sorted({table.name for table in catalogue.tables if not table.visible and table.searched})


async def _elsewhere(job: _Job, *, dry_run: bool) -> dict[str, Any]:
    words = job.subject.words
    told: dict[str, Any] = {"cacheKeys": "skipped: REDIS_URL is unset", "requests": "skipped: no --kubernetes"}
    url = text(os.environ, "REDIS_URL")
    if url:
        told["cacheKeys"] = await forget_cached(url, job.tenant.id, words, dry_run=dry_run)
    if job.params.requests is not None:
        told["requests"] = await forget_requests(job.params.requests, job.tenant, words, job.erased.texts, dry_run=dry_run)
    return told


class _ReadOnly:
    """A connection that reads one tenant, for a dry run."""

    def __init__(self, connection: Connection, tenant_id: UUID, stop: StopSignal) -> None:
        self._connection, self._tenant_id, self._stop = connection, tenant_id, stop

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        async with tenant_transaction(self._connection, self._tenant_id, readonly=True):
            yield self._connection

    def check_stop(self) -> None:
        if self._stop.should_stop:
            raise SoftLimitReached(f"stopped by {self._stop.cause}; a dry run keeps nothing")


async def _preview(connection: Connection, job: _Job) -> Outcome:
    session = _ReadOnly(connection, job.tenant.id, job.params.stop)
    tables = await _previewed(session, job)
    result = {**_result(job, tables), **await _elsewhere(job, dry_run=True)}
    result.update(notCovered=await _count(session, job, changing=False), notReadable=_hidden(job.catalogue))
    counters = {name: sum(one.get(name, 0) for one in tables.values()) for name in _KINDS}
    message = _told(counters, "to be erased: ")
    return Outcome(TASK, "DryRun" if tables else "NothingToDo", message, counters, result, dry_run=True)


async def _previewed(session: _ReadOnly, job: _Job) -> dict[str, dict[str, int]]:
    sweep, gone = Sweep(session, job.subject, job.catalogue, job.erased, job.progress), dict[str, set[UUID]]()
    changing = [table for table in job.catalogue.tables if table.changes and table.visible]
    known = -1
    # What is derived from what is derived: until no more comes to light.
    while len(job.erased.ids) != known:
        known = len(job.erased.ids)
        for table in changing:
            if table.name in SOURCES:
                await sweep.preview(table, gone)
    tables: dict[str, dict[str, int]] = {}
    for table in changing:
        for kind, count in (await sweep.preview(table, gone)).items():
            mine = tables.setdefault(table.name, {})
            mine[kind] = mine.get(kind, 0) + count
    async with session.reading() as connection:
        for name, count in (await followers(connection, job.tenant.id, gone)).items():
            mine = tables.setdefault(name, {})
            mine["deleted"] = mine.get("deleted", 0) + count
    return tables


_KINDS = ("deleted", "rewritten", "anonymised")


def _result(job: _Job, tables: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    about = {"tenant": job.tenant.name, "tenantId": str(job.tenant.id), "subject": list(job.subject.hashes)}
    return {**about, "tables": dict(tables), "missingTables": list(job.catalogue.missing)}


def _by_table(counters: Mapping[str, int]) -> dict[str, dict[str, int]]:
    tables: dict[str, dict[str, int]] = {}
    for name, count in counters.items():
        table, _, kind = name.rpartition(".")
        tables.setdefault(table, {})[kind] = count
    return tables


def _totals(counters: Mapping[str, int]) -> dict[str, int]:
    return {kind: sum(n for name, n in counters.items() if name.endswith(f".{kind}")) for kind in _KINDS}


def _told(counters: Mapping[str, int], beginning: str) -> str:
    return beginning + ", ".join(f"{counters[kind]} rows {kind}" for kind in _KINDS)
