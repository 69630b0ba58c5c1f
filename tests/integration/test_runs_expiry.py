"""What the ledger lets go of, and what it keeps until somebody decides."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rae_jobctl.db.control import BATCH, Expired, dismiss_runs, expire_batch, expire_results
from rae_jobctl.db.history import find_run
from rae_jobctl.db.ledger import RunKey, open_run
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ConfigError
from tests.integration.ledger_runs import age, make_run, row_of
from tests.integration.memories import OTHER, TENANT, add_tenant, jobctl

if TYPE_CHECKING:
    from uuid import UUID

    from rae_jobctl.db.pool import Pool

MONTH = timedelta(days=31)
QUARTER = timedelta(days=91)


async def _expire(pool: Pool, tenant: UUID = TENANT) -> Expired:
    async with pool.acquire() as connection:
        return await expire_results(connection, tenant)


async def test_a_result_goes_when_its_time_is_over_and_its_run_stays_done(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    old, new = await make_run(pool, "finished"), await make_run(pool, "finished", "new")
    others = await make_run(pool, "finished", tenant=OTHER)
    for run in (old, others):
        await age(pool, run, MONTH)

    assert await _expire(pool) == Expired(results=1)
    assert await _expire(pool) == Expired()

    assert [(await row_of(pool, run))["result"] for run in (old, new, others)] == [None, {"kept": True}, {"kept": True}]
    assert "result: the result has expired" in jobctl(database_url, "runs", "show", str(old)).output
    shown = jobctl(database_url, "runs", "show", str(old), "-o", "json").json
    assert (shown["result_expired"], shown["result"], shown["status"]) == (True, None, "finished")
    assert jobctl(database_url, "runs", "show", str(new), "-o", "json").json["result_expired"] is False
    async with open_run(pool, RunKey("test-task", TENANT, "one")) as again:
        assert again.already_finished is not None
        assert again.already_finished.result == {}


@pytest.mark.parametrize("task", ["decay", "backfill-decay"])
async def test_what_later_runs_read_goes_with_the_whole_row_alone(pool: Pool, task: str) -> None:
    run = await make_run(pool, "finished", task=task)
    await age(pool, run, MONTH)
    assert await _expire(pool) == Expired()
    assert (await row_of(pool, run))["result"] == {"kept": True}
    await age(pool, run, QUARTER)
    assert await _expire(pool) == Expired(runs=1)


async def test_a_dead_letter_stays_whole_until_it_is_dismissed(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_run(pool, RunKey("test-task", TENANT, "one")) as run:
            _ = 1 / 0
    await age(pool, run.id, QUARTER)
    assert await _expire(pool) == Expired()
    assert "test_runs_expiry.py" in (await row_of(pool, run.id))["traceback"]

    async with pool.acquire() as connection:
        assert await dismiss_runs(connection, [await find_run(connection, str(run.id))]) == [run.id]
    assert await _expire(pool) == Expired(), "its time begins with the dismissal"
    await age(pool, run.id, MONTH)
    assert await _expire(pool) == Expired(results=1)
    assert (await row_of(pool, run.id))["traceback"] is None


@pytest.mark.parametrize(
    ("ending", "kept"),
    [("finished", False), ("sliced", False), ("cancelled", False), ("dismissed", False), ("failed", True), ("died", True)],
)
async def test_what_is_done_with_is_forgotten_after_a_quarter(pool: Pool, ending: str, kept: bool) -> None:
    run, young = await make_run(pool, "died"), await make_run(pool, "finished", "young")
    others = await make_run(pool, "finished", tenant=OTHER)
    state = "open" if ending == "died" else ending
    await pool.execute("UPDATE rae_jobs.task_runs SET state = $2 WHERE id = $1", run, state)
    await age(pool, young, timedelta(days=89))
    for one in (run, others):
        await age(pool, one, QUARTER)

    gone = await _expire(pool)

    left = [row["id"] for row in await pool.fetch("SELECT id FROM rae_jobs.task_runs")]
    assert gone.runs == int(not kept)
    assert set(left) == {young, others, *([run] if kept else [])}


async def test_a_run_that_is_alive_is_never_forgotten(pool: Pool) -> None:
    async with open_run(pool, RunKey("test-task", TENANT, "one")) as run:
        await age(pool, run.id, QUARTER)
        assert await _expire(pool) == Expired()
        await run.finish()


async def test_history_is_kept_for_ever_on_request(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAE_RUN_HISTORY_DAYS", "0")
    run = await make_run(pool, "finished")
    await age(pool, run, QUARTER * 40)
    assert await _expire(pool) == Expired(results=1)
    assert (await row_of(pool, run))["state"] == "finished"


@pytest.mark.parametrize("value", ["-1", "soon", "nan"])
async def test_a_history_of_no_number_of_days_is_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RAE_RUN_HISTORY_DAYS", value)
    with pytest.raises(ConfigError, match="RAE_RUN_HISTORY_DAYS"):
        await _expire(pool)


async def test_many_go_in_batches_and_a_stop_leaves_the_rest(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO rae_jobs.task_runs (task, tenant_id, slot, lock_key, state, version, result, expires_at) "
        "SELECT 't', $1, n::text, n, 'finished', '0', '{}', now() - interval '1 day' FROM generate_series(1, $2::int) AS n",
        TENANT,
        2 * BATCH + 500,
    )
    stopped = StopSignal()
    stopped.set("SIGTERM")
    async with pool.acquire() as connection:
        assert await expire_results(connection, TENANT, stopped) == Expired()
        # As a task calls it within the batch of its own run.
        async with connection.transaction():
            assert await expire_batch(connection, TENANT) == Expired(results=BATCH)
    assert await _expire(pool) == Expired(results=BATCH + 500)
