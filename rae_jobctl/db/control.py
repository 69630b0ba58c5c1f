"""Changing the ledger by hand: stop a run, lay a dead letter aside, let results and old rows go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.db.history import RunRecord, get_run
from rae_jobctl.db.ledger import result_ttl_days
from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.errors import BadDataError
from rae_jobctl.settings import number

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection
    from rae_jobctl.deadline import StopSignal

#: Rows of one transaction.
BATCH = 1000
#: Tasks whose next runs read what the last ones found (days, never a text): their results go with the whole row.
REMEMBERING = ("decay", "decay-importance", "backfill-decay")
_POLL_SECONDS = 0.5
_HISTORY_DAYS = 90

_ASK_TO_STOP = """
UPDATE rae_jobs.task_runs
SET cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = $1 AND state NOT IN ('finished', 'cancelled')
"""

# What nobody runs is cancelled at once. The attempt is compared because one may begin between the look and the change.
_SETTLE = """
UPDATE rae_jobs.task_runs AS t
SET state = 'cancelled', reason = coalesce(t.reason, 'RunCancelled'),
    finished_at = coalesce(t.finished_at, now()), updated_at = now(),
    expires_at = now() + make_interval(secs => 86400 * $2::float8)
FROM rae_jobs.runs AS r
WHERE t.id = $1
  AND r.id = t.id
  AND r.attempt = t.attempt
  AND r.status IN ('died', 'failed', 'sliced', 'dismissed')
  AND t.cancel_requested_at IS NOT NULL
"""

_DISMISS = """
UPDATE rae_jobs.task_runs AS t
SET state = 'dismissed', finished_at = coalesce(t.finished_at, now()), updated_at = now(),
    expires_at = now() + make_interval(secs => 86400 * $2::float8)
FROM rae_jobs.runs AS r
WHERE t.id = ANY ($1)
  AND r.id = t.id
  AND r.attempt = t.attempt
  AND t.state = r.state
  AND r.status IN ('died', 'failed', 'sliced')
RETURNING t.id
"""

_EXPIRE_RESULTS = """
UPDATE rae_jobs.task_runs
SET result = NULL, traceback = NULL, expires_at = NULL
WHERE id = ANY (ARRAY(
    SELECT id
    FROM rae_jobs.task_runs
    WHERE tenant_id = $1
      AND expires_at < now()
      AND state <> 'open'
      AND task <> ALL ($3)
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))
"""

# The oldest first, since a later run may say what became of what an earlier one left. A dismissal counts as its run's end.
# started_at is never after updated_at: it is there for the index.
_FORGET_RUNS = """
DELETE FROM rae_jobs.task_runs
WHERE id = ANY (ARRAY(
    SELECT id
    FROM rae_jobs.task_runs
    WHERE tenant_id = $1
      AND started_at < now() - make_interval(secs => 86400 * $3::float8)
      AND updated_at < now() - make_interval(secs => 86400 * $3::float8)
      AND state IN ('finished', 'cancelled', 'dismissed', 'sliced')
    ORDER BY started_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))
"""


@dataclass(frozen=True)
class Expired:
    """What was let go: `results` (with their tracebacks), and `runs`, whole rows of the ledger."""

    results: int = 0
    runs: int = 0

    def __add__(self, other: Expired) -> Expired:
        return Expired(self.results + other.results, self.runs + other.runs)


async def cancel_run(connection: Connection, run_id: UUID, wait_seconds: float) -> RunRecord:
    """Ask a run to stop, and wait for its end; one that nobody runs is cancelled at once.

    Args:
        connection: free.
        run_id: of the ledger.
        wait_seconds: how long to wait for the run's next batch.

    Returns:
        The run as it is then: cancelled, finished (it was faster), or still running.

    Raises:
        TransientError: its batch under way did not end in that time.
    """
    end = time.monotonic() + wait_seconds
    async with connection.transaction():
        # The run's own batch holds the row.
        await connection.execute("SELECT set_config('lock_timeout', $1, true)", str(int(max(1.0, wait_seconds) * 1000)))
        await connection.execute(_ASK_TO_STOP, run_id)
    while True:
        await connection.execute(_SETTLE, run_id, result_ttl_days())
        run = await get_run(connection, run_id)
        if run.status != "running" or time.monotonic() >= end:
            return run
        await asyncio.sleep(min(_POLL_SECONDS, max(0.0, end - time.monotonic())))


def require_dismissible(runs: Sequence[RunRecord]) -> None:
    """Refuse what is no dead letter and cannot become one.

    Raises:
        BadDataError: one is running, finished or cancelled.
    """
    for run in runs:
        if run.status in ("running", "finished", "cancelled"):
            raise BadDataError(
                f"run {run.id} is {run.status}: only one that failed, died or was left in the middle can be dismissed",
                reason="RunNotDead",
                hint="`rae-jobctl runs list --dead` lists what waits for a decision",
            )


async def dismiss_runs(connection: Connection, runs: Sequence[RunRecord]) -> list[UUID]:
    """Lay runs aside that failed or died: no dead letters any more. A later attempt of the same key may still run them.

    Returns:
        Ids of those dismissed; one that was dismissed before, or that an attempt has taken up meanwhile, is not among them.

    Raises:
        BadDataError: one is running, finished or cancelled; none is dismissed then.
    """
    require_dismissible(runs)
    rows = await connection.fetch(_DISMISS, [run.id for run in runs], result_ttl_days())
    return [row["id"] for row in rows]


def history_days() -> float:
    """RAE_RUN_HISTORY_DAYS: how long the ledger keeps what is done with; 0 is for ever."""
    return number(os.environ, "RAE_RUN_HISTORY_DAYS", _HISTORY_DAYS, low=0, high=36500)


async def expire_batch(connection: Connection, tenant_id: UUID) -> Expired:
    """One batch of `expire_results`, in the transaction that is open on `connection`.

    Returns:
        Counts; nothing is left when both are below BATCH.
    """
    results = _count(await connection.execute(_EXPIRE_RESULTS, tenant_id, BATCH, list(REMEMBERING)))
    days = history_days()
    runs = _count(await connection.execute(_FORGET_RUNS, tenant_id, BATCH, days)) if days else 0
    return Expired(results, runs)


async def expire_results(connection: Connection, tenant_id: UUID, stop: StopSignal | None = None) -> Expired:
    """Let go of a tenant's results whose time is over, and of runs that are older than RAE_RUN_HISTORY_DAYS.

    A result is kept RAE_RESULT_TTL_DAYS from the end of its run. What failed or died stays whole until it is retried or
    dismissed. A run that has been let go of is forgotten: its slot would run again.

    Args:
        connection: free; each batch of at most BATCH rows is a transaction.
        tenant_id: whose runs; UUID(int=0) is the runs over all tenants.
        stop: asked between batches; what is left then waits for the next time.

    Raises:
        ConfigError: a number of days is none.
    """
    total = Expired()
    while stop is None or not stop.should_stop:
        async with tenant_transaction(connection, tenant_id):
            gone = await expire_batch(connection, tenant_id)
        total += gone
        if max(gone.results, gone.runs) < BATCH:
            break
    return total


def _count(status: str) -> int:
    return int(status.rsplit(" ", 1)[-1])
