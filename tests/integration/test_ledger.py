"""The ledger on a real PostgreSQL: one finished run a key, resumed runs, locks, fencing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from rae_jobctl.db.history import Filter, list_runs
from rae_jobctl.db.ledger import Run, RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.db.pool import open_pool
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BadDataError, ConfigError, RunLocked, SoftLimitReached, TimeSliced, TransientError
from rae_jobctl.settings import DatabaseSettings
from tests.integration.memories import OTHER, TENANT

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

KEY = RunKey("test-task", TENANT, "2026-11-24")
SECRET = "the text of a memory"


async def _row(pool: Pool, run: Run) -> asyncpg.Record:
    row = await pool.fetchrow("SELECT * FROM rae_jobs.runs WHERE id = $1", run.id)
    assert row is not None
    return row


async def _step(run: Run, cursor: int, **counters: int) -> None:
    async with run.batch():
        run.cursor = {"at": cursor}
        run.counters.update(counters)


async def test_a_finished_run_is_refused_a_second_time_and_gives_its_result(pool: Pool) -> None:
    async with open_run(pool, KEY) as run:
        await _step(run, 1, done=3)
        await run.finish(message="three", result={"triples": [1, 2, 3]})
    async with open_run(pool, KEY) as again:
        assert again.already_finished is not None
        assert again.already_finished.result == {"triples": [1, 2, 3]}
        assert again.already_finished.counters == {"done": 3}
        with pytest.raises(TransientError, match="no longer ours"):
            await _step(again, 2)
    assert (await _row(pool, run))["attempt"] == 1


async def test_a_run_that_failed_is_taken_up_where_it_committed(pool: Pool) -> None:
    with pytest.raises(TransientError):
        async with open_run(pool, KEY) as first:
            await _step(first, 1, done=1)
            raise TransientError("away", reason="LlmUnreachable")
    row = await _row(pool, first)
    assert (row["status"], row["reason"], row["exit_code"], row["failures"]) == ("failed", "LlmUnreachable", 75, 1)
    async with open_run(pool, KEY) as second:
        assert (second.id, second.attempt, second.cursor, second.counters) == (first.id, 2, {"at": 1}, {"done": 1})
        await second.finish()
    row = await _row(pool, first)
    assert (row["status"], row["reason"], row["traceback"]) == ("finished", "Done", None)


async def test_a_batch_that_fails_leaves_rows_cursor_and_counters_as_they_were(pool: Pool) -> None:
    async with open_run(pool, KEY) as run:
        await _step(run, 1, done=1)
        with pytest.raises(ZeroDivisionError):
            async with run.batch() as connection:
                await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'half')", TENANT)
                run.cursor, run.counters["done"] = {"at": 2}, 2
                _ = 1 / 0
        assert (run.cursor, run.counters) == ({"at": 1}, {"done": 1})
        assert await pool.fetchval("SELECT count(*) FROM tenants") == 0
        await run.finish()


async def test_a_slice_is_no_failure_and_one_that_did_nothing_is(pool: Pool) -> None:
    stop = StopSignal()
    with pytest.raises(TimeSliced):
        async with open_run(pool, KEY, stop=stop) as run:
            await _step(run, 1)
            stop.set("SIGTERM")
            run.check_stop()
    assert [(await _row(pool, run))[name] for name in ("status", "failures")] == ["sliced", 0]
    with pytest.raises(SoftLimitReached):
        async with open_run(pool, KEY, stop=stop) as run:
            run.check_stop()
    assert [(await _row(pool, run))[name] for name in ("status", "failures")] == ["failed", 1]


async def test_a_finish_within_a_batch_is_one_with_its_rows(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_run(pool, KEY) as run, run.batch() as connection:
            await run.finish(connection=connection)
            _ = 1 / 0
    assert (await _row(pool, run))["status"] == "failed"


async def test_an_unknown_error_is_recorded_by_class_and_place_without_its_text(pool: Pool) -> None:
    with pytest.raises(ValueError, match=SECRET):
        async with open_run(pool, KEY) as run:
            raise ValueError(SECRET)
    row = await _row(pool, run)
    assert (row["error_class"], row["reason"], row["exit_code"]) == ("ValueError", "Unexpected", 1)
    assert "test_ledger.py" in row["traceback"]
    assert SECRET not in str(dict(row))


async def test_an_error_of_the_server_is_recorded_without_the_row_that_it_quotes(pool: Pool) -> None:
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        async with open_run(pool, KEY) as run, run.batch() as connection:
            await connection.execute(f"SELECT '{SECRET}'::uuid")
    assert SECRET not in str(dict(await _row(pool, run)))


async def test_a_rival_of_the_same_key_is_refused_and_shown_as_locked(pool: Pool) -> None:
    async with open_run(pool, KEY) as run:
        assert (await _row(pool, run))["status"] == "running"
        with pytest.raises(RunLocked, match="another run is at work"):
            async with open_run(pool, KEY):
                pass
        await run.finish()
    assert (await _row(pool, run))["attempt"] == 1


async def test_a_rival_that_waits_gets_its_turn(pool: Pool) -> None:
    async def second() -> Run:
        async with open_run(pool, KEY, wait=True, stop=StopSignal()) as run:
            assert run.already_finished is not None
            return run

    async with open_run(pool, KEY) as run:
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await run.finish()
    assert (await asyncio.wait_for(waiting, 20)).id == run.id


async def test_waiting_ends_when_the_soft_limit_comes(pool: Pool) -> None:
    async with open_run(pool, KEY) as run:
        with pytest.raises(SoftLimitReached):
            async with open_run(pool, KEY, wait=True, stop=StopSignal(0.1)):
                pass
        await run.finish()


EXCLUSIVE, SHARED, MEMORIES = Resource("graph", "exclusive"), Resource("graph", "shared"), Resource("memories", "exclusive")


@pytest.mark.parametrize(
    ("held", "wanted", "free"),
    [
        (("p", EXCLUSIVE), ("p", SHARED), False),
        (("p", SHARED), ("p", EXCLUSIVE), False),
        (("p", SHARED), ("p", SHARED), True),
        (("p", EXCLUSIVE), ("q", EXCLUSIVE), True),
        (("", EXCLUSIVE), ("q", SHARED), False),
        (("q", SHARED), ("", EXCLUSIVE), False),
        (("p", EXCLUSIVE), ("p", MEMORIES), True),
    ],
)
async def test_runs_exclude_each_other_by_the_resource_that_they_change(
    pool: Pool, held: tuple[str, Resource], wanted: tuple[str, Resource], free: bool
) -> None:
    first = RunKey("resolve", TENANT, "a", project=held[0])
    second = RunKey("extract", TENANT, "b", project=wanted[0])
    async with open_run(pool, first, resource=held[1]) as run:
        if free:
            async with open_run(pool, second, resource=wanted[1]) as other:
                await other.finish()
        else:
            with pytest.raises(RunLocked, match=f"at work on {wanted[1].kind} of tenant"):
                async with open_run(pool, second, resource=wanted[1]):
                    pass
        await run.finish()
    async with open_run(pool, RunKey("extract", TENANT, "c", project=wanted[0]), resource=wanted[1]) as freed:
        await freed.finish()


async def test_the_other_tenant_is_not_held_up(pool: Pool) -> None:
    async with open_run(pool, KEY, resource=EXCLUSIVE) as run:
        async with open_run(pool, RunKey(KEY.task, OTHER, KEY.slot), resource=EXCLUSIVE) as other:
            assert other.id != run.id
            await other.finish()
        await run.finish()


async def test_a_run_whose_session_is_ended_writes_no_more_and_ends_as_transient(pool: Pool) -> None:
    with pytest.raises(TransientError, match="lost the connection"):
        async with open_run(pool, KEY) as run:
            await _step(run, 1)
            await pool.execute("SELECT pg_terminate_backend(backend_pid) FROM rae_jobs.task_runs WHERE id = $1", run.id)
            await _step(run, 2)
    row = await _row(pool, run)
    assert (row["status"], row["cursor"]) == ("failed", {"at": 1})
    async with open_run(pool, KEY) as again:
        assert again.cursor == {"at": 1}
        await again.finish()


async def test_a_run_that_another_attempt_has_taken_up_is_fenced_off(pool: Pool) -> None:
    with pytest.raises(TransientError, match="no longer ours") as caught:
        async with open_run(pool, KEY) as run:
            await pool.execute("UPDATE rae_jobs.task_runs SET attempt = attempt + 1 WHERE id = $1", run.id)
            await _step(run, 1)
    assert caught.value.reason == "RunLost"
    assert (await _row(pool, run))["state"] == "open", "the late attempt must not touch the row of the one after it"


async def test_a_run_in_a_session_that_is_not_its_own_is_a_configuration_error(pool: Pool) -> None:
    with pytest.raises(ConfigError, match="transaction pooler") as caught:
        async with open_run(pool, KEY) as run:
            await pool.execute("UPDATE rae_jobs.task_runs SET backend_pid = 1 WHERE id = $1", run.id)
            await _step(run, 1)
    assert "RAE_DATABASE_DIRECT_URL" in str(caught.value.hint)


async def test_an_open_run_without_its_lock_shows_as_died(database_url: str, pool: Pool) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.close()
    await pool.execute(
        "INSERT INTO rae_jobs.task_runs (task, tenant_id, slot, lock_key, backend_pid, version) VALUES ('t', $1, 's', 1, 1, '0')",
        TENANT,
    )
    async with pool.acquire() as reading:
        assert [run.status for run in await list_runs(reading, Filter(status="died"))] == ["died"]


async def test_who_runs_it_is_recorded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = str(uuid4())
    monkeypatch.setenv("RAE_POD_NAME", "decay-1-abcde")
    monkeypatch.setenv("RAE_JOB_NAME", "decay-1")
    monkeypatch.setenv(
        "RAE_REQUEST", f'{{"kind": "ReflectionRequest", "name": "weekly", "namespace": "n", "uid": "{uid}", "spec": {{}}}}'
    )
    arguments: dict[str, Any] = {"limit": 5}
    async with open_run(pool, KEY, arguments=arguments) as run:
        await run.finish()
    row = await _row(pool, run)
    names = ("pod", "job", "request_kind", "request_name", "request_uid", "arguments")
    assert [row[name] for name in names] == ["decay-1-abcde", "decay-1", "ReflectionRequest", "weekly", uid, arguments]


async def test_a_run_works_with_the_smallest_pool(database_url: str) -> None:
    async with open_pool(DatabaseSettings(database_url, pool_size=1), "test") as small, open_run(small, KEY) as run:
        await _step(run, 1)
        await run.finish()


async def test_a_permanent_failure_keeps_its_message_for_the_person_who_retries_it(pool: Pool) -> None:
    with pytest.raises(BadDataError):
        async with open_run(pool, KEY) as run:
            raise BadDataError("there is no project 'x'")
    row = await _row(pool, run)
    assert (row["exit_code"], row["message"], row["error_class"]) == (65, "there is no project 'x'", "BadDataError")
