"""Runs for the tests of `rae-jobctl runs`: put into each state by what puts them there, and a decay slow enough to be met."""

from __future__ import annotations

import asyncio
import json
import subprocess
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from rae_jobctl.db.ledger import RunKey, open_run
from rae_jobctl.errors import BadDataError, TaskError, TimeSliced, TransientError
from tests.integration.memories import TENANT, Ended, jobctl, start_jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

#: A statement that changes memories takes so long that the batches of a decay become small, and many.
_SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
CREATE TRIGGER slow AFTER UPDATE ON memories FOR EACH STATEMENT EXECUTE FUNCTION slow();
"""
_ENDINGS: dict[str, TaskError | None] = {
    "finished": None,
    "failed": TransientError("away", reason="LlmUnreachable"),
    "dead": BadDataError("there is no project 'x'"),
    "sliced": TimeSliced("stopped by the soft limit"),
}


async def make_run(pool: Pool, ending: str, slot: str = "one", tenant: UUID = TENANT, task: str = "test-task") -> UUID:
    """A run that has ended so: finished, failed, dead (failed for good), sliced or died."""
    async with pool.acquire() as connection:
        key = RunKey(task, tenant, slot)
        if ending == "died":
            return UUID(
                str(
                    await connection.fetchval(
                        "INSERT INTO rae_jobs.task_runs (task, tenant_id, slot, lock_key, backend_pid, version) "
                        "VALUES ($1, $2, $3, hashtextextended($4, 0), 1, '0') RETURNING id",
                        task,
                        tenant,
                        slot,
                        key.lock_name,
                    )
                )
            )
    error = _ENDINGS[ending]
    with suppress(TaskError):
        async with open_run(pool, key) as run:
            if error is not None:
                raise error
            await run.finish(result={"kept": True})
    return run.id


async def row_of(pool: Pool, run: UUID) -> asyncpg.Record:
    """The ledger's row, with its status."""
    row = await pool.fetchrow(
        "SELECT t.*, r.status FROM rae_jobs.task_runs AS t JOIN rae_jobs.runs AS r ON r.id = t.id WHERE t.id = $1", run
    )
    assert row is not None
    return row


async def status_of(pool: Pool, run: UUID) -> str:
    return str((await row_of(pool, run))["status"])


async def age(pool: Pool, run: UUID, by: timedelta) -> None:
    """As if all of the run had been so much earlier."""
    await pool.execute(
        "UPDATE rae_jobs.task_runs SET created_at = created_at - $2::interval, started_at = started_at - $2, "
        "updated_at = updated_at - $2, finished_at = finished_at - $2, expires_at = expires_at - $2 WHERE id = $1",
        run,
        by,
    )


async def slow_down(pool: Pool) -> None:
    """Let every change of memories take a while."""
    await pool.execute(_SLOW)


async def speed_up(pool: Pool) -> None:
    await pool.execute("DROP TRIGGER slow ON memories")


async def decaying(pool: Pool, url: str, slot: str) -> tuple[subprocess.Popen[str], UUID]:
    """A real `decay` that has committed its first batch and has more to do."""
    process = start_jobctl(url, "decay", "--tenant", str(TENANT), "--slot", slot)
    for _ in range(300):
        run = await pool.fetchval(
            "SELECT id FROM rae_jobs.runs WHERE status = 'running' AND tenant_id = $1 AND counters ? 'decayed'", TENANT
        )
        if run is not None:
            return process, UUID(str(run))
        await asyncio.sleep(0.1)
    process.kill()
    raise AssertionError(f"it does not run: {process.communicate()}")


async def in_thread(url: str, *arguments: str, **env: str) -> Ended:
    """`rae-jobctl` to its end, while this loop goes on."""
    return await asyncio.to_thread(jobctl, url, *arguments, **env)


def lines_of(text: str) -> list[dict[str, Any]]:
    """The objects of an output of one a line."""
    return [json.loads(line) for line in text.splitlines()]
