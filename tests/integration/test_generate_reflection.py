"""generate-reflection on real PostgreSQL: stored once for the same memories, with evidence, however often it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import RunLocked, TransientError, UsageError
from rae_jobctl.llm.factory import open_provider
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.llm.types import Provider, ReflectionKind
from rae_jobctl.outcome import Outcome
from rae_jobctl.tasks.reflection.params import ReflectionParams, parse_since
from rae_jobctl.tasks.reflection.task import generate_reflection, preview, summarise
from tests.fake_llm.server import FakeLlm, completion, error, fake_llm
from tests.integration.graph_database import PROJECT, TENANT, GraphDatabase, db, slot

__all__ = ["db"]

BACKUPS = [f"The nightly backup of PostgreSQL failed on node {n}." for n in range(5)]
PRICE = (0.15, 0.075, 0.6)


@pytest.fixture
def fake() -> Iterator[FakeLlm]:
    with fake_llm() as running:
        yield running


@pytest.fixture
async def provider(fake: FakeLlm) -> AsyncIterator[Provider]:
    settings = LlmSettings(ProviderName.OPENAI, "gpt-4o-mini", base_url=fake.base_url, max_retries=0, max_wait=0.2, price=PRICE)
    opened = open_provider(settings, StopSignal())
    yield opened
    await opened.aclose()


@pytest.fixture
def local() -> Provider:
    return open_provider(LlmSettings(ProviderName.LOCAL), StopSignal())


async def run(db: GraphDatabase, provider: Provider, *, key: str | None = None, **changes: Any) -> Outcome:
    params = ReflectionParams(**{"tenant": "demo-tenant", "project": PROJECT, **changes})
    return await generate_reflection(db.pool, provider, params, slot=slot(key), stop=StopSignal(), price=PRICE)


async def test_a_reflection_is_stored_with_its_evidence_and_as_a_memory(db: GraphDatabase, local: Provider) -> None:
    ids = await db.remember(*BACKUPS)
    outcome = await run(db, local)
    assert outcome.reason == "Done"
    reflection = outcome.result["reflection"]
    assert set(reflection) == {"summary", "key_insights", "suggested_actions"}
    assert all(isinstance(text, str) for text in reflection["key_insights"])
    row = await db.pool.fetchrow("SELECT * FROM reflections")
    assert row is not None
    assert (row["tenant_id"], row["project"], row["type"], row["summary"]) == (TENANT, PROJECT, "insight", reflection["summary"])
    assert set(row["source_memory_ids"]) <= set(ids)
    assert 1 <= row["priority"] <= 5
    assert row["metadata"]["key_insights"][0]["evidence"]
    memory = await db.pool.fetchrow("SELECT * FROM memories WHERE layer = 'reflective'")
    assert memory is not None
    assert reflection["summary"] in memory["content"]
    assert memory["metadata"]["reflection_id"] == str(row["id"]) == outcome.result["reflectionId"]
    assert len(outcome.result["insight_evidence"]) == len(reflection["key_insights"])
    for proof in outcome.result["insight_evidence"]:
        assert len(proof["memoryIds"]) >= 2 or proof["singleSource"]


async def test_the_same_memories_are_reflected_upon_once(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    await db.remember(*BACKUPS)
    first = await run(db, provider)
    calls = len(fake.requests)
    second = await run(db, provider)
    assert second.reason == "AlreadyReflected"
    assert second.result["reflectionId"] == first.result["reflectionId"]
    assert second.result["reflection"] == first.result["reflection"]
    assert second.result["insight_evidence"] == first.result["insight_evidence"]
    assert len(fake.requests) == calls
    assert await db.value("SELECT count(*) FROM reflections") == 1


async def test_another_memory_kind_or_model_is_another_input(db: GraphDatabase, local: Provider) -> None:
    await db.remember(*BACKUPS)
    await run(db, local)
    assert (await run(db, local, kind=ReflectionKind.META)).reason == "Done"
    await db.remember("The backup of PostgreSQL failed again.")
    assert (await run(db, local)).reason == "Done"
    assert await db.value("SELECT count(*) FROM reflections") == 3


async def test_rivals_make_one_call_between_them(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    await db.remember(*BACKUPS)
    fake.delay = 0.3
    outcomes = await asyncio.gather(*[run(db, provider) for _ in range(4)], return_exceptions=True)
    done = [outcome for outcome in outcomes if isinstance(outcome, Outcome) and outcome.reason == "Done"]
    assert len(done) == 1
    assert all(isinstance(outcome, RunLocked) for outcome in outcomes if outcome not in done)
    assert len(fake.requests) == 2
    assert await db.value("SELECT count(*) FROM reflections") == 1


async def test_a_failed_call_gives_its_claim_back(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    await db.remember(*BACKUPS)
    fake.faults.append(error(503, "busy"))
    with pytest.raises(TransientError):
        await run(db, provider)
    assert (await run(db, provider)).reason == "Done"


async def test_a_claim_whose_run_died_lapses(db: GraphDatabase, local: Provider) -> None:
    await db.remember(*BACKUPS)
    await run(db, local)
    await db.pool.execute(
        "UPDATE rae_jobs.reflection_claims SET run_id = gen_random_uuid(), reflection_id = NULL, stored_at = NULL, "
        "claimed_until = now() + interval '1 hour'"
    )
    with pytest.raises(RunLocked):
        await run(db, local)
    await db.pool.execute("UPDATE rae_jobs.reflection_claims SET claimed_until = now() - interval '1 second'")
    assert (await run(db, local)).reason == "Done"


async def test_too_few_memories_store_nothing_and_say_so(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    await db.remember(*BACKUPS[:2])
    outcome = await run(db, provider)
    assert (outcome.reason, int(outcome.exit_code)) == ("TooFewMemories", 0)
    assert fake.requests == []
    assert await db.value("SELECT count(*) FROM reflections") == 0


async def test_an_answer_without_a_sound_insight_stores_nothing(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    await db.remember(*BACKUPS)
    fake.faults.append(completion(json.dumps({"insights": [{"text": "Moon", "evidence": [99], "confidence": 1}]})))
    outcome = await run(db, provider)
    assert outcome.reason == "NoInsights"
    assert await db.value("SELECT count(*) FROM reflections") == 0


async def test_only_recent_episodic_memories_of_the_project_count(db: GraphDatabase, local: Provider) -> None:
    old = datetime.now(UTC) - timedelta(days=3)
    await db.remember(*BACKUPS, created_at=old)
    await db.remember(*BACKUPS, project="other")
    await db.remember(*BACKUPS, layer="semantic")
    assert (await run(db, local)).reason == "TooFewMemories"
    assert (await run(db, local, since=timedelta(days=7))).counters["memories"] == 5


async def test_memories_without_a_theme_are_still_reflected_upon(db: GraphDatabase, local: Provider) -> None:
    ids = await db.remember("Alice planted tomatoes.", "The router needs new firmware.", "Chess club meets on Friday.")
    outcome = await run(db, local)
    assert outcome.reason == "Done"
    assert {i for proof in outcome.result["insight_evidence"] for i in proof["memoryIds"]} <= {str(i) for i in ids}


async def test_a_text_that_the_tenant_has_already_is_no_second_memory(db: GraphDatabase, local: Provider) -> None:
    await db.remember(*BACKUPS)
    first = await run(db, local)
    await db.pool.execute("DELETE FROM rae_jobs.reflection_claims")
    second = await run(db, local)
    assert first.result["memoryId"] is not None
    assert second.result["memoryId"] is None
    assert await db.value("SELECT count(*) FROM memories WHERE layer = 'reflective'") == 1


async def test_usage_and_cost_stand_in_the_row(db: GraphDatabase, provider: Provider) -> None:
    await db.remember(*BACKUPS)
    await run(db, provider)
    row = await db.pool.fetchrow("SELECT * FROM reflections")
    assert row is not None
    assert row["generation_model"] == "gpt-4o-mini"
    assert row["generation_tokens_used"] > 0
    assert row["generation_cost_usd"] > 0
    calls = await db.value("SELECT count(*) FROM rae_jobs.llm_usage WHERE state = 'settled' AND cost_usd > 0")
    assert calls == 2


async def test_the_status_gets_ids_and_counts_but_no_text(db: GraphDatabase, local: Provider) -> None:
    await db.remember(*BACKUPS)
    summary = summarise(await run(db, local))
    assert summary is not None
    assert set(summary) == {"project", "reflectionId", "insights", "priority"}


async def test_a_preview_of_a_paid_provider_estimates(db: GraphDatabase, provider: Provider, fake: FakeLlm) -> None:
    await db.remember(*BACKUPS)
    outcome = await preview(db.pool, provider, ReflectionParams("demo-tenant", PROJECT), slot=slot())
    assert outcome.dry_run
    assert outcome.result["estimate"]["calls"] == 2
    assert fake.requests == []


@pytest.mark.parametrize("text", ["", "24", "24x", "0h", "-3h", "900w", "1h30m"])
def test_a_span_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        parse_since(text)


async def test_the_command_takes_a_request(db: GraphDatabase, tmp_path: Any) -> None:
    await db.remember(*BACKUPS)
    message = tmp_path / "termination"
    message.touch()
    spec = {
        "tenantId": "demo-tenant",
        "project": PROJECT,
        "since": "7d",
        "maxMemories": 50,
        "minClusterSize": 3,
        "kind": "pattern",
    }
    request = json.dumps({"kind": "ReflectionRequest", "name": "x", "uid": "u-2", "attempt": 1, "spec": spec})
    env = {
        **os.environ,
        "DATABASE_URL": db.url,
        "RAE_LLM_PROVIDER": "local",
        "RAE_REQUEST": request,
        "RAE_TERMINATION_PATH": str(message),
    }
    args = [sys.executable, "-m", "rae_jobctl", "generate-reflection", "-o", "json"]
    done = await asyncio.to_thread(lambda: subprocess.run(args, env=env, capture_output=True, text=True))
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert body["result"]["project"] == PROJECT
    assert body["result"]["kind"] == "pattern"
    assert json.loads(message.read_text())["result"]["reflectionId"] == body["result"]["reflectionId"]
