"""`runs retry`: that very run once more, from what the ledger keeps of it; and what the ledger must never keep."""

from __future__ import annotations

import json
import shlex
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from rae_jobctl.db.ledger import RunKey, open_run
from rae_jobctl.provenance import began
from tests.integration.ledger_runs import in_thread, make_run, row_of, status_of
from tests.integration.memories import OTHER, TENANT, Ended, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

SECRET = "the-text-of-a-memory"
# As a trigger of an installation may: it keeps contents once, and the second of the same is an error that quotes it.
_BREAK = """
CREATE TABLE seen (content text UNIQUE);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO seen SELECT NEW.content FROM generate_series(1, 2); RETURN NEW; END $$;
CREATE TRIGGER note BEFORE UPDATE ON memories FOR EACH ROW EXECUTE FUNCTION note();
"""


async def _failed_decay(pool: Pool, url: str, *flags: str) -> tuple[Ended, dict[str, Any]]:
    await add_tenant(pool)
    await add_memories(pool, 3, through=date(2026, 11, 23), content=SECRET, strength=1.0)
    await pool.execute(_BREAK)
    ended = await in_thread(url, "decay", "--slot", "2026-11-24T02:00Z", *flags)
    (run,) = jobctl(url, "runs", "list", "-o", "json").list
    return ended, run


async def test_an_error_that_quotes_a_row_reaches_neither_the_ledger_nor_the_log(pool: Pool, database_url: str) -> None:
    ended, run = await _failed_decay(pool, database_url)

    assert ended.code == 1
    assert (run["status"], run["error_class"], run["message"]) == (
        "failed",
        "UniqueViolationError",
        "unexpected UniqueViolationError",
    )
    assert "walk.py" in run["traceback"]
    shown = jobctl(database_url, "runs", "show", run["id"])
    for text in (ended.output, ended.errors, json.dumps(run), shown.output, str(dict(await row_of(pool, run["id"])))):
        assert SECRET not in text
    assert "unexpected_error" in ended.errors


async def test_a_failed_run_of_all_tenants_is_retried_for_its_own_tenant_from_a_terminal(pool: Pool, database_url: str) -> None:
    _, run = await _failed_decay(pool, database_url, "--output", "json")
    assert run["command"] == ["decay", "--slot", "2026-11-24T02:00Z", "--output", "json"]
    await pool.execute("DROP TRIGGER note ON memories")
    await add_tenant(pool, OTHER, "other")
    (theirs,) = await add_memories(pool, 1, OTHER, date(2026, 11, 23))

    dry = jobctl(database_url, "runs", "retry", run["id"], "--dry-run")
    assert dry.output.strip() == f"rae-jobctl decay --output json --tenant {TENANT} --slot 2026-11-24T02:00Z"
    assert await status_of(pool, run["id"]) == "failed"

    retried = jobctl(database_url, "runs", "retry", run["id"][:8])

    assert retried.code == 0, retried.errors
    assert retried.json["runs"] == [run["id"]]
    assert retried.json["counters"]["decayed"] == 3
    row = await row_of(pool, run["id"])
    assert (row["status"], row["attempt"], row["error_class"], row["traceback"]) == ("finished", 2, None, None)
    assert row["command"] == shlex.split(dry.output)[1:]
    assert await pool.fetchval("SELECT decayed_through FROM memories WHERE id = $1", theirs) == date(2026, 11, 23)

    second = jobctl(database_url, "runs", "retry", run["id"])
    assert (second.code, "has finished, and is done only once" in second.errors) == (65, True)


async def test_a_retry_that_fails_again_leaves_with_the_code_of_the_task(pool: Pool, database_url: str) -> None:
    _, run = await _failed_decay(pool, database_url)

    retried = jobctl(database_url, "runs", "retry", run["id"], "-o", "json")

    assert (retried.code, retried.json["exitCode"]) == (1, 1)
    row = await row_of(pool, run["id"])
    assert (row["status"], row["attempt"], row["failures"]) == ("failed", 2, 2)


