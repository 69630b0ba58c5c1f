"""schedule-reflections from run to run: what is due, what is put off and comes back, what is skipped and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import TransientError
from rae_jobctl.outcome import Outcome
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.scheduling.reflections import ReflectionPolicy, schedule_reflections
from tests.integration.boards import Wall
from tests.integration.graph_database import PROJECT, TENANT, GraphDatabase, db

__all__ = ["db"]

NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=12)


async def run(db: GraphDatabase, wall: Wall, at: datetime, *, dry_run: bool = False, **policy: Any) -> Outcome:
    """The hourly run of `at`."""
    slot = Slot(f"cron:{at:%Y-%m-%dT%H:%MZ}", at, "cronjob")
    return await schedule_reflections(db.pool, wall, ReflectionPolicy(**policy), slot=slot, stop=StopSignal(), dry_run=dry_run)


async def remember(db: GraphDatabase, at: datetime, count: int = 3, project: str = PROJECT) -> None:
    for _ in range(count):
        await db.remember("Alice uses Redis.", project=project, created_at=at)


async def reflected(db: GraphDatabase, at: datetime, project: str = PROJECT) -> None:
    """A reflection as the task would have stored it."""
    await db.pool.execute(
        "INSERT INTO reflections (tenant_id, project, content, type, created_at) VALUES ($1, $2, 'so it is', 'insight', $3)",
        TENANT,
        project,
        at,
    )


def skipped(outcome: Outcome) -> dict[str, str]:
    return {entry["project"]: entry["reason"] for entry in outcome.result["skipped"]}


def hours(number: float) -> datetime:
    return NOON + timedelta(hours=number)


async def test_what_came_within_the_cool_down_is_reflected_upon_after_it(db: GraphDatabase) -> None:
    wall = Wall()
    await run(db, wall, hours(0))
    await remember(db, hours(0.5))
    await reflected(db, hours(0.2))
    assert skipped(await run(db, wall, hours(1))) == {PROJECT: "CoolDown"}
    # Nothing new has come since, and still it is due.
    assert (await run(db, wall, hours(2))).counters["scheduled"] == 1
    wall.finish()
    await reflected(db, hours(2.1))
    assert (await run(db, wall, hours(3))).counters["projects"] == 0


async def test_what_came_while_a_request_was_at_work_is_looked_at_again(db: GraphDatabase) -> None:
    wall = Wall()
    await remember(db, hours(-0.5))
    assert (await run(db, wall, hours(0))).counters["scheduled"] == 1
    await remember(db, hours(0.5))
    assert skipped(await run(db, wall, hours(1))) == {PROJECT: "RequestLive"}
    wall.finish()
    assert (await run(db, wall, hours(2))).counters["scheduled"] == 1


async def test_what_the_cap_left_comes_first_next_time(db: GraphDatabase) -> None:
    wall, asked = Wall(), []
    for number in range(3):
        for project in "abc":
            await remember(db, hours(number - 0.5), project=project)
        outcome = await run(db, wall, hours(number), max_requests=1)
        asked += [request["project"] for request in outcome.result["requests"]]
        assert sorted(skipped(outcome).values()) == ["TooManyRequests"] * 2
        wall.finish()
    assert sorted(asked) == ["a", "b", "c"]


async def test_missed_hours_are_made_up_for_up_to_a_week(db: GraphDatabase) -> None:
    wall = Wall()
    await run(db, wall, hours(-24 * 9))
    await remember(db, hours(-24 * 8), project="too-old")
    await remember(db, hours(-24 * 6), project="missed")
    await remember(db, hours(-0.5), project="new")
    outcome = await run(db, wall, hours(0), window=timedelta(days=7))
    assert {request["project"] for request in outcome.result["requests"]} == {"missed", "new"}
    assert {request["since"] for request in outcome.result["requests"]} == {"168h"}


async def test_a_memory_committed_after_the_run_that_looked_beyond_it_is_seen_by_the_next(db: GraphDatabase) -> None:
    wall = Wall()
    await run(db, wall, hours(0))
    await remember(db, hours(-0.02))
    assert (await run(db, wall, hours(1))).counters["scheduled"] == 1


async def test_a_run_that_broke_off_is_taken_up_and_asks_for_none_twice(db: GraphDatabase) -> None:
    for project in "abc":
        await remember(db, hours(-0.5), project=project)
    wall = Wall(breaks_after=1)
    with pytest.raises(TransientError):
        await run(db, wall, hours(0))
    wall.breaks_after = None
    assert (await run(db, wall, hours(0))).counters["scheduled"] == 2
    assert (await run(db, wall, hours(0))).reason == "AlreadyDone"
    assert len(wall.requests) == 3


async def test_too_few_and_nothing_new_are_told_and_not_put_off(db: GraphDatabase) -> None:
    wall = Wall()
    await remember(db, hours(-0.5), count=2, project="few")
    await remember(db, hours(-0.5), project="known")
    await reflected(db, hours(-0.4), project="known")
    outcome = await run(db, wall, hours(0))
    assert skipped(outcome) == {"few": "TooFewMemories", "known": "NothingNew"}
    assert outcome.result["deferred"] == []
    assert (await run(db, wall, hours(1))).counters["projects"] == 0


async def test_a_dry_run_knows_what_was_put_off_and_writes_nothing(db: GraphDatabase) -> None:
    wall = Wall()
    await run(db, wall, hours(0))
    await remember(db, hours(0.5))
    await reflected(db, hours(0.2))
    await run(db, wall, hours(1))
    outcome = await run(db, wall, hours(2), dry_run=True)
    assert (outcome.reason, outcome.counters["scheduled"], wall.requests) == ("DryRun", 1, [])
    assert await db.value("SELECT count(*) FROM rae_jobs.task_runs") == 2
