"""Runs of the tasks under a budget: where they stop, what they keep, and what the operator is told."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rae_jobctl.dev.postgres import free_port
from rae_jobctl.llm.pricing import PRICES
from rae_jobctl.llm.types import Usage
from rae_jobctl.tasks.metering.reservations import money
from tests.fake_llm.server import FakeLlm, Reply, completion, error, fake_llm
from tests.integration.budgets import assert_sums_are_those_of_the_rows, committed
from tests.integration.graph_database import PROJECT, TENANT, GraphDatabase, db
from tests.integration.memories import Ended, jobctl, start_jobctl

__all__ = ["db"]

PENDING = ("extract-graph", "--tenant", "demo-tenant", "--project", PROJECT, "--pending", "--limit", "1000", "-o", "json")


@pytest.fixture
def fake() -> Iterator[FakeLlm]:
    with fake_llm() as running:
        yield running


@pytest.fixture
async def full(db: GraphDatabase) -> AsyncIterator[GraphDatabase]:
    """A hundred memories that wait."""
    await db.remember(*[f"Alice uses Redis{n}." for n in range(100)])
    yield db


def env(fake: FakeLlm, **more: str) -> dict[str, str]:
    """A batch of five, one call at a time."""
    return {
        "OPENAI_BASE_URL": fake.base_url,
        "MINI_MODEL": "gpt-4o-mini",
        "RAE_LLM_BATCH_SIZE": "5",
        "RAE_LLM_CONCURRENCY": "1",
        "RAE_LLM_MAX_RETRIES": "0",
        "RAE_LLM_TIMEOUT_SECONDS": "20",
        **more,
    }


async def run(db: GraphDatabase, fake: FakeLlm, *command: str, **more: str) -> Ended:
    return await asyncio.to_thread(jobctl, db.url, *(command or PENDING), **env(fake, **more))


def request(tmp_path: Path) -> dict[str, str]:
    """The environment of a request's pod."""
    (tmp_path / "said").touch()
    body = {"kind": "GraphExtractionRequest", "name": "r", "uid": str(uuid4()), "attempt": 1, "spec": {}}
    return {"RAE_REQUEST": json.dumps(body), "RAE_TERMINATION_PATH": str(tmp_path / "said")}