async def test_a_run_without_a_slot_of_its_own_keeps_its_day_when_it_is_retried(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    await add_memories(pool, 2, through=date(2026, 11, 20))
    slot = "once:2026-11-21T23:59:30Z:0123456789abcdef"
    run = await make_run(pool, "failed", slot, task="decay")
    await pool.execute("UPDATE rae_jobs.task_runs SET command = '{decay}' WHERE id = $1", run)

    retried = jobctl(database_url, "runs", "retry", str(run), "-o", "json")

    assert retried.code == 0, retried.errors
    assert retried.json["result"]["tenants"][0]["day"] == "2026-11-21"
    assert await pool.fetchval("SELECT max(decayed_through) FROM memories") == date(2026, 11, 21)


@pytest.mark.parametrize("state", ["cancelled", "dismissed", "died", "sliced"])
async def test_whatever_has_not_finished_can_be_retried(pool: Pool, database_url: str, state: str) -> None:
    await add_tenant(pool)
    ending = state if state in ("died", "sliced") else "failed"
    run = await make_run(pool, ending, "cron:2026-11-24T02:00Z", task="decay")
    await pool.execute("UPDATE rae_jobs.task_runs SET command = '{decay}' WHERE id = $1", run)
    if state in ("cancelled", "dismissed"):
        assert jobctl(database_url, "runs", state.removesuffix("led").removesuffix("ed"), str(run)).code == 0
    assert await status_of(pool, run) == state
    assert jobctl(database_url, "runs", "retry", str(run)).code == 0
    assert await status_of(pool, run) == "finished"


async def test_the_run_of_a_request_is_retried_with_the_request_that_it_had(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    memory, uid = uuid4(), str(uuid4())
    spec = {"tenantId": "demo-tenant", "project": "p", "memoryIds": [str(memory)], "minConfidence": 0.5}
    request = {"kind": "GraphExtractionRequest", "name": "some", "namespace": "rae", "uid": uid, "attempt": 2, "spec": spec}
    env = {"RAE_LLM_PROVIDER": "local"}
    ended = jobctl(database_url, "extract-graph", RAE_REQUEST=json.dumps(request), **env)
    assert ended.code == 65, ended.errors
    (run,) = jobctl(database_url, "runs", "list", "--dead", "-o", "json").list
    assert (run["request"], run["command"], run["slot"]) == (request, ["extract-graph"], uid)
    variable, *command = shlex.split(jobctl(database_url, "runs", "retry", run["id"], "--dry-run").output)
    assert json.loads(variable.removeprefix("RAE_REQUEST=")) == request
    assert command == ["rae-jobctl", "extract-graph", "--tenant", str(TENANT)]
    await add_memories(pool, 1, id=memory, content="Ada Lovelace works at Analytical Engines in London.")

    # The variable of the process that retries is not the run's.
    elsewhere = json.dumps({**request, "uid": str(uuid4()), "spec": {}})
    retried = jobctl(database_url, "runs", "retry", run["id"], "-o", "json", RAE_REQUEST=elsewhere, **env)

    assert retried.code == 0, retried.errors
    assert retried.json["runs"] == [run["id"]]
    shown = jobctl(database_url, "runs", "show", run["id"], "-o", "json").json
    assert (shown["status"], shown["request_uid"], shown["request"]) == ("finished", uid, request)


async def test_a_step_of_the_daily_chain_is_retried_by_the_chain_which_leaves_alone_what_is_done(
    pool: Pool, database_url: str
) -> None:
    await add_tenant(pool)
    await add_memories(pool, 3, through=date(2026, 11, 23), content=SECRET, strength=1.0, importance=0.5)
    assert jobctl(database_url, "decay", "--importance", "--slot", "2026-11-24T02:00Z").code == 0
    await pool.execute(_BREAK)
    assert jobctl(database_url, "run-maintenance", "--slot", "2026-11-24T02:00Z").code == 75
    failed = jobctl(database_url, "runs", "list", "--task", "decay", "-o", "json").list[0]
    assert (failed["status"], failed["command"]) == ("failed", ["run-maintenance", "--slot", "2026-11-24T02:00Z"])
    await pool.execute("DROP TRIGGER note ON memories")

    retried = jobctl(database_url, "runs", "retry", failed["id"])

    assert retried.code == 0, retried.errors + retried.output
    assert await status_of(pool, failed["id"]) == "finished"
    assert "AlreadyDone" in retried.output


async def test_a_run_whose_command_takes_no_slot_is_retried_by_what_it_was_asked_for(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    run = await make_run(pool, "failed", "2026-10-01..2026-10-09", task="backfill-decay")
    command = ["backfill", "decay", "--from", "2026-10-01", "--to", "2026-10-09"]
    await pool.execute("UPDATE rae_jobs.task_runs SET command = $2 WHERE id = $1", run, command)

    dry = jobctl(database_url, "runs", "retry", str(run), "--dry-run")
    assert dry.output.strip() == f"rae-jobctl {shlex.join(command)} --tenant {TENANT}"
    retried = jobctl(database_url, "runs", "retry", str(run))

    assert retried.code == 0, retried.errors
    assert await status_of(pool, run) == "finished"


async def test_a_running_run_is_not_retried(pool: Pool, database_url: str) -> None:
    async with open_run(pool, RunKey("decay", TENANT, "one")) as run:
        refused = await in_thread(database_url, "runs", "retry", str(run.id))
        await run.finish()
    assert (refused.code, "is running" in refused.errors) == (65, True)


async def test_a_run_whose_command_line_is_not_kept_is_refused_with_the_way_by_hand(pool: Pool, database_url: str) -> None:
    run = await make_run(pool, "failed", "cron:2026-11-24T02:00Z", task="decay")

    refused = jobctl(database_url, "runs", "retry", str(run))

    assert (refused.code, "does not hold its whole command line" in refused.errors) == (65, True)
    assert f"by hand: rae-jobctl decay --tenant {TENANT} --slot 2026-11-24T02:00Z" in refused.errors


async def test_a_shard_that_its_command_line_does_not_name_is_refused(pool: Pool, database_url: str) -> None:
    run = await make_run(pool, "failed", task="extract-graph")
    await pool.execute("UPDATE rae_jobs.task_runs SET command = '{extract-graph,--pending}', shard = 3 WHERE id = $1", run)

    refused = jobctl(database_url, "runs", "retry", str(run))

    assert (refused.code, "is shard 3 of a run" in refused.errors) == (65, True)


async def test_a_command_line_that_runs_something_else_is_told(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    run = await make_run(pool, "failed", "one", task="some-step")
    await pool.execute("UPDATE rae_jobs.task_runs SET command = '{decay}' WHERE id = $1", run)

    ended = jobctl(database_url, "runs", "retry", str(run))

    assert (ended.code, "is still failed" in ended.errors) == (65, True)
    assert await status_of(pool, run) == "failed"


async def test_of_an_erasure_neither_arguments_nor_request_are_kept(
    pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = "ada@example.com"
    request = {"kind": "TaskRequest", "name": "n", "namespace": "rae", "uid": "u-1", "spec": {"user": person}}
    monkeypatch.setenv("RAE_REQUEST", json.dumps(request))
    began(("erase-user", "--user", person))
    with pytest.raises(ZeroDivisionError):
        async with open_run(pool, RunKey("erase-user", TENANT, "one")) as run:
            _ = 1 / 0
    began(("run-maintenance", "--user", person))
    with pytest.raises(ZeroDivisionError):
        async with open_run(pool, RunKey("erase-user", TENANT, "two")):
            _ = 1 / 0
    assert person not in str(await pool.fetch("SELECT t.*::text FROM rae_jobs.task_runs AS t"))
    refused = jobctl(database_url, "runs", "retry", str(run.id))
    assert (refused.code, "its arguments are kept nowhere" in refused.errors) == (65, True)
    assert "run `rae-jobctl erase-user` again with its arguments" in refused.errors
