"""`rae-jobctl pause` and `resume`, and what the scheduling tasks make of a pause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from rae_jobctl.deadline import StopSignal
from rae_jobctl.outcome import Outcome
from rae_jobctl.tasks.scheduling.queue import QueuePolicy, process_queue
from rae_jobctl.tasks.scheduling.reflections import ReflectionPolicy, schedule_reflections
from tests.integration.boards import Wall
from tests.integration.graph_database import PROJECT, TENANT, GraphDatabase, db, slot
from tests.integration.memories import Ended, jobctl

__all__ = ["db"]


async def queue(db: GraphDatabase, wall: Wall) -> Outcome:
    return await process_queue(db.pool, wall, QueuePolicy(), slot=slot(), stop=StopSignal())


async def reflections(db: GraphDatabase, wall: Wall) -> Outcome:
    return await schedule_reflections(db.pool, wall, ReflectionPolicy(), slot=slot(), stop=StopSignal(), dry_run=False)


async def other_tenant(db: GraphDatabase) -> UUID:
    other = uuid4()
    await db.pool.execute("INSERT INTO tenants (id, name) VALUES ($1, 'other')", other)
    return other


def paused(db: GraphDatabase, *words: str) -> Ended:
    ended = jobctl(db.url, *words)
    assert ended.code == 0, ended.errors
    return ended


async def test_a_paused_tenant_is_skipped_and_the_others_go_on(db: GraphDatabase) -> None:
    await db.remember("Alice uses Redis.")
    await db.remember("Mallory uses Venom.", tenant=await other_tenant(db))
    paused(db, "pause", "queue", "--tenant", "demo-tenant", "--reason", "the budget is\nspent")
    outcome = await queue(db, Wall())
    assert (outcome.reason, outcome.counters["scheduled"], outcome.counters["skipped"]) == ("Done", 1, 1)
    (skipped,) = outcome.result["skipped"]
    assert (skipped["tenantId"], skipped["reason"], skipped["waiting"]) == (str(TENANT), "Paused", 1)
    assert "1 (Paused)" in outcome.message
    (listed,) = paused(db, "pause", "list", "-o", "json").list
    assert (listed["tenantId"], listed["project"], listed["reason"]) == (str(TENANT), None, "the budget is spent")


async def test_resumed_what_waited_is_asked_for(db: GraphDatabase) -> None:
    await db.remember("Alice uses Redis.")
    paused(db, "pause", "queue")
    wall = Wall()
    assert (await queue(db, wall)).reason == "Paused"
    assert "goes on" in paused(db, "resume", "queue").output
    assert (await queue(db, wall)).counters["scheduled"] == 1
    assert "nothing is paused" in paused(db, "pause", "list").output


async def test_one_project_is_paused_and_its_neighbour_is_not(db: GraphDatabase) -> None:
    await db.remember("Alice uses Redis.")
    await db.remember("Carol uses Helm.", project="web")
    paused(db, "pause", "queue", "--tenant", "demo-tenant", "--project", "web")
    (request,) = (await queue(db, Wall())).result["requests"]
    assert request["project"] == PROJECT


async def test_a_request_at_work_goes_on(db: GraphDatabase) -> None:
    await db.remember("Alice uses Redis.")
    wall = Wall()
    await queue(db, wall)
    paused(db, "pause", "queue")
    assert (await queue(db, wall)).counters["live"] == 1
    assert [one.finished for one in wall.requests] == [False]


async def test_reflections_wait_and_are_made_up_for(db: GraphDatabase) -> None:
    await db.remember("Alice uses Redis.", "Bob uses Kafka.", "Carol uses Helm.")
    paused(db, "pause", "reflections", "--tenant", "demo-tenant")
    wall = Wall()
    outcome = await reflections(db, wall)
    assert [(entry["project"], entry["reason"]) for entry in outcome.result["skipped"]] == [(PROJECT, "Paused")]
    assert (await queue(db, Wall())).counters["scheduled"] == 1
    # As if hours had passed: nothing new has come since the run that skipped it.
    await db.pool.execute("UPDATE memories SET created_at = created_at - interval '3 hours'")
    paused(db, "resume", "reflections", "--tenant", str(TENANT))
    assert (await reflections(db, wall)).counters["scheduled"] == 1


def test_pausing_and_resuming_twice_is_as_good_as_once(db: GraphDatabase) -> None:
    first = paused(db, "pause", "queue", "--tenant", "demo-tenant", "--reason", "one", "-o", "json").json
    second = paused(db, "pause", "queue", "--tenant", "demo-tenant", "-o", "json").json
    assert (first["before"], second["before"]) == (False, True)
    assert (second["pausedAt"], second["reason"]) == (first["pausedAt"], "one")
    assert paused(db, "resume", "queue", "--tenant", "demo-tenant", "-o", "json").json["resumed"] is True
    again = paused(db, "resume", "queue", "--tenant", "demo-tenant")
    assert "was not paused" in again.output


def test_a_resumed_tenant_under_a_wider_pause_is_told_so(db: GraphDatabase) -> None:
    paused(db, "pause", "queue")
    paused(db, "pause", "queue", "--tenant", "demo-tenant")
    assert "still paused: all tenants" in paused(db, "resume", "queue", "--tenant", "demo-tenant").output
    paused(db, "pause", "queue", "--tenant", "demo-tenant", "--project", "web")
    assert f"still paused: tenant {TENANT}, project 'web'" in paused(db, "resume", "queue").output


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("pause", "queue", "--tenant", "nobody"), 65, "nobody"),
        (("resume", "queue", "--tenant", "nobody"), 65, "nobody"),
        (("pause", "queue", "--project", "web"), 64, "--tenant"),
        (("pause", "queue", "--tenant", "demo-tenant", "--project", " "), 64, "--project"),
        (("pause", "queue", "--reason", "x" * 501), 64, "--reason"),
        (("pause", "everything"), 64, "everything"),
    ],
)
def test_what_is_wrong_is_named(db: GraphDatabase, words: tuple[str, ...], code: int, told: str) -> None:
    ended = jobctl(db.url, *words)
    assert (ended.code, told in ended.errors, "Traceback" in ended.errors) == (code, True, False)
    assert paused(db, "pause", "list", "-o", "json").list == []


async def test_a_tenant_that_is_gone_can_be_resumed_by_its_id(db: GraphDatabase) -> None:
    paused(db, "pause", "queue", "--tenant", "demo-tenant")
    await db.pool.execute("DELETE FROM tenants")
    assert "goes on" in paused(db, "resume", "queue", "--tenant", str(TENANT)).output


def test_doctor_notes_a_pause_without_a_warning(db: GraphDatabase) -> None:
    paused(db, "pause", "queue", "--tenant", "demo-tenant", "--reason", "spent")
    checks: dict[str, Any] = {check["name"]: check for check in jobctl(db.url, "doctor", "-o", "json").list}
    assert checks["pauses"]["health"] == "ok"
    day = (datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%d")
    assert f"queue of tenant demo-tenant paused since {day}" in checks["pauses"]["message"]
    assert "(spent)" in checks["pauses"]["message"]
