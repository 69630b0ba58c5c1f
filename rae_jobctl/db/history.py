"""Reading the ledger: what has run, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.errors import BadDataError

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Record

# Failed for good, or left lying for so long that nothing takes it up by itself any more; a budget may turn after a month only.
_DEAD = """(
    (r.status = 'failed' AND r.exit_code IN (64, 65, 78))
    OR (
        r.status IN ('failed', 'died', 'sliced')
        AND r.updated_at < now() - CASE WHEN r.reason = 'BudgetExhausted' THEN interval '32 days' ELSE interval '1 hour' END
    )
)"""

# The view has the table's first columns; the later ones come from the table.
_COLUMNS = f"""
SELECT r.id, r.task, r.tenant_id, t.name AS tenant, r.project, r.slot, r.shard, r.status, r.attempt, r.failures, {_DEAD} AS dead,
       r.reason, r.message, r.exit_code, r.error_class, r.traceback, w.command, w.request, r.arguments, r.cursor, r.counters,
       r.result, r.progress_done, r.progress_total, r.created_at, r.started_at, r.updated_at, r.finished_at,
       w.cancel_requested_at, r.expires_at, r.pod, r.job, r.request_kind, r.request_name, r.request_uid, r.version
FROM rae_jobs.runs AS r
JOIN rae_jobs.task_runs AS w ON w.id = r.id
LEFT JOIN tenants AS t ON t.id = r.tenant_id
"""  # noqa: S608

_WANTED = f"""
WHERE ($1::text IS NULL OR r.task = $1)
  AND ($2::uuid IS NULL OR r.tenant_id = $2)
  AND ($3::text IS NULL OR r.status = $3)
  AND ($4::timestamptz IS NULL OR r.started_at < $4)
  AND (NOT $5::boolean OR {_DEAD})
"""

# The few are chosen before they are fetched whole.
_LIST = f"""
WITH chosen AS MATERIALIZED (SELECT r.id FROM rae_jobs.runs AS r{_WANTED}ORDER BY r.started_at DESC LIMIT $6)
{_COLUMNS}WHERE r.id = ANY (ARRAY(SELECT id FROM chosen)) ORDER BY r.started_at DESC
"""  # noqa: S608
_COUNT_DEAD = f"SELECT count(*) FROM rae_jobs.runs AS r{_WANTED}"  # noqa: S608
_BY_ID = f"{_COLUMNS}WHERE r.id = $1"
_BY_PREFIX = f"{_COLUMNS}WHERE r.id::text LIKE $1 || '%' ORDER BY r.started_at DESC LIMIT 2"
_BY_REQUEST = f"{_COLUMNS}WHERE r.request_uid = $1 OR r.request_name = $1 ORDER BY r.started_at DESC LIMIT $2"


@dataclass(frozen=True)
class RunRecord:
    """A row of the ledger.

    Attributes:
        status: running, died, finished, failed, sliced, cancelled or dismissed.
        dead: nothing takes it up by itself any more: it waits to be retried or dismissed.
        command: its command line, subcommand first; None where it may not be kept, or an older image ran it.
        request: what RAE_REQUEST held.
    """

    id: UUID
    task: str
    tenant_id: UUID
    tenant: str
    project: str
    slot: str
    shard: int
    status: str
    attempt: int
    failures: int
    dead: bool
    reason: str | None
    message: str | None
    exit_code: int | None
    error_class: str | None
    traceback: str | None
    command: Sequence[str] | None
    request: Mapping[str, Any] | None
    arguments: Mapping[str, Any]
    cursor: Mapping[str, Any] | None
    counters: Mapping[str, int]
    result: Mapping[str, Any] | None
    progress_done: int | None
    progress_total: int | None
    created_at: datetime
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    expires_at: datetime | None
    pod: str | None
    job: str | None
    request_kind: str | None
    request_name: str | None
    request_uid: str | None
    version: str

    @property
    def result_expired(self) -> bool:
        """Whether there was a result that is no longer kept."""
        return self.status == "finished" and self.result is None


@dataclass(frozen=True)
class Filter:
    """Which runs: all that are None do not restrict.

    Attributes:
        before: started before.
        dead: dead letters alone.
        limit: at most so many.
    """

    task: str | None = None
    tenant_id: UUID | None = None
    status: str | None = None
    before: datetime | None = None
    dead: bool = False
    limit: int = 20

    @property
    def values(self) -> tuple[Any, ...]:
        """Of the statements' parameters, in order."""
        return (self.task, self.tenant_id, self.status, self.before, self.dead)


async def list_runs(connection: Connection, wanted: Filter) -> list[RunRecord]:
    """The newest runs first."""
    rows = await connection.fetch(_LIST, *wanted.values, wanted.limit)
    return [_record(row) for row in rows]


async def count_dead(connection: Connection, wanted: Filter) -> int:
    """How many dead letters there are of the task and tenant."""
    return int(await connection.fetchval(_COUNT_DEAD, *replace(wanted, status=None, dead=True).values))


async def get_run(connection: Connection, run: UUID) -> RunRecord:
    """The run with this id.

    Raises:
        BadDataError: there is none any more.
    """
    row = await connection.fetchrow(_BY_ID, run)
    if row is None:
        raise BadDataError(f"the ledger has no run {run} any more", reason="RunUnknown")
    return _record(row)


async def find_run(connection: Connection, text: str) -> RunRecord:
    """The run whose id begins with `text`.

    Raises:
        BadDataError: none, more than one, or no part of an id.
    """
    prefix = text.strip().lower()
    if not prefix or set(prefix) - set("0123456789abcdef-"):
        raise BadDataError(f"{text[:60]!r} is no id of a run", hint="ids are in the first column of `rae-jobctl runs list`")
    rows = await connection.fetch(_BY_PREFIX, prefix)
    if len(rows) != 1:
        many = "several runs have an id that begins" if rows else "no run has an id that begins"
        raise BadDataError(f"{many} with {prefix!r}", reason="RunUnknown" if not rows else "RunAmbiguous")
    return _record(rows[0])


async def runs_of_request(connection: Connection, request: str, limit: int = 50) -> list[RunRecord]:
    """The runs of a custom resource, by its uid or name.

    Raises:
        BadDataError: there is none.
    """
    rows = await connection.fetch(_BY_REQUEST, request, limit)
    if not rows:
        raise BadDataError(
            f"no run belongs to a request {request[:100]!r}",
            reason="RunUnknown",
            hint="a request that failed before its task began has none: kubectl describe it",
        )
    return [_record(row) for row in rows]


def _record(row: Record) -> RunRecord:
    return RunRecord(**{**row, "tenant": row["tenant"] or str(row["tenant_id"])})
