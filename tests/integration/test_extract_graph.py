"""extract-graph on real PostgreSQL: what is stored, what is marked, and what a second run, a rival or a kill changes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BadDataError, TaskError, TimeSliced, TransientError
from rae_jobctl.llm.factory import open_provider
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.llm.types import Provider
from rae_jobctl.outcome import Outcome
from rae_jobctl.tasks.extraction.params import ExtractionParams
from rae_jobctl.tasks.extraction.store import EDGES, edge_columns
from rae_jobctl.tasks.extraction.task import extract_graph, preview, summarise
from tests.fake_llm.server import FakeLlm, completion, error, fake_llm
from tests.integration.graph_database import PROJECT, TENANT, GraphDatabase, db, slot

__all__ = ["db"]

REFUSED = completion(None, refusal="no")


@pytest.fixture
def fake() -> Iterator[FakeLlm]:
    with fake_llm() as running:
        yield running


def settings(fake: FakeLlm, **changes: Any) -> LlmSettings:
    base: dict[str, Any] = {"max_retries": 1, "max_wait": 0.2, "timeout": 20.0, "batch_size": 5, "concurrency": 3}
    return LlmSettings(
        ProviderName.OPENAI, "gpt-4o-mini", base_url=fake.base_url, **{**base, "price": (0.15, 0.075, 0.6), **changes}
    )


@pytest.fixture
async def provider(fake: FakeLlm) -> AsyncIterator[Provider]:
    opened = open_provider(settings(fake), StopSignal())
    yield opened
    await opened.aclose()


def params(**changes: Any) -> ExtractionParams:
    return ExtractionParams(**{"tenant": "demo-tenant", "project": PROJECT, **changes})


async def run(
    db: GraphDatabase, provider: Provider, *, key: str | None = None, stop: StopSignal | None = None, **changes: Any
) -> Outcome:
    return await extract_graph(
        db.pool, provider, params(**changes), slot=slot(key), stop=stop or StopSignal(), price=(0.15, 0.075, 0.6)
    )


# What is stored --------------------------------------------------------------------------------


async def test_triples_are_stored_with_their_evidence_and_the_memories_marked(db: GraphDatabase, provider: Provider) -> None:
    ids = await db.remember("Alice uses Redis.", "Bob works at Acme-Labs.", "hi there!")
    outcome = await run(db, provider)
    assert outcome.reason == "Done"
    assert await db.marked() == set(ids)
    edges = await db.edges()
    assert set(edges) == {("alice", "USE", "redis"), ("bob", "WORK_AT", "acme labs")}
    assert edges["alice", "USE", "redis"]["evidence"] == [{"memory_id": str(ids[0]), "text": "Alice uses Redis"}]
    assert edges["alice", "USE", "redis"]["source_memory_ids"] == [str(ids[0])]
    assert outcome.counters["withoutContent"] == 1
    assert await db.value("SELECT metadata ->> 'graph_extracted_at' FROM memories WHERE id = $1", ids[0]) is not None


async def test_small_talk_costs_no_call(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    ids = await db.remember("hi there!", "ok, thanks")
    await run(db, provider)
    assert fake.requests == []
    assert await db.marked() == set(ids)


async def test_it_extracts_the_memories_that_it_was_given_and_no_others(
    db: GraphDatabase, provider: Provider, fake: FakeLlm
) -> None:
    ids = await db.remember("Alice uses Redis.", "Bob uses Kafka.")
    outcome = await run(db, provider, memory_ids=(ids[0],))
    assert await db.marked() == {ids[0]}
    assert outcome.counters["memories"] == 1
    assert "Kafka" not in json.dumps(fake.requests)


async def test_ids_may_name_a_memory_of_another_layer(db: GraphDatabase, provider: Provider) -> None:
    (semantic,) = await db.remember("Alice uses Redis.", layer="semantic")
    assert (await run(db, provider)).reason == "NothingToDo"
    assert (await run(db, provider, memory_ids=(semantic,))).counters["triples"] == 1


async def test_the_newest_come_first_up_to_the_limit(db: GraphDatabase, provider: Provider) -> None:
    ids = await db.remember(*[f"Alice uses Redis{n}." for n in range(6)])
    await run(db, provider, limit=2)
    assert await db.marked() == set(ids[-2:])


async def test_a_second_run_calls_nobody_and_changes_nothing(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    ids = await db.remember("Alice uses Redis.")
    await run(db, provider)
    calls, before = len(fake.requests), await db.edges()
    assert (await run(db, provider)).reason == "NothingToDo"
    again = await run(db, provider, memory_ids=(ids[0],))
    assert again.counters["alreadyExtracted"] == 1
    assert again.reason == "NothingToDo"
    assert len(fake.requests) == calls
    assert await db.edges() == before


async def test_the_same_slot_is_done_once_and_gives_its_result_again(
    db: GraphDatabase, provider: Provider, fake: FakeLlm
) -> None:
    await db.remember("Alice uses Redis.")
    first = await run(db, provider, key="request-1")
    await db.remember("Bob uses Kafka.")
    second = await run(db, provider, key="request-1")
    assert second.reason == "AlreadyDone"
    assert second.result["triples"] == first.result["triples"]
    assert len(fake.requests) == 1


async def test_history_from_before_the_migration_is_extracted_on_request_alone(db: GraphDatabase, provider: Provider) -> None:
    (old,) = await db.remember("Alice uses Redis.", graph_extracted=True)
    assert (await run(db, provider, pending=True)).reason == "NothingToDo"
    assert (await run(db, provider, memory_ids=(old,))).counters["triples"] == 1


async def test_a_fact_seen_again_keeps_its_greatest_confidence_and_gains_evidence(
    db: GraphDatabase, provider: Provider, fake: FakeLlm
) -> None:
    def says(confidence: float) -> Any:
        triple = {
            "i": 1,
            "s": "Alice",
            "st": "PERSON",
            "p": "USE",
            "o": "Redis",
            "ot": "OTHER",
            "q": "Alice uses Redis",
            "c": confidence,
        }
        return completion(json.dumps({"t": [triple]}))

    fake.faults.extend([says(0.9), says(0.75)])
    (first,) = await db.remember("Alice uses Redis.")
    await run(db, provider)
    await db.pool.execute("UPDATE knowledge_graph_edges SET updated_at = '2020-01-01', created_at = '2020-01-01'")
    (second,) = await db.remember("Today Alice uses Redis.")
    outcome = await run(db, provider)
    (edge,) = (await db.edges()).values()
    assert edge["confidence"] == 0.9
    assert edge["source_memory_ids"] == [str(first), str(second)]
    assert [entry["memory_id"] for entry in edge["evidence"]] == [str(first), str(second)]
    assert outcome.counters["edgesUpdated"] == 1
    assert await db.value("SELECT updated_at > '2021-01-01' AND created_at < '2021-01-01' FROM knowledge_graph_edges")


async def test_an_edge_that_rae_made_gains_evidence_and_keeps_its_own_properties(db: GraphDatabase, provider: Provider) -> None:
    nodes = [
        await db.value(
            "INSERT INTO knowledge_graph_nodes (tenant_id, project, node_id, label) VALUES ($1, $2, $3, $3) RETURNING id",
            TENANT,
            PROJECT,
            name,
        )
        for name in ("alice", "redis")
    ]
    insert = (
        "INSERT INTO knowledge_graph_edges (tenant_id, project, source_node_id, target_node_id, relation, properties) "
        "VALUES ($1, $2, $3, $4, 'USE', $5) RETURNING id"
    )
    await db.value(insert, TENANT, PROJECT, *nodes, {"confidence": "high", "mine": 1, "evidence": "text"})
    await db.remember("Alice uses Redis.")
    await run(db, provider)
    (edge,) = (await db.edges()).values()
    assert (edge["mine"], edge["confidence"], len(edge["evidence"])) == (1, 0.95, 1)


async def test_less_certain_triples_are_left_out_and_counted(db: GraphDatabase, provider: Provider) -> None:
    await db.remember("Alice uses Redis.")
    outcome = await run(db, provider, min_confidence=0.99)
    assert outcome.counters["lowConfidence"] == 1
    assert await db.edges() == {}


async def test_without_storing_nothing_is_written_but_the_ledger(db: GraphDatabase, provider: Provider) -> None:
    await db.remember("Alice uses Redis.")
    outcome = await run(db, provider, store=False)
    assert len(outcome.result["triples"]) == 1
    assert await db.edges() == {}
    assert await db.marked() == set()


async def test_other_projects_and_tenants_stay_apart(db: GraphDatabase, provider: Provider) -> None:
    other = uuid4()
    await db.pool.execute("INSERT INTO tenants (id, name) VALUES ($1, 'other')", other)
    (theirs,) = await db.remember("Mallory uses Venom.", tenant=other)
    (elsewhere,) = await db.remember("Trent uses Vault.", project="web")
    with pytest.raises(BadDataError) as caught:
        await run(db, provider, memory_ids=(theirs, elsewhere))
    assert caught.value.reason == "MemoriesNotFound"
    await db.remember("Alice uses Redis.")
    await run(db, provider)
    assert set(await db.edges()) == {("alice", "USE", "redis")}
    assert await db.edges(tenant=other) == {}


async def test_usage_is_written_down_with_its_cost(db: GraphDatabase, provider: Provider) -> None:
    await db.remember("Alice uses Redis.")
    outcome = await run(db, provider)
    row = await db.pool.fetchrow("SELECT * FROM rae_jobs.llm_usage")
    assert row is not None
    assert (row["state"], row["provider"], row["model"], row["tenant_id"]) == ("settled", "openai", "gpt-4o-mini", TENANT)
    assert row["prompt_tokens"] == outcome.counters["promptTokens"] > 0
    assert row["cost_usd"] > 0


async def test_some_unknown_ids_are_counted_and_an_unknown_tenant_is_named(db: GraphDatabase, provider: Provider) -> None:
    ids = await db.remember("Alice uses Redis.")
    assert (await run(db, provider, memory_ids=(ids[0], uuid4()))).counters["notFound"] == 1
    with pytest.raises(BadDataError, match="nobody"):
        await run(db, provider, tenant="nobody")


# Failures --------------------------------------------------------------------------------------


def poison(request: Any) -> Any:
    return REFUSED if "POISON" in request["messages"][1]["content"] else None


async def test_a_poisonous_memory_is_dead_after_its_tries_and_costs_no_more_calls(
    db: GraphDatabase, provider: Provider, fake: FakeLlm
) -> None:
    fake.always = poison
    (bad,) = await db.remember("POISON uses Venom.")
    reasons = []
    for _ in range(10):
        await db.pool.execute("UPDATE rae_jobs.extraction_state SET not_before = now()")
        try:
            reasons.append((await run(db, provider, pending=True, tries=3)).reason)
        except BadDataError as failure:
            reasons.append(failure.reason)
    assert reasons == ["ExtractionFailed"] * 3 + ["NothingToDo"] * 7
    assert len(fake.requests) == 3
    row = await db.pool.fetchrow("SELECT * FROM rae_jobs.extraction_state WHERE memory_id = $1", bad)
    assert row is not None
    assert (row["dead"], row["tries"], row["last_error"]) == (True, 3, "Refused")
    assert await db.marked() == set()


async def test_a_failure_waits_before_its_next_try(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    fake.always = poison
    await db.remember("POISON uses Venom.")
    with pytest.raises(BadDataError):
        await run(db, provider, pending=True)
    assert (await run(db, provider, pending=True)).reason == "NothingToDo"
    assert len(fake.requests) == 1


async def test_the_others_of_a_batch_are_stored(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    fake.always = poison
    ids = await db.remember("Alice uses Redis.", "POISON uses Venom.", "Bob uses Kafka.")
    outcome = await run(db, provider)
    assert outcome.reason == "PartlyDone"
    assert outcome.counters["failed"] == 1
    assert await db.marked() == {ids[0], ids[2]}


async def test_a_service_that_is_away_costs_no_memory_a_try(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    fake.always = lambda request: error(503, "busy")
    await db.remember("Alice uses Redis.")
    for _ in range(5):
        with pytest.raises(TransientError):
            await run(db, provider, pending=True)
    fake.always = lambda request: None
    assert (await run(db, provider, pending=True)).counters["triples"] == 1


async def test_what_was_stored_before_a_failure_stays_and_the_next_attempt_goes_on(db: GraphDatabase, fake: FakeLlm) -> None:
    provider = open_provider(settings(fake, concurrency=1, max_retries=0), StopSignal())
    ids = await db.remember(*[f"Alice uses Redis{n}." for n in range(12)])
    fake.faults.extend([None, error(503, "busy")])
    with pytest.raises(TransientError):
        await run(db, provider, key="r")
    assert len(await db.marked()) == 5
    await db.remember("Zoe uses Zabbix.")
    outcome = await run(db, provider, key="r")
    assert outcome.reason == "Done"
    assert outcome.counters["extracted"] == outcome.counters["memories"] == 12
    # The selection was made by the first attempt: what came later waits for its own run.
    assert await db.marked() == set(ids)
    await provider.aclose()


async def test_the_endpoint_never_sees_more_calls_at_once_than_it_is_said(db: GraphDatabase, fake: FakeLlm) -> None:
    provider = open_provider(settings(fake, batch_size=1, concurrency=4), StopSignal())
    await db.remember(*[f"Alice uses Redis{n}." for n in range(16)])
    fake.delay = 0.2
    await run(db, provider)
    # An answer takes 0.2 s, so all that came within less were under way together.
    assert max(sum(0 <= other - one < 0.18 for other in fake.arrivals) for one in fake.arrivals) <= 4
    await provider.aclose()


async def test_an_answer_that_cannot_be_stored_costs_none_that_came_with_it(db: GraphDatabase, fake: FakeLlm) -> None:
    await db.pool.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(0.05);
            IF NEW.node_id = 'redis3' THEN RAISE EXCEPTION 'no'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON knowledge_graph_nodes FOR EACH ROW EXECUTE FUNCTION refuse();
        """
    )
    provider = open_provider(settings(fake, batch_size=1, concurrency=6), StopSignal())
    ids = await db.remember(*[f"Alice uses Redis{n}." for n in range(6)])
    fake.delay = 0.2
    with pytest.raises((TaskError, asyncpg.PostgresError)):
        await run(db, provider, key="r")
    assert await db.marked() == set(ids) - {ids[3]}
    await db.pool.execute("DROP TRIGGER refuse ON knowledge_graph_nodes")
    await run(db, provider, key="r")
    assert await db.marked() == set(ids)
    assert len(fake.requests) == 7
    await provider.aclose()


