"""The ledger of runs, which makes each run exactly-once.

A run's key is (task, tenant, project, slot, shard). One that finished is never run again; one that died is taken up where it
committed. While it lives, a run holds a session lock on its key, and one on the resource it changes. Every batch is a
transaction on that very connection, and begins by locking the run's own row by id, attempt and server process: when the lock
is lost, the row no longer matches, and nothing more is written (fencing).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from rae_jobctl import __version__
from rae_jobctl.db.errors import transaction_pooler, where_of, working
from rae_jobctl.db.locks import Lock, Resource, lock_key, resource_locks, take
from rae_jobctl.db.pool import bind_tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import (
    BudgetExhausted,
    ExitCode,
    RunCancelled,
    SoftLimitReached,
    TaskError,
    TimeSliced,
    TransientError,
    frames,
)
from rae_jobctl.logs import get_logger
from rae_jobctl.provenance import PRIVATE, current
from rae_jobctl.request import Request, read_request
from rae_jobctl.settings import number

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool, Record

_DEFAULT_TTL_DAYS = 30

# A run of the key that finished or was cancelled is left alone, and then no row comes back.
_TAKE = """
INSERT INTO rae_jobs.task_runs AS r (
    task, tenant_id, project, slot, shard, lock_key, backend_pid, arguments,
    pod, job, request_kind, request_name, request_uid, version, command, request
)
VALUES ($1, $2, $3, $4, $5, $6, pg_backend_pid(), $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (task, tenant_id, project, slot, shard) DO UPDATE
SET state = 'open', attempt = r.attempt + 1, lock_key = excluded.lock_key, backend_pid = excluded.backend_pid,
    arguments = excluded.arguments, pod = excluded.pod, job = excluded.job, request_kind = excluded.request_kind,
    request_name = excluded.request_name, request_uid = excluded.request_uid, version = excluded.version,
    command = excluded.command, request = excluded.request, cancel_requested_at = NULL,
    reason = NULL, message = NULL, exit_code = NULL, error_class = NULL, traceback = NULL,
    started_at = now(), updated_at = now(), finished_at = NULL, expires_at = NULL
WHERE r.state <> 'finished'
  AND ((r.state <> 'cancelled' AND r.cancel_requested_at IS NULL) OR r.id = $16)
RETURNING id, attempt, cursor, counters
"""

# A plan for the tenant at hand: one made for a tenant that fills a table would read all of it for a tenant of three rows.
# The server notices a dead pod within half a minute and drops its locks; a row that RAE itself keeps locked does not hold us up
# for ever, and neither does it make our transaction long.
_SESSION = """
SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '30000', false),
       set_config('lock_timeout', '5000', false), set_config('plan_cache_mode', 'force_custom_plan', false)
"""

_BEFORE = """
SELECT id, attempt, cursor, counters, reason, message, result, state
FROM rae_jobs.task_runs
WHERE task = $1 AND tenant_id = $2 AND project = $3 AND slot = $4 AND shard = $5
"""

# A cancelled run that died before it heard of it: whoever finds it says so in its place.
_STAY_CANCELLED = """
UPDATE rae_jobs.task_runs
SET state = 'cancelled', reason = coalesce(reason, 'RunCancelled'), finished_at = coalesce(finished_at, now()), updated_at = now()
WHERE id = $1 AND state NOT IN ('finished', 'cancelled')
"""

_FENCE = """
SELECT backend_pid = pg_backend_pid() AS same_session, cancel_requested_at IS NOT NULL AS cancelled
FROM rae_jobs.task_runs
WHERE id = $1 AND attempt = $2 AND state = 'open'
FOR NO KEY UPDATE
"""

_MOVE = """
UPDATE rae_jobs.task_runs
SET cursor = $3, counters = $4, progress_done = $5, progress_total = $6, updated_at = now()
WHERE id = $1 AND attempt = $2
"""

_FINISH = """
UPDATE rae_jobs.task_runs
SET state = 'finished', reason = $3, message = $4, result = $5, exit_code = $6, counters = $7,
    finished_at = now(), updated_at = now(), expires_at = now() + make_interval(secs => 86400 * $8::float8)
WHERE id = $1 AND attempt = $2
"""

# Whatever ends a run that somebody wants to stop, it is cancelled then: nothing may take it up.
_FAIL = """
UPDATE rae_jobs.task_runs
SET state = CASE WHEN cancel_requested_at IS NULL THEN $3 ELSE 'cancelled' END,
    failures = failures + ($3 = 'failed' AND cancel_requested_at IS NULL)::int,
    reason = $4, message = $5, exit_code = $6, error_class = $7, traceback = $8, finished_at = now(), updated_at = now()
WHERE id = $1 AND attempt = $2 AND state = 'open'
"""


@dataclass(frozen=True)
class RunKey:
    """Identity of a run; `project` is empty for a run over all of a tenant's projects."""

    task: str
    tenant_id: UUID
    slot: str
    project: str = ""
    shard: int = 0

    @property
    def lock_name(self) -> str:
        return f"rae_jobs.run:{self.task}:{self.tenant_id}:{self.shard}:{self.slot}:{self.project}"


