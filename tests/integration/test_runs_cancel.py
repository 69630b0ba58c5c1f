"""`runs cancel` and `runs dismiss` on real processes and a real ledger."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from rae_jobctl.db.ledger import RunKey, open_run
from rae_jobctl.errors import RunCancelled, TransientError
from tests.integration.ledger_runs import age, decaying, in_thread, make_run, row_of, slow_down, speed_up, status_of
from tests.integration.memories import OTHER, TENANT, add_many, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

SLOT = "2026-11-24T02:00Z"
ROWS = 8000


async def _strengths(pool: Pool) -> list[int]:
    """Memories by how often they have been decayed: none, once, anything else."""
    row = await pool.fetchrow(
        """
        SELECT count(*) FILTER (WHERE abs(strength - s) < 1e-9) AS untouched,
               count(*) FILTER (WHERE abs(strength - 0.95 * s) < 1e-9) AS once,
               count(*) AS all
        FROM (
            SELECT strength, (substr(content, 8)::int % 997 + 1) / 1000.0 AS s FROM memories WHERE tenant_id = $1
        ) AS m
        """,
        TENANT,
    )
    assert row is not None
    return [row["untouched"], row["once"], row["all"] - row["untouched"] - row["once"]]


async def test_a_running_decay_is_cancelled_between_two_batches_and_a_retry_does_the_rest_once(
    pool: Pool, database_url: str
) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    await add_many(pool, ROWS, date(2026, 11, 23))
    await add_memories(pool, 3, OTHER, date(2026, 11, 23))
    others = await make_run(pool, "failed", tenant=OTHER)
    await slow_down(pool)
    process, run = await decaying(pool, database_url, SLOT)

    cancelled = await in_thread(database_url, "runs", "cancel", str(run)[:8])

    _, errors = process.communicate(timeout=60)
    assert cancelled.code == 0, cancelled.errors
    assert "is cancelled; it was running" in cancelled.output
    assert process.returncode == 65
    assert "error: stopped, as `rae-jobctl runs cancel` asked" in errors
    assert f"hint: to run it after all: rae-jobctl runs retry {run}" in errors
    row = await row_of(pool, run)
    assert (row["status"], row["reason"], row["exit_code"], row["failures"]) == ("cancelled", "RunCancelled", 65, 0)
    untouched, once, wrong = await _strengths(pool)
    assert (once, wrong) == (row["counters"]["decayed"], 0)
    assert untouched > 0
    assert await status_of(pool, others) == "failed"

    # The CronJob's next pod, with all tenants: this one is left alone, the others are done.
    again = await in_thread(database_url, "decay", "--slot", SLOT)
    assert again.code == 65
    assert "was cancelled and is not taken up again" in again.output
    assert (await row_of(pool, run))["attempt"] == 1
    assert (
        await pool.fetchval("SELECT count(*) FROM memories WHERE decayed_through = '2026-11-24' AND tenant_id = $1", OTHER) == 3
    )

    await speed_up(pool)
    retried = await in_thread(database_url, "runs", "retry", str(run))
    assert retried.code == 0, retried.errors
    assert f"{ROWS} memories decayed through 2026-11-24" in retried.output
    assert await _strengths(pool) == [0, ROWS, 0]
    row = await row_of(pool, run)
    assert (row["status"], row["attempt"], row["cancel_requested_at"]) == ("finished", 2, None)


async def test_a_cancel_that_does_not_wait_says_that_the_run_is_stopping(pool: Pool, database_url: str) -> None:
    async with open_run(pool, RunKey("test-task", TENANT, "one")) as run:
        impatient = await in_thread(database_url, "runs", "cancel", str(run.id), "--wait-seconds", "0", "-o", "json")
        assert impatient.code == 75
        assert "still is running after 0 s" in impatient.errors
        assert '"status": "running"' in impatient.output
        # It has done its last batch: what is done is done.
        await run.finish()
    assert await status_of(pool, run.id) == "finished"
    late = await in_thread(database_url, "runs", "cancel", str(run.id))
    assert (late.code, "has finished: there is nothing to cancel" in late.errors) == (65, True)


async def test_a_batch_of_a_run_that_is_to_stop_leaves_nothing(pool: Pool) -> None:
    with pytest.raises(RunCancelled):
        async with open_run(pool, RunKey("test-task", TENANT, "one")) as run:
            await pool.execute("UPDATE rae_jobs.task_runs SET cancel_requested_at = now() WHERE id = $1", run.id)
            async with run.batch() as connection:
                await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'half')", TENANT)
    assert await pool.fetchval("SELECT count(*) FROM tenants") == 0
    assert await status_of(pool, run.id) == "cancelled"


async def test_a_run_that_fails_while_it_is_asked_to_stop_is_cancelled(pool: Pool) -> None:
    with pytest.raises(TransientError):
        async with open_run(pool, RunKey("test-task", TENANT, "one")) as run:
            await pool.execute("UPDATE rae_jobs.task_runs SET cancel_requested_at = now() WHERE id = $1", run.id)
            raise TransientError("away", reason="LlmUnreachable")
    row = await row_of(pool, run.id)
    assert (row["status"], row["reason"], row["failures"]) == ("cancelled", "LlmUnreachable", 0)


async def test_a_run_that_is_killed_while_it_is_asked_to_stop_is_not_taken_up(pool: Pool) -> None:
    run = await make_run(pool, "died")
    await pool.execute("UPDATE rae_jobs.task_runs SET cancel_requested_at = now() WHERE id = $1", run)
    with pytest.raises(RunCancelled, match="not taken up again"):
        async with open_run(pool, RunKey("test-task", TENANT, "one")):
            pass
    assert await status_of(pool, run) == "cancelled"


@pytest.mark.parametrize("ending", ["died", "failed", "dead", "sliced"])
async def test_what_nobody_runs_is_cancelled_at_once_and_left_alone_by_a_later_attempt(
    pool: Pool, database_url: str, ending: str
) -> None:
    run, neighbour = await make_run(pool, ending), await make_run(pool, ending, "two")
    others = await make_run(pool, ending, tenant=OTHER)
    before = await status_of(pool, run)

    cancelled = jobctl(database_url, "runs", "cancel", str(run))

    assert cancelled.code == 0, cancelled.errors
    assert f"is cancelled; it was {before}" in cancelled.output
    assert "was cancelled before" in jobctl(database_url, "runs", "cancel", str(run)).output
    with pytest.raises(RunCancelled, match="was cancelled and is not taken up again") as caught:
        async with open_run(pool, RunKey("test-task", TENANT, "one")):
            pass
    assert f"rae-jobctl runs retry {run}" in str(caught.value.hint)
    assert [await status_of(pool, one) for one in (neighbour, others)] == [before, before]


@pytest.mark.parametrize("command", ["cancel", "dismiss", "retry", "watch"])
async def test_an_id_that_names_no_run_or_several_is_refused(pool: Pool, database_url: str, command: str) -> None:
    for last in (1, 2):
        await pool.execute(
            "INSERT INTO rae_jobs.task_runs (id, task, tenant_id, slot, lock_key, state, version) "
            "VALUES ($1, 't', $2, $3, 1, 'failed', '0')",
            UUID(f"aaaaaaaa-0000-0000-0000-00000000000{last}"),
            TENANT,
            str(last),
        )
    for text, words in (("bbbb", "no run has an id"), ("aaaa", "several runs have an id"), ("the-last", "is no id of a run")):
        refused = jobctl(database_url, "runs", command, text)
        assert (refused.code, words in refused.errors) == (65, True), refused.errors
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.task_runs WHERE state = 'failed'") == 2


async def test_dead_letters_are_listed_and_counted_until_they_are_dismissed(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    dead, fresh, finished = [await make_run(pool, ending, ending) for ending in ("dead", "failed", "finished")]
    lain = [await make_run(pool, ending, f"old {ending}") for ending in ("failed", "died", "sliced")]
    for run in lain:
        await age(pool, run, timedelta(minutes=61))

    listed = jobctl(database_url, "runs", "list", "--dead", "-o", "json")
    assert {UUID(run["id"]) for run in listed.list} == {dead, *lain}
    shown = jobctl(database_url, "runs", "list").output
    assert shown.splitlines()[-1] == "4 dead letters: `rae-jobctl runs list --dead`"

    preview = jobctl(database_url, "runs", "dismiss", str(dead), "--dry-run")
    assert "would be dismissed; it was failed, BadData" in preview.output
    dismissed = jobctl(database_url, "runs", "dismiss", str(dead), str(lain[1])[:13])
    assert dismissed.code == 0, dismissed.errors
    assert dismissed.output.count("is dismissed") == 2
    assert {UUID(run["id"]) for run in jobctl(database_url, "runs", "list", "--dead", "-o", "json").list} == {lain[0], lain[2]}
    assert [await status_of(pool, one) for one in (fresh, finished)] == ["failed", "finished"]
    assert "nothing to dismiss" in jobctl(database_url, "runs", "dismiss", str(dead)).output


async def test_a_dismissed_run_may_still_be_run_by_a_later_attempt(pool: Pool, database_url: str) -> None:
    run = await make_run(pool, "dead")
    assert jobctl(database_url, "runs", "dismiss", str(run)).code == 0
    async with open_run(pool, RunKey("test-task", TENANT, "one")) as again:
        assert (again.id, again.attempt) == (run, 2)
        await again.finish()
    assert await status_of(pool, run) == "finished"


async def test_dismissal_by_task_tenant_and_date_takes_dead_letters_alone(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    old, new, elsewhere = [await make_run(pool, "dead", slot) for slot in ("old", "new", "elsewhere")]
    others, fresh = await make_run(pool, "dead", tenant=OTHER), await make_run(pool, "failed", "fresh")
    await pool.execute("UPDATE rae_jobs.task_runs SET task = 'another-task' WHERE id = $1", elsewhere)
    for run in (old, elsewhere, others):
        await age(pool, run, timedelta(days=3))
    day = str(await pool.fetchval("SELECT (now() - interval '2 days')::date"))
    command = ("runs", "dismiss", "--task", "test-task", "--tenant", "demo-tenant", "--before", day, "-o", "json")

    assert jobctl(database_url, *command, "--dry-run").json["dismissed"] == [str(old)]
    assert await status_of(pool, old) == "failed"
    assert jobctl(database_url, *command).json["dismissed"] == [str(old)]
    assert await status_of(pool, old) == "dismissed"
    assert {await status_of(pool, one) for one in (new, elsewhere, others, fresh)} == {"failed"}


@pytest.mark.parametrize("ending", ["finished", "cancelled", "running"])
async def test_nothing_is_dismissed_when_one_of_the_runs_is_no_dead_letter(pool: Pool, database_url: str, ending: str) -> None:
    dead = await make_run(pool, "dead", "dead")
    if ending == "running":
        async with open_run(pool, RunKey("test-task", TENANT, "one")) as held:
            refused = await in_thread(database_url, "runs", "dismiss", str(dead), str(held.id))
            await held.finish()
    else:
        run = await make_run(pool, "finished" if ending == "finished" else "failed")
        if ending == "cancelled":
            assert jobctl(database_url, "runs", "cancel", str(run)).code == 0
        refused = jobctl(database_url, "runs", "dismiss", str(dead), str(run))
    assert refused.code == 65
    assert f"is {ending}: only one that failed" in refused.errors
    assert await status_of(pool, dead) == "failed"


@pytest.mark.parametrize("words", [(), ("aaaa", "--task", "decay"), ("--before", "yesterday")])
def test_a_dismissal_that_says_too_little_or_too_much_is_wrong_usage(words: tuple[str, ...]) -> None:
    assert jobctl("", "runs", "dismiss", *words).code == 64