async def test_a_graph_that_the_statistics_do_not_know_is_not_read_whole(db: GraphDatabase) -> None:
    await db.pool.execute(
        """
        INSERT INTO knowledge_graph_nodes (tenant_id, project, node_id, label)
        SELECT $1, $2, 'n' || i, 'n' || i FROM generate_series(1, 3000) AS i
        """,
        TENANT,
        PROJECT,
    )
    async with db.pool.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_custom_plan")
        columns = edge_columns(TENANT, PROJECT, [], {})
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {EDGES}", *columns))
    assert plan.count("Index Cond: ((tenant_id = ") == plan.count("(node_id)::text >= ") == 2


async def test_a_stop_keeps_what_is_stored_and_leaves_the_rest(db: GraphDatabase, fake: FakeLlm) -> None:
    stop = StopSignal()
    provider = open_provider(settings(fake, concurrency=1), stop)
    await db.remember(*[f"Alice uses Redis{n}." for n in range(12)])
    fake.always = lambda request: stop.set("SIGTERM") if len(fake.requests) == 2 else None
    with pytest.raises(TimeSliced):
        await run(db, provider, key="r", stop=stop)
    assert len(await db.marked()) == 10
    outcome = await run(db, provider, key="r")
    assert outcome.counters["extracted"] == 12
    await provider.aclose()


