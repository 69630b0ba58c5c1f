"""Reading the ledger: what has run, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.errors import BadDataError

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Record

_COLUMNS = """
SELECT r.id, r.task, r.tenant_id, t.name AS tenant, r.project, r.slot, r.shard, r.status, r.attempt, r.failures, r.reason,
       r.message,
       r.exit_code, r.error_class, r.traceback, r.arguments, r.cursor, r.counters, r.result, r.progress_done, r.progress_total,
       r.created_at, r.started_at, r.finished_at, r.pod, r.job, r.request_kind, r.request_name, r.request_uid, r.version
FROM rae_jobs.runs AS r
LEFT JOIN tenants AS t ON t.id = r.tenant_id
"""

_LIST = (
    _COLUMNS
    + """
WHERE ($1::text IS NULL OR r.task = $1)
  AND ($2::uuid IS NULL OR r.tenant_id = $2)
  AND ($3::text IS NULL OR r.status = $3)
ORDER BY r.started_at DESC
LIMIT $4
"""
)

_BY_PREFIX = _COLUMNS + "WHERE r.id::text LIKE $1 || '%' ORDER BY r.started_at DESC LIMIT 2"
_BY_REQUEST = _COLUMNS + "WHERE r.request_uid = $1 OR r.request_name = $1 ORDER BY r.started_at DESC LIMIT $2"


@dataclass(frozen=True)
class RunRecord:
    """A row of the ledger; `status` is running, died, finished, failed, sliced, cancelled or dismissed."""

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
    reason: str | None
    message: str | None
    exit_code: int | None
    error_class: str | None
    traceback: str | None
    arguments: Mapping[str, Any]
    cursor: Mapping[str, Any] | None
    counters: Mapping[str, int]
    result: Mapping[str, Any] | None
    progress_done: int | None
    progress_total: int | None
    created_at: datetime
    started_at: datetime
    finished_at: datetime | None
    pod: str | None
    job: str | None
    request_kind: str | None
    request_name: str | None
    request_uid: str | None
    version: str


@dataclass(frozen=True)
class Filter:
    """Which runs: all that are None do not restrict."""

    task: str | None = None
    tenant_id: UUID | None = None
    status: str | None = None
    limit: int = 20


async def list_runs(connection: Connection, wanted: Filter) -> list[RunRecord]:
    """The newest runs first."""
    rows = await connection.fetch(_LIST, wanted.task, wanted.tenant_id, wanted.status, wanted.limit)
    return [_record(row) for row in rows]


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