def said(tmp_path: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((tmp_path / "said").read_text())
    return body


def paid(fake: FakeLlm) -> Decimal:
    """What the endpoint would put on the bill for all that it answered: 4 characters a token, as it tells in `usage`."""
    total = Decimal(0)
    for used in fake.answered:
        cost = money(PRICES["gpt-4o-mini"], Usage(1, used["prompt_tokens"], 0, used["completion_tokens"]))
        assert cost is not None
        total += cost
    return total


# Where a run stops -----------------------------------------------------------------------------------------------------------


async def test_a_run_without_a_request_ends_well_when_its_budget_is_spent(full: GraphDatabase, fake: FakeLlm) -> None:
    ended = await run(full, fake, RAE_LLM_DAILY_BUDGET_USD="0.0025")
    assert (ended.code, ended.json["reason"]) == (0, "BudgetExhausted")
    assert ended.json["retryAfter"].endswith("T00:00:00Z")
    stored = ended.json["counters"]["extracted"]
    assert 0 < stored < 100
    assert stored == 5 * len(fake.requests) == len(await full.marked())
    # What it did not come to waits, free for the next run, and charged to no memory.
    assert await full.value("SELECT count(*) FROM memories WHERE NOT graph_extracted") == 100 - stored
    assert await full.value("SELECT count(*) FROM rae_jobs.extraction_state WHERE tries > 0 OR leased_until > now()") == 0
    assert await full.value("SELECT state || ' ' || reason FROM rae_jobs.task_runs") == "finished BudgetExhausted"
    assert paid(fake) == await committed(full.pool) <= Decimal("0.0025")
    await assert_sums_are_those_of_the_rows(full.pool)


async def test_a_run_of_a_request_tells_when_to_come_back_and_then_goes_on(
    full: GraphDatabase, fake: FakeLlm, tmp_path: Path
) -> None:
    pod = request(tmp_path)
    ended = await run(full, fake, RAE_LLM_DAILY_BUDGET_USD="0.0025", **pod)
    assert ended.code == 75
    assert (said(tmp_path)["reason"], said(tmp_path)["retryAfter"][-10:]) == ("BudgetExhausted", "T00:00:00Z")
    assert await full.value("SELECT state || ' ' || failures FROM rae_jobs.task_runs") == "sliced 0"
    # It waits for its budget, so nobody need look after it.
    await full.pool.execute("UPDATE rae_jobs.task_runs SET updated_at = now() - interval '2 days'")
    assert (await asyncio.to_thread(jobctl, full.url, "runs", "list", "--dead")).output.strip() == "no dead letters"
    calls = len(fake.requests)
    assert calls > 0
    assert (await run(full, fake, RAE_LLM_DAILY_BUDGET_USD="0.0025", **pod)).code == 75
    assert len(fake.requests) == calls
    assert (await run(full, fake, RAE_LLM_DAILY_BUDGET_USD="100", **pod)).code == 0
    assert len(await full.marked()) == 100
    assert len(fake.requests) == 20


async def test_of_a_batch_of_several_prompts_those_that_were_paid_for_are_kept(full: GraphDatabase, fake: FakeLlm) -> None:
    # Each memory is a prompt of its own, and all are one batch.
    more = {"RAE_LLM_BATCH_TOKENS": "200"}
    long = await full.remember(*[f"Bob uses Kafka{n}. " + "It is said that this is so. " * 20 for n in range(5)])
    ids = [part for memory in long for part in ("--memory-id", str(memory))]
    named = ("extract-graph", "--tenant", "demo-tenant", "--project", PROJECT, *ids, "-o", "json")
    ended = await run(full, fake, *named, RAE_LLM_DAILY_BUDGET_USD="0.0014", **more)
    assert (ended.code, ended.json["reason"]) == (0, "BudgetExhausted"), ended.errors
    kept = await full.marked()
    assert 0 < len(kept) < 5
    assert kept <= set(long)


async def test_a_budget_that_no_call_fits_into_costs_nothing(full: GraphDatabase, fake: FakeLlm) -> None:
    ended = await run(full, fake, RAE_LLM_MONTHLY_BUDGET_USD="0")
    assert (ended.code, ended.json["reason"]) == (0, "BudgetExhausted")
    assert fake.requests == []
    assert "monthly budget of the tenant" in ended.json["message"]


async def test_a_project_without_a_budget_goes_on_beside_one_whose_is_spent(full: GraphDatabase, fake: FakeLlm) -> None:
    await full.pool.execute("INSERT INTO budgets (tenant_id, project, daily_limit) VALUES ($1, $2, 0)", TENANT, PROJECT)
    await full.remember("Bob uses Kafka.", project="web")
    assert (await run(full, fake)).json["reason"] == "BudgetExhausted"
    other = await run(full, fake, *PENDING[:3], "--project", "web", *PENDING[5:])
    assert (other.json["reason"], other.json["counters"]["extracted"]) == ("Done", 1)


async def test_a_tenants_own_budget_is_in_its_config(full: GraphDatabase, fake: FakeLlm) -> None:
    await full.pool.execute('UPDATE tenants SET config = \'{"llm_budget": {"daily_usd": 0}}\'::text::jsonb')
    assert (await run(full, fake)).json["reason"] == "BudgetExhausted"
    await full.pool.execute('UPDATE tenants SET config = \'{"llm_budget": {"daily": 1}}\'::text::jsonb')
    ended = await run(full, fake)
    assert ended.code == 78
    assert "llm_budget" in ended.errors
    assert fake.requests == []


async def test_a_budget_with_an_unknown_price_is_refused_before_any_call(full: GraphDatabase, fake: FakeLlm) -> None:
    ended = await run(full, fake, MINI_MODEL="llama3", RAE_LLM_DAILY_BUDGET_USD="1")
    assert ended.code == 78
    assert "RAE_LLM_PRICE_" in ended.errors
    assert fake.requests == []
    priced = await run(
        full, fake, MINI_MODEL="llama3", RAE_LLM_DAILY_BUDGET_USD="1", RAE_LLM_PRICE_PROMPT="0", RAE_LLM_PRICE_COMPLETION="0"
    )
    assert (priced.code, priced.json["reason"]) == (0, "Done")
    assert await committed(full.pool) == 0


@pytest.mark.parametrize("value", ["-1", "much"])
async def test_a_budget_that_is_no_sum_is_refused(db: GraphDatabase, fake: FakeLlm, value: str) -> None:
    ended = await run(db, fake, RAE_LLM_DAILY_BUDGET_USD=value)
    assert ended.code == 78
    assert "RAE_LLM_DAILY_BUDGET_USD" in ended.errors


async def test_a_reflection_that_does_not_fit_whole_makes_no_call(db: GraphDatabase, fake: FakeLlm) -> None:
    await db.remember(*[f"The nightly backup of host{n} failed with a timeout." for n in range(5)])
    reflect = ("generate-reflection", "--tenant", "demo-tenant", "--project", PROJECT, "-o", "json")
    ended = await run(db, fake, *reflect, RAE_LLM_DAILY_BUDGET_USD="0.0012")
    assert (ended.code, ended.json["reason"]) == (0, "BudgetExhausted")
    assert fake.requests == []
    assert await db.value("SELECT count(*) FROM reflections") == 0
    # Its claim on the memories is gone, so the next one is free to reflect.
    assert (await run(db, fake, *reflect, RAE_LLM_DAILY_BUDGET_USD="1")).json["reason"] == "Done"


async def test_a_dry_run_needs_no_budget(full: GraphDatabase, fake: FakeLlm) -> None:
    ended = await run(full, fake, *PENDING, "--dry-run", RAE_LLM_DAILY_BUDGET_USD="0")
    assert (ended.code, ended.json["reason"]) == (0, "DryRun")


# What a call has cost that went wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "state", "cause"),
    [
        (error(429, "rate_limit_exceeded"), "released", "429"),
        (error(401, "invalid_api_key"), "released", "401"),
        (error(400, "content_filter"), "settled", "400"),
        (error(400, "unsupported_parameter", param="temperature"), "released", "400"),
        (error(500, "server_error"), "settled", "InternalServerError"),
        (Reply(200, b"{not json"), "settled", None),
        (completion("{}"), "settled", None),
        (Reply(200, b" " * 3_000_000), "settled", "AnswerError"),
    ],
)
async def test_a_call_is_free_only_where_that_is_sure(
    full: GraphDatabase, fake: FakeLlm, reply: Reply, state: str, cause: str | None
) -> None:
    fake.faults.append(reply)
    await run(full, fake, *PENDING[:6], "--limit", "1", "-o", "json", RAE_LLM_DAILY_BUDGET_USD="1")
    row = await full.pool.fetchrow("SELECT * FROM rae_jobs.llm_usage ORDER BY created_at LIMIT 1")
    assert row is not None
    assert row["state"] == state
    assert row["reserved_usd"] > 0
    assert row["cost_usd"] == (0 if state == "released" else row["reserved_usd"])
    assert row["error_class"] == ("500" if cause == "InternalServerError" else cause)
    await assert_sums_are_those_of_the_rows(full.pool)