async def test_rivals_in_the_queue_share_it_without_a_second_call(db: GraphDatabase, fake: FakeLlm) -> None:
    fake.delay = 0.02
    ids = await db.remember(*[f"Alice uses Redis{n}." for n in range(60)])
    providers = [open_provider(settings(fake), StopSignal()) for _ in range(4)]
    outcomes = await asyncio.gather(*[run(db, one, pending=True, limit=1000) for one in providers])
    assert sum(outcome.counters.get("extracted", 0) for outcome in outcomes) == 60
    assert await db.marked() == set(ids)
    sent = [line for request in fake.requests for line in request["messages"][1]["content"].split("\n") if " | " in line]
    assert len(sent) == 60
    for one in providers:
        await one.aclose()


async def test_rivals_with_the_same_memories_store_them_once(db: GraphDatabase, fake: FakeLlm) -> None:
    fake.delay = 0.05
    ids = tuple(await db.remember(*[f"Alice uses Redis{n}." for n in range(20)]))
    providers = [open_provider(settings(fake), StopSignal()) for _ in range(3)]
    outcomes = await asyncio.gather(*[run(db, one, memory_ids=ids) for one in providers])
    assert sum(outcome.counters["extracted"] for outcome in outcomes if "extracted" in outcome.counters) == 20
    assert all(len(edge["evidence"]) == 1 for edge in (await db.edges()).values())
    for one in providers:
        await one.aclose()


