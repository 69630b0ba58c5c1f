"""process-graph-queue from round to round: the extraction that its requests start, retries, kills and many processes."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest

from rae_jobctl.db.pool import open_pool
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BadDataError, RunLocked, TransientError
from rae_jobctl.llm.factory import open_provider
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.llm.types import Provider
from rae_jobctl.outcome import Outcome
from rae_jobctl.settings import DatabaseSettings
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.extraction import selection
from rae_jobctl.tasks.extraction.params import ExtractionParams
from rae_jobctl.tasks.extraction.task import extract_graph
from rae_jobctl.tasks.metering.refusals import count_refusal
from rae_jobctl.tasks.scheduling.queue import QueuePolicy, preview, process_queue
from tests.fake_llm.server import FakeLlm, completion, fake_llm
from tests.integration.boards import Wall
from tests.integration.graph_database import PROJECT, TENANT, GraphDatabase, db, slot
from tests.integration.memories import environment
from tests.integration.secured import secured

__all__ = ["db"]

TRIES = 3


@pytest.fixture
def fake() -> Iterator[FakeLlm]:
    with fake_llm() as running:
        yield running


@pytest.fixture
async def provider(fake: FakeLlm) -> AsyncIterator[Provider]:
    base = {"max_retries": 1, "max_wait": 0.2, "timeout": 20.0, "batch_size": 5, "price": (0.15, 0.075, 0.6)}
    settings = LlmSettings(ProviderName.OPENAI, "gpt-4o-mini", base_url=fake.base_url, **base)  # type: ignore[arg-type]
    opened = open_provider(settings, StopSignal())
    yield opened
    await opened.aclose()


async def queue(db: GraphDatabase, wall: Wall, at: Slot | None = None, **policy: int) -> Outcome:
    return await process_queue(db.pool, wall, QueuePolicy(**policy), slot=at or slot(), stop=StopSignal())


async def work(db: GraphDatabase, wall: Wall, provider: Provider) -> None:
    """Play the operator: every request at work becomes a run, and ends."""
    for wanted in wall.live:
        spec = wanted.spec
        params = ExtractionParams(
            spec["tenantId"],
            spec["project"],
            limit=spec["limit"],
            pending=True,
            shard=spec["shard"],
            shards=spec["shards"],
            tries=TRIES,
        )
        try:
            await extract_graph(db.pool, provider, params, slot=slot(), stop=StopSignal())
        except BadDataError as failed:
            assert failed.reason == "ExtractionFailed"
    wall.finish()


def poison(request: Any) -> Any:
    return completion(None, refusal="no") if "POISON" in request["messages"][1]["content"] else None


def with_poison(fake: FakeLlm) -> int:
    return sum("POISON" in request["messages"][1]["content"] for request in fake.requests)


# Rounds ----------------------------------------------------------------------------------------


async def test_a_poisonous_memory_costs_its_tries_over_fifty_rounds(db: GraphDatabase, fake: FakeLlm, provider: Provider) -> None:
    fake.always = poison
    await db.remember("POISON uses Venom.")
    wall, made = Wall(), 0
    for _ in range(50):
        made += (await queue(db, wall, tries=TRIES)).counters["scheduled"]
        await work(db, wall, provider)
        # As if the pause after a failure were over.
        await db.pool.execute("UPDATE rae_jobs.extraction_state SET not_before = now()")
    assert len(fake.requests) == TRIES
    assert made == TRIES
    (skipped,) = (await queue(db, wall, tries=TRIES)).result["skipped"]
    assert (skipped["reason"], skipped["held"]) == ("Held", 1)


async def test_a_poisonous_memory_keeps_nothing_from_its_neighbours(db: GraphDatabase, fake: FakeLlm, provider: Provider) -> None:
    fake.always = poison
    await db.remember("POISON uses Venom.")
    wall = Wall()
    good = set()
    for number in range(12):
        good |= set(await db.remember(f"Alice uses Redis{number}."))
        await queue(db, wall, tries=TRIES)
        await work(db, wall, provider)
        await db.pool.execute("UPDATE rae_jobs.extraction_state SET not_before = now()")
    assert await db.marked() == good
    # Each try: once with the neighbour of that round, once alone.
    assert with_poison(fake) <= 2 * TRIES


async def test_a_request_that_failed_blocks_none_of_its_memories(db: GraphDatabase, provider: Provider) -> None:
    ids = await db.remember("Alice uses Redis.", "Bob uses Kafka.")
    wall = Wall()
    await queue(db, wall)
    # It ended without having done anything.
    wall.finish()
    assert (await queue(db, wall)).counters["scheduled"] == 1
    await work(db, wall, provider)
    assert await db.marked() == set(ids)
    assert (await queue(db, wall)).reason == "NothingToDo"


async def test_a_slot_that_is_done_makes_nothing_even_though_its_requests_have_ended(db: GraphDatabase) -> None:
    await db.remember("Alice uses Redis.")
    wall, at = Wall(), slot("cron:2026-11-24T02:00Z")
    first = await queue(db, wall, at)
    wall.finish()
    again = await queue(db, wall, at)
    assert (first.reason, again.reason) == ("Done", "AlreadyDone")
    assert again.result["requests"] == first.result["requests"]
    assert len(wall.requests) == 1


async def test_a_run_that_broke_off_makes_the_rest_and_none_twice(db: GraphDatabase) -> None:
    for project in "abcde":
        await db.remember("Alice uses Redis.", project=project)
    wall, at = Wall(breaks_after=2), slot("cron:2026-11-24T02:00Z")
    with pytest.raises(TransientError, match="Kubernetes"):
        await queue(db, wall, at, max_requests=4)
    # What it made has ended meanwhile, with nothing done.
    wall.finish()
    wall.breaks_after = None
    assert (await queue(db, wall, at, max_requests=4)).counters["scheduled"] == 4
    assert len(wall.requests) == 4
    assert {one.round for one in wall.requests} == {1}
    assert len({one.spec["project"] for one in wall.wanted.values()}) == 4


async def test_rounds_are_counted_by_the_ledger_though_all_requests_are_gone(db: GraphDatabase) -> None:
    await db.remember("Alice uses Redis.")
    names = []
    for _ in range(3):
        wall = Wall()
        await queue(db, wall)
        names += list(wall.wanted)
    assert [name.rpartition("-")[2] for name in names] == ["1", "2", "3"]


async def test_two_runs_exclude_each_other(db: GraphDatabase) -> None:
    await db.remember("Alice uses Redis.")

    class Slow(Wall):
        async def create(self, wanted: Any) -> bool:
            with pytest.raises(RunLocked):
                await queue(db, Wall())
            return await super().create(wanted)

    wall = Slow()
    await queue(db, wall)
    assert len(wall.requests) == 1


async def test_after_refusals_of_the_model_less_is_asked_for(db: GraphDatabase) -> None:
    for number in range(15):
        await db.remember("Alice uses Redis.", project=f"p{number:02}")
    await count_refusal(db.pool)
    outcome = await queue(db, Wall())
    assert (outcome.counters["refusals"], outcome.counters["scheduled"], outcome.counters["postponed"]) == (1, 10, 5)
    assert "after 1 refusals of the model at most 4 shares of a project" in outcome.message


# What is counted and what it costs -------------------------------------------------------------


async def test_backlogs_are_those_that_a_claim_would_find(db: GraphDatabase) -> None:
    ids = await db.remember(*[f"Alice uses Redis{n}." for n in range(10)])
    other = uuid4()
    await db.remember("Mallory uses Venom.", tenant=other, project="web")
    await db.remember("Semantic.", layer="semantic")
    await db.pool.execute(
        """
        INSERT INTO rae_jobs.extraction_state (memory_id, tenant_id, project, dead, tries, leased_until, not_before)
        VALUES ($1, $7, $8, true, 0, NULL, NULL), ($2, $7, $8, false, 3, NULL, NULL),
               ($3, $7, $8, false, 1, now() + interval '1 hour', NULL), ($4, $7, $8, false, 1, NULL, now() + interval '1 hour'),
               ($5, $7, $8, false, 1, now() - interval '1 hour', NULL), ($6, $7, $8, true, 3, NULL, NULL)
        """,
        *ids[:5],
        uuid4(),  # of a memory that is gone
        TENANT,
        PROJECT,
    )
    async with db.pool.acquire() as connection:
        rows = await connection.fetch("SELECT * FROM rae_jobs.queue_backlogs(10000, 3) ORDER BY project")
        capped = await connection.fetchrow("SELECT * FROM rae_jobs.queue_backlogs(2, 3) WHERE project = $1", PROJECT)
        async with connection.transaction():
            claim = await selection.claim(connection, TENANT, ExtractionParams(str(TENANT), PROJECT, pending=True), 100)
    assert [tuple(row) for row in rows] == [(TENANT, PROJECT, 6, 4), (other, "web", 1, 0)]
    assert capped is not None
    assert capped["waiting"] == 2
    assert set(claim.ids) == set(ids[4:])


async def test_memories_without_a_project_hide_no_project_behind_them(db: GraphDatabase) -> None:
    await db.remember(*["Nowhere."] * 5, project=None)  # type: ignore[arg-type]
    for tenant in sorted(uuid4() for _ in range(3)):
        await db.remember("Nowhere.", project=None, tenant=tenant)  # type: ignore[arg-type]
        await db.remember("Alice uses Redis.", project="web", tenant=tenant)
        await db.remember("Alice uses Kafka.", project="api", tenant=tenant)
    outcome = await queue(db, Wall())
    assert outcome.counters["projects"] == 6


async def test_a_dry_run_says_what_the_requests_and_what_all_that_waits_would_cost(db: GraphDatabase, provider: Provider) -> None:
    await db.remember(*[f"Alice uses Redis{n}." for n in range(8)])
    await db.remember("hi there!", project="talk")
    wall = Wall()
    outcome = await preview(db.pool, wall, QueuePolicy(limit=2), provider.estimate_extraction)
    assert (outcome.reason, wall.requests) == ("DryRun", [])
    ours, talk = outcome.result["estimates"]
    assert (ours["project"], ours["requests"], ours["now"]["memories"], ours["backlog"]["memories"]) == (PROJECT, 1, 2, 8)
    assert 0 < ours["now"]["promptTokens"] < ours["backlog"]["promptTokens"]
    assert ours["backlog"]["costUsd"] == pytest.approx(4 * ours["now"]["costUsd"], rel=0.01)
    assert talk["backlog"]["costUsd"] == 0
    assert await db.value("SELECT count(*) FROM rae_jobs.task_runs") == 0


# Claims ----------------------------------------------------------------------------------------


async def test_a_claim_goes_on_where_the_last_one_ended_and_comes_back_for_what_was_freed(db: GraphDatabase) -> None:
    ids = await db.remember(*[f"Alice uses Redis{n}." for n in range(6)])
    params = ExtractionParams(str(TENANT), PROJECT, pending=True)
    async with db.pool.acquire() as connection:
        first = await selection.claim(connection, TENANT, params, 2)
        second = await selection.claim(connection, TENANT, params, 2, first.place)
        await selection.release(connection, TENANT, first.token)
        third = await selection.claim(connection, TENANT, params, 4, second.place)
        last = await selection.claim(connection, TENANT, params, 4, third.place)
    assert [first.ids, second.ids, set(third.ids)] == [tuple(ids[:2]), tuple(ids[2:4]), {*ids[:2], *ids[4:]}]
    assert (last.ids, last.place) == ((), None)


async def test_memories_without_a_time_of_creation_are_claimed_too(db: GraphDatabase) -> None:
    ids = await db.remember(*["Alice uses Redis."] * 5, created_at=None)
    params = ExtractionParams(str(TENANT), PROJECT, pending=True)
    claimed: list[Any] = []
    async with db.pool.acquire() as connection:
        place = None
        for _ in range(3):
            claim = await selection.claim(connection, TENANT, params, 2, place)
            claimed += claim.ids
            place = claim.place
    assert sorted(claimed) == sorted(ids)


async def test_rivals_claim_every_memory_once(db: GraphDatabase) -> None:
    await db.pool.execute(
        "INSERT INTO memories (tenant_id, project, layer, content, created_at) "
        "SELECT $1, $2, 'episodic', 'm' || n, now() - n * interval '1 second' FROM generate_series(1, 2000) AS n",
        TENANT,
        PROJECT,
    )
    params = ExtractionParams(str(TENANT), PROJECT, pending=True)

    async def rival() -> list[Any]:
        mine: list[Any] = []
        place = None
        async with db.pool.acquire() as connection:
            while True:
                async with connection.transaction():
                    claim = await selection.claim(connection, TENANT, params, 10, place)
                if not claim.ids:
                    return mine
                mine += claim.ids
                place = claim.place

    claimed = [one for mine in await asyncio.gather(*[rival() for _ in range(4)]) for one in mine]
    assert (len(claimed), len(set(claimed))) == (2000, 2000)


# Writes down each time that a memory is marked: a set of evidence would hide a second time.
_WATCH = """
CREATE TABLE marks (memory_id uuid);
CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO marks VALUES (new.id); RETURN new; END $$;
CREATE TRIGGER mark AFTER UPDATE OF graph_extracted ON memories FOR EACH ROW EXECUTE FUNCTION mark();
"""


async def test_eight_processes_killed_at_random_lose_no_memory_and_store_none_twice(db: GraphDatabase, fake: FakeLlm) -> None:
    ids = await db.remember(*[f"Alice uses Redis{n}." for n in range(240)])
    await db.pool.execute(_WATCH)
    fake.delay = 0.1
    settings = {"RAE_LLM_BATCH_SIZE": "2", "RAE_LLM_CONCURRENCY": "1", "RAE_EXTRACTION_LEASE_SECONDS": "1"}
    env = environment(db.url, OPENAI_BASE_URL=fake.base_url, RAE_EXTRACTION_TRIES="100", **settings)
    where = ("--tenant", "demo-tenant", "--project", PROJECT, "--pending", "--limit", "1000")
    command = [sys.executable, "-m", "rae_jobctl", "extract-graph", *where]
    chance = random.Random(20261124)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    pods = [start() for _ in range(8)]
    try:
        for kill in range(16):
            await asyncio.to_thread(fake.wait_for, len(fake.requests) + chance.randint(2, 6))
            number = chance.randrange(8)
            pods[number].kill()
            pods[number].wait()
            # The last eight are not followed by another.
            if kill < 8:
                pods[number] = start()
    finally:
        for pod in pods:
            pod.kill()
            pod.wait()
    assert 0 < len(await db.marked()) < len(ids), "killed too early or too late to prove anything"
    await asyncio.sleep(1.1)
    done = await asyncio.create_subprocess_exec(*command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert await done.wait() == 0
    assert await db.marked() == set(ids)
    assert await db.value("SELECT count(*) FROM marks") == len(ids)
    assert await db.value("SELECT count(*) FROM rae_jobs.extraction_state") == 0
    edges = await db.edges()
    assert len(edges) == len(ids)
    assert all(len(edge["evidence"]) == 1 for edge in edges.values())


async def test_the_queue_is_seen_and_asked_for_under_row_level_security(db: GraphDatabase) -> None:
    await db.remember("Alice uses Redis.")
    async with secured(db.url, db.pool) as url, open_pool(DatabaseSettings(url), "test") as pool:
        outcome = await process_queue(pool, Wall(), QueuePolicy(), slot=slot(), stop=StopSignal())
        assert (await preview(pool, Wall(), QueuePolicy(), None)).counters["memories"] == 1
    assert outcome.counters["scheduled"] == 1