@dataclass(frozen=True)
class Finished:
    """What a run of this key left that had finished before."""

    reason: str
    message: str
    result: Mapping[str, Any]
    counters: Mapping[str, int]


@dataclass
class Run:
    """A run that this process holds.

    Attributes:
        id: of the ledger's row.
        attempt: 1 for the first; counts every taking-up, sliced ones too.
        cursor: where the attempt before stopped, None at the beginning; set it inside `batch`.
        counters: whole numbers over all attempts; change them inside `batch`.
        already_finished: set when the key had finished before; nothing may be written then.
        progressed: whether this attempt committed a batch.
        done, total: progress for `runs list`; stored with each batch.
    """

    id: UUID
    key: RunKey
    attempt: int
    cursor: dict[str, Any] | None
    counters: dict[str, int]
    _connection: Connection = field(repr=False)
    _stop: StopSignal | None = field(default=None, repr=False)
    already_finished: Finished | None = None
    progressed: bool = False
    done: int | None = None
    total: int | None = None
    _ended: bool = False

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Connection]:
        """One transaction: row-level security set, fenced, cursor and counters stored with the rows.

        When the block raises, nothing of it stays, and cursor and counters are what they were.

        Raises:
            RunCancelled: somebody asked this run to stop.
            TransientError: this run lost its row or its lock to another.
            ConfigError: a transaction pooler moved us to another session.
        """
        before = (self.cursor, dict(self.counters), self.done)
        try:
            async with self._connection.transaction():
                await bind_tenant(self._connection, self.key.tenant_id)
                if await self._fence():
                    raise _cancelled(self.id, "stopped, as `rae-jobctl runs cancel` asked; what was committed before stays")
                yield self._connection
                await self._connection.execute(_MOVE, self.id, self.attempt, self.cursor, self.counters, self.done, self.total)
        except BaseException:
            self.cursor, self.counters, self.done = before[0], dict(before[1]), before[2]
            raise
        self.progressed = True

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A read-only transaction of the run's tenant on its connection."""
        async with self._connection.transaction(readonly=True):
            await bind_tenant(self._connection, self.key.tenant_id)
            yield self._connection

    async def _fence(self) -> bool:
        """Hold this run's row until the transaction ends; whether somebody asked it to stop."""
        row = await self._connection.fetchrow(_FENCE, self.id, self.attempt)
        if row is not None and not row["same_session"]:
            raise transaction_pooler()
        if row is None or self.already_finished is not None:
            raise TransientError(f"run {self.id} is no longer ours: another attempt has taken it up", reason="RunLost")
        return bool(row["cancelled"])

    def check_stop(self) -> None:
        """Leave when the soft limit or a signal came; call it between batches.

        Raises:
            TimeSliced: this attempt has committed something.
            SoftLimitReached: it has not.
        """
        if self._stop is None or not self._stop.should_stop:
            return
        if self.progressed:
            raise TimeSliced(f"stopped by {self._stop.cause}; the next attempt goes on from here")
        raise SoftLimitReached(f"stopped by {self._stop.cause} before anything was committed")

    async def finish(
        self,
        *,
        reason: str = "Done",
        message: str = "",
        result: Mapping[str, Any] | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Store the result and close the run; no run of this key starts again. One that has come this far is not cancelled.

        Args:
            reason, message: as in the Outcome.
            result: JSON-serialisable; `expires_at` is RAE_RESULT_TTL_DAYS (30) from now.
            connection: that of an open `batch`, to finish in its transaction.
        """
        if connection is not None:
            await self._store_finish(connection, reason, message, result)
            return
        async with self._connection.transaction():
            await self._fence()
            await self._store_finish(self._connection, reason, message, result)

    async def _store_finish(self, connection: Connection, reason: str, message: str, result: Mapping[str, Any] | None) -> None:
        days = result_ttl_days()
        await connection.execute(
            _FINISH, self.id, self.attempt, reason, message, dict(result or {}), int(ExitCode.DONE), self.counters, days
        )
        self._ended = True


def result_ttl_days() -> float:
    """RAE_RESULT_TTL_DAYS: how long a result is kept."""
    return number(os.environ, "RAE_RESULT_TTL_DAYS", _DEFAULT_TTL_DAYS, low=0.001, high=36500)


@asynccontextmanager
async def open_run(
    pool: Pool,
    key: RunKey,
    *,
    resource: Resource | Sequence[Resource] = (),
    arguments: Mapping[str, Any] | None = None,
    stop: StopSignal | None = None,
    wait: bool = False,
) -> AsyncIterator[Run]:
    """Hold a run of `key` for the block, and record how it ends.

    Args:
        pool: with room for two connections; the run keeps one for itself.
        key: identity.
        resource: what the run changes, one or several; none when it needs no exclusion.
        arguments: what the run was asked, for the record; no secret, no memory text.
        stop: asked by `Run.check_stop` and while waiting.
        wait: wait for locks rather than raise RunLocked.

    Raises:
        RunLocked: another session holds the key's or the resource's lock.
        RunCancelled: this run was cancelled, before or while it ran.
        ConfigError: a transaction pooler is in between.
        Also whatever the block raises, after it has been recorded.
    """
    async with pool.acquire() as connection:
        await prove_affinity(pool, connection)
        await connection.execute(_SESSION)
        try:
            resources = [resource] if isinstance(resource, Resource) else list(resource)
            run = await _take(connection, key, resources, arguments or {}, stop, wait)
            if run.already_finished is not None:
                yield run
                return
            try:
                with working(where_of(connection)):
                    yield run
                if not run._ended:
                    raise RuntimeError("the task left its run without finishing it")
            except Exception as error:
                await _record_failure(pool, run, error)
                raise
        finally:
            await _release(connection)


async def _take(
    connection: Connection,
    key: RunKey,
    resources: Sequence[Resource],
    arguments: Mapping[str, Any],
    stop: StopSignal | None,
    wait: bool,
) -> Run:
    own = Lock(key.lock_name, False, f"{key.task} of tenant {key.tenant_id}, slot {key.slot}")
    wanted = [own, *(lock for one in resources for lock in resource_locks(one, key.tenant_id, key.project))]
    for lock in wanted:
        await take(connection, lock, wait=wait, stop=stop)
    identity = (key.task, key.tenant_id, key.project, key.slot, key.shard)
    about = (await lock_key(connection, key.lock_name), dict(arguments))
    row = await connection.fetchrow(_TAKE, *identity, *about, *_origin(key), current().reopens)
    finished = None
    if row is None:
        row, finished = await _left_alone(connection, key, identity)
    return Run(row["id"], key, row["attempt"], row["cursor"], dict(row["counters"]), connection, stop, finished)


async def _left_alone(connection: Connection, key: RunKey, identity: tuple[Any, ...]) -> tuple[Record, Finished]:
    """The run that may not be taken up, when it had finished.

    Raises:
        RunCancelled: it had been cancelled.
    """
    row = await connection.fetchrow(_BEFORE, *identity)
    if row is None:
        raise TransientError(f"the ledger's row of {key.task} went away", reason="RunLost")
    if row["state"] != "finished":
        # The key's lock is ours, so nothing of it runs.
        await connection.execute(_STAY_CANCELLED, row["id"])
        raise _cancelled(row["id"], f"run {row['id']} of {key.task} was cancelled and is not taken up again")
    return row, Finished(row["reason"] or "Done", row["message"] or "", row["result"] or {}, row["counters"])


def _cancelled(run: UUID, message: str) -> RunCancelled:
    return RunCancelled(message, hint=f"to run it after all: rae-jobctl runs retry {run}")


def _origin(key: RunKey) -> tuple[Any, ...]:
    """Who runs it and what with: pod to version, command line, request."""
    request, about = read_request(), current()
    private = about.private or key.task in PRIVATE
    command = None if private or about.command is None else list(about.command)
    return (*_identity(request), __version__, command, None if private or request is None else request.as_json())


def _identity(request: Request | None) -> tuple[str | None, ...]:
    """Pod, Job, and the custom resource's kind, name and uid."""
    env = os.environ
    about = (request.kind, request.name, request.uid) if request else (None, None, None)
    return (env.get("RAE_POD_NAME") or None, env.get("RAE_JOB_NAME") or None, *about)


async def prove_affinity(pool: Pool, connection: Connection) -> None:
    """Two connections of ours must be two server processes, and ours must stay the same while the other is busy."""
    mine = await connection.fetchval("SELECT pg_backend_pid()")
    async with pool.acquire() as other, other.transaction(readonly=True):
        theirs = await other.fetchval("SELECT pg_backend_pid()")
        if theirs == mine or await connection.fetchval("SELECT pg_backend_pid()") != mine:
            raise transaction_pooler()


async def _release(connection: Connection) -> None:
    try:
        await connection.execute("SELECT pg_advisory_unlock_all()")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        # A lost connection: the server drops the locks with the session.
        get_logger().debug("locks_left_to_the_server")


async def _record_failure(pool: Pool, run: Run, error: Exception) -> None:
    state = "sliced" if isinstance(error, TimeSliced | BudgetExhausted) else "failed"
    # An unknown exception's text may quote a row, so its class and its frames stand for it.
    told = error if isinstance(error, TaskError) else TaskError(f"unexpected {type(error).__name__}")
    steps = None if told is error else "\n".join(frames(error))
    about = (told.reason, told.message, int(told.exit_code), type(error).__name__, steps)
    try:
        # Not on the run's connection, which may be what failed; id and attempt keep it from touching a later attempt's row.
        await pool.execute(_FAIL, run.id, run.attempt, state, *about, timeout=10)
    except Exception as second:
        get_logger().warning("failure_not_recorded", run=str(run.id), error_class=type(second).__name__)