async def test_shards_part_the_queue_between_them(db: GraphDatabase, provider: Provider) -> None:
    ids = await db.remember(*[f"Alice uses Redis{n}." for n in range(30)])
    counts = [(await run(db, provider, pending=True, shard=n, shards=3)).counters.get("extracted", 0) for n in range(3)]
    assert sum(counts) == 30
    assert all(counts)
    assert await db.marked() == set(ids)


async def test_a_memory_deleted_meanwhile_leaves_no_triple(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    await db.remember("Alice uses Redis.")
    fake.delay = 0.5
    task = asyncio.create_task(run(db, provider))
    await asyncio.to_thread(fake.wait_for, 1)
    await db.pool.execute("DELETE FROM memories")
    await task
    assert await db.edges() == {}


# The command -----------------------------------------------------------------------------------


def command(db: GraphDatabase, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": db.url, "RAE_LLM_PROVIDER": "local", **env}
    return subprocess.run(
        [sys.executable, "-m", "rae_jobctl", "extract-graph", *arguments], env=environment, capture_output=True, text=True
    )


async def test_the_command_takes_a_request_and_writes_a_small_termination_message(db: GraphDatabase, tmp_path: Any) -> None:
    await db.remember("Alice Johnson works at Acme Corporation.", "Bob uses Redis.")
    message = tmp_path / "termination"
    message.touch()
    spec = {"tenantId": "demo-tenant", "project": PROJECT, "limit": 50, "minConfidence": 0.7, "autoStore": True}
    request = json.dumps({"kind": "GraphExtractionRequest", "name": "x", "uid": "u-1", "attempt": 1, "spec": spec})
    done = await asyncio.to_thread(command, db, "-o", "json", RAE_REQUEST=request, RAE_TERMINATION_PATH=str(message))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {(t["subject"], t["predicate"], t["object"]) for t in result["result"]["triples"]} == {
        ("alice johnson", "WORK_AT", "acme corporation"),
        ("bob", "USE", "redis"),
    }
    hint = json.loads(message.read_text())
    assert hint["reason"] == "Done"
    assert hint["counters"]["triples"] == 2
    assert "Johnson works at" not in message.read_text()
    assert "Johnson works at" not in done.stderr
    assert await db.value("SELECT count(*) FROM rae_jobs.task_runs WHERE request_uid = 'u-1' AND state = 'finished'") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--project", "p"], 64, "--tenant"),
        (["--tenant", "demo-tenant"], 64, "--project"),
        (["--tenant", "demo-tenant", "--project", "p", "--min-confidence", "70"], 64, "--min-confidence"),
        (["--tenant", "demo-tenant", "--project", "p", "--limit", "5000"], 64, "1000"),
        (["--tenant", "demo-tenant", "--project", "p", "--memory-id", "mem_123"], 65, "mem_123"),
        (["--tenant", "nobody", "--project", "p"], 65, "nobody"),
        (["--tenant", "demo-tenant", "--project", "p", "--memory-id", str(UUID(int=7))], 65, "none of the 1 memories"),
    ],
)
async def test_wrong_input_is_named_with_its_exit_code(db: GraphDatabase, arguments: list[str], code: int, told: str) -> None:
    done = await asyncio.to_thread(command, db, *arguments)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["local", "openai"])