async def test_a_call_to_nobody_is_free_and_one_that_timed_out_is_not(full: GraphDatabase, fake: FakeLlm) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    assert (await run(full, fake, OPENAI_BASE_URL=nobody, RAE_LLM_DAILY_BUDGET_USD="1")).code == 75
    assert await committed(full.pool) == 0
    fake.faults.append(Reply(200, b"{}", hang=2))
    assert (await run(full, fake, RAE_LLM_TIMEOUT_SECONDS="0.3", RAE_LLM_DAILY_BUDGET_USD="1")).code == 75
    states = await full.pool.fetch("SELECT state, cost_usd = reserved_usd AS whole FROM rae_jobs.llm_usage ORDER BY created_at")
    assert [(row["state"], row["whole"]) for row in states] == [("released", False), ("settled", True)]
    await assert_sums_are_those_of_the_rows(full.pool)


async def test_a_reservation_whose_pod_was_killed_goes_on_counting_as_spent(full: GraphDatabase, fake: FakeLlm) -> None:
    fake.delay = 30
    process = start_jobctl(full.url, *PENDING, **env(fake, RAE_LLM_DAILY_BUDGET_USD="0.0025"))
    await asyncio.to_thread(fake.wait_for, 1)
    process.kill()
    process.communicate()
    row = await full.pool.fetchrow("SELECT state, reserved_usd FROM rae_jobs.llm_usage")
    assert row is not None and row["state"] == "reserved"
    assert await committed(full.pool) == row["reserved_usd"] > 0
    fake.delay = 0
    ended = await run(full, fake, RAE_LLM_DAILY_BUDGET_USD="0.0025")
    assert (ended.code, ended.json["reason"]) == (0, "BudgetExhausted")
    await assert_sums_are_those_of_the_rows(full.pool)


