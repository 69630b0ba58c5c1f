"""The daily chain in one run."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ConfigError, ExitCode, SoftLimitReached, TimeSliced, TransientError
from rae_jobctl.outcome import Outcome
from rae_jobctl.tasks.maintenance import Step, run_steps
from tests.integration.memories import OTHER, TENANT, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

SLOT = ("--slot", "2026-11-24T02:00+00:00")


async def test_every_step_runs_and_has_its_own_runs(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, through=date(2026, 11, 23), created_at=datetime(2026, 11, 1, tzinfo=UTC))
    await add_memories(pool, created_at=datetime(2020, 1, 1, tzinfo=UTC))
    await pool.execute("UPDATE memories SET decayed_through = '2026-11-23', importance_decayed_through = '2026-11-23'")

    ended = jobctl(database_url, "run-maintenance", "-o", "json", *SLOT)

    assert ended.code == 0, ended.errors
    steps = {one["step"]: (one["reason"], one["counters"]) for one in ended.json["result"]["steps"]}
    assert list(steps) == ["decay", "decay --importance", "cleanup-expired-data", "check-consistency"]
    assert (steps["decay"][1]["decayed"], steps["decay --importance"][1]["decayed"]) == (2, 2)
    assert steps["cleanup-expired-data"][1]["episodic"] == 1
    assert steps["check-consistency"][0] == "Skipped"
    tasks = [row["task"] for row in await pool.fetch("SELECT task FROM rae_jobs.task_runs ORDER BY created_at")]
    assert tasks == ["decay", "decay-importance", "cleanup-expired-data"]
    again = jobctl(database_url, "run-maintenance", *SLOT)
    assert "AlreadyDone" in again.output
    assert await pool.fetchval("SELECT min(strength) FROM memories") == 0.95


async def test_a_step_that_fails_stops_none_and_is_not_hidden(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "broken", {"memory_retention_days": "x"})
    await add_memories(pool, created_at=datetime(2020, 1, 1, tzinfo=UTC))
    await add_memories(pool, tenant=OTHER)

    ended = jobctl(database_url, "run-maintenance", "-o", "json", *SLOT, MEMORY_DECAY_RATE="0.01")

    assert (ended.code, ended.json["reason"]) == (65, "StepsFailed")
    assert [(one["step"], one["tenant"], one["reason"]) for one in ended.json["failures"]] == [
        ("decay", "", "DecayRateSteep"),
        ("cleanup-expired-data", "broken", "RetentionInvalid"),
    ]
    assert await pool.fetchval("SELECT count(*) FROM memories WHERE tenant_id = $1", TENANT) == 0


async def test_a_dry_run_of_the_chain_writes_nothing(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, created_at=datetime(2020, 1, 1, tzinfo=UTC))
    ended = jobctl(database_url, "run-maintenance", "--dry-run")
    assert "would delete 1 episodic" in ended.output
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.task_runs") == 0


def _step(name: str, ends: Outcome | Exception) -> Step:
    async def work() -> Outcome:
        if isinstance(ends, Exception):
            raise ends
        return ends

    return Step(name, work)


async def test_any_transient_failure_makes_it_worth_a_retry() -> None:
    permanent, passing = _step("a", ConfigError("no")), _step("b", TransientError("away"))
    assert (await run_steps([permanent], StopSignal())).exit_code is ExitCode.BAD_DATA
    assert (await run_steps([permanent, passing], StopSignal())).exit_code is ExitCode.TRANSIENT


async def test_the_soft_limit_between_steps_counts_as_progress_only_when_something_was_done() -> None:
    late = _step("late", SoftLimitReached("stopped"))
    for before, expected in ((Outcome("a"), TimeSliced), (Outcome("a", "AlreadyDone"), SoftLimitReached)):
        try:
            await run_steps([_step("a", before), late], StopSignal())
        except (TimeSliced, SoftLimitReached) as error:
            assert type(error) is expected
        else:
            raise AssertionError("it must stop")