async def test_a_dry_run_writes_nothing_and_pays_nothing(db: GraphDatabase, fake: FakeLlm, kind: str) -> None:
    await db.remember("Alice Johnson works at Acme Corporation.")
    env = {"RAE_LLM_PROVIDER": kind, "OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": fake.base_url}
    before = await db.value("SELECT pg_current_xact_id()::text::bigint")
    args = ("--tenant", "demo-tenant", "--project", PROJECT, "--dry-run", "-o", "json")
    done = await asyncio.to_thread(lambda: command(db, *args, **env))
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert body["dryRun"] is True
    assert ("estimate" if kind == "openai" else "triples") in body["result"]
    assert await db.value("SELECT pg_current_xact_id()::text::bigint") == before + 1
    assert fake.requests == []
    assert await db.value("SELECT count(*) FROM rae_jobs.task_runs") == 0


def kill_after(fake: FakeLlm, calls: int, args: list[str], env: dict[str, str]) -> None:
    """Start the command and kill it once the fake has had so many more requests."""
    process = subprocess.Popen(args, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    fake.wait_for(len(fake.requests) + calls)
    process.kill()
    process.wait()


@pytest.mark.parametrize("how", [["--slot", "k"], ["--pending", "--limit", "1000"]])
async def test_a_killed_pod_loses_no_memory_and_stores_none_twice(db: GraphDatabase, fake: FakeLlm, how: list[str]) -> None:
    ids = await db.remember(*[f"Alice uses Redis{n}." for n in range(40)])
    fake.delay = 0.05
    env = {
        **os.environ,
        "DATABASE_URL": db.url,
        "OPENAI_BASE_URL": fake.base_url,
        "RAE_LLM_BATCH_SIZE": "2",
        "RAE_LLM_CONCURRENCY": "2",
        # Long, and lapsed by hand: on a busy machine a short one would lapse while its own run still works on it.
        "RAE_EXTRACTION_LEASE_SECONDS": "60",
        "RAE_EXTRACTION_TRIES": "10",
    }
    args = [sys.executable, "-m", "rae_jobctl", "extract-graph", "--tenant", "demo-tenant", "--project", PROJECT, *how]
    for calls in (2, 6, 11):
        await asyncio.to_thread(kill_after, fake, calls, args, env)
        await db.pool.execute("UPDATE rae_jobs.extraction_state SET leased_until = now() - interval '1 second'")
    done = await asyncio.to_thread(subprocess.run, args, env=env, capture_output=True)
    assert done.returncode == 0
    assert await db.marked() == set(ids)
    edges = await db.edges()
    assert len(edges) == 40
    assert all(len(edge["evidence"]) == 1 for edge in edges.values())
    # A kill costs at most the calls in flight: two of two memories, three times.
    assert len(fake.requests) <= 20 + 3 * 2


async def test_a_preview_of_a_selection_counts_what_it_would_do(db: GraphDatabase, provider: Provider) -> None:
    await db.remember("Alice uses Redis.", "hi!")
    outcome = await preview(db.pool, provider, params())
    assert outcome.counters["withoutContent"] == 1
    assert outcome.result["estimate"]["calls"] == 1
    assert summarise(outcome) is None