# Eight pods ------------------------------------------------------------------------------------------------------------------


async def test_eight_pods_killed_at_random_never_pass_a_budget(db: GraphDatabase, fake: FakeLlm) -> None:
    await db.remember(*[f"Alice uses Redis{n}." for n in range(300)])
    await db.pool.execute("INSERT INTO budgets (tenant_id, project, daily_limit) VALUES ($1, $2, 0.012)", TENANT, PROJECT)
    fake.delay = 0.05
    settings = env(fake, RAE_LLM_CONCURRENCY="3", RAE_LLM_DAILY_BUDGET_USD="0.015", RAE_EXTRACTION_LEASE_SECONDS="1")
    chance, peak = random.Random(5), Decimal(0)

    async def pod(number: int) -> list[int | None]:
        codes: list[int | None] = []
        for life in range(3):
            process = start_jobctl(db.url, *PENDING, "--shard", str(number % 2), "--shards", "2", **settings)
            ended = asyncio.create_task(asyncio.to_thread(process.communicate))
            if life < 2:
                await asyncio.wait([ended], timeout=chance.uniform(0.8, 4))
                process.kill()
            told = (await ended)[1]
            assert process.returncode in (0, -9), told
            codes.append(process.returncode)
        return codes

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, await committed(db.pool, PROJECT))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    codes = await asyncio.gather(*(pod(number) for number in range(8)))
    watching.cancel()
    assert Decimal("0.006") < peak <= Decimal("0.012")
    assert peak >= await committed(db.pool, PROJECT) >= paid(fake) > 0
    assert any(-9 in lives for lives in codes)
    assert {lives[-1] for lives in codes} == {0}
    await assert_sums_are_those_of_the_rows(db.pool)
    # No memory was marked without its triples, and none is lost: what was not paid for waits.
    assert len(await db.edges()) == len(await db.marked())
    assert await db.value("SELECT count(*) FROM memories WHERE NOT graph_extracted") == 300 - len(await db.marked())


# budget show -----------------------------------------------------------------------------------------------------------------


async def test_budget_show_tells_limits_spent_and_reserved(full: GraphDatabase, fake: FakeLlm) -> None:
    await full.pool.execute("INSERT INTO budgets (tenant_id, project, daily_limit) VALUES ($1, 'web', 0.5)", TENANT)
    await run(full, fake, RAE_LLM_MONTHLY_BUDGET_USD="2")
    await full.pool.execute(
        """
        UPDATE rae_jobs.llm_usage SET state = 'reserved', reserved_usd = cost_usd
        WHERE id = (SELECT id FROM rae_jobs.llm_usage ORDER BY created_at LIMIT 1)
        """
    )
    shown = await asyncio.to_thread(jobctl, full.url, "budget", "show", "-o", "json", RAE_LLM_MONTHLY_BUDGET_USD="2")
    rows = {(row["project"], row["period"]): row for row in shown.list}
    assert set(rows) == {(None, "day"), (None, "month"), (PROJECT, "day"), (PROJECT, "month"), ("web", "day")}
    whole = rows[None, "month"]
    assert (whole["limitUsd"], whole["limitSource"], whole["tenant"]) == (2, "RAE_LLM_MONTHLY_BUDGET_USD", "demo-tenant")
    assert whole["spentUsd"] > whole["reservedUsd"] > 0
    assert whole["spentUsd"] + whole["reservedUsd"] + whole["leftUsd"] == pytest.approx(2)
    assert rows[None, "day"]["limitUsd"] is None
    assert (rows["web", "day"]["limitUsd"], rows["web", "day"]["leftUsd"]) == (0.5, 0.5)
    table = await asyncio.to_thread(jobctl, full.url, "budget", "show", "--tenant", "demo-tenant")
    assert "(all)" in table.output and "RESERVED" in table.output
    assert (await asyncio.to_thread(jobctl, full.url, "budget", "show", "--tenant", "nobody")).code == 65


async def test_budget_show_of_nothing_says_so(database_url: str) -> None:
    shown = await asyncio.to_thread(jobctl, database_url, "budget", "show")
    assert (shown.code, shown.output.strip()) == (0, "no budget is set, and nothing has been spent this month")
