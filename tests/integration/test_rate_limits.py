"""Turns over several processes, in Valkey and in PostgreSQL: what a minute sees, who waits, and for how long all keep away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from rae_jobctl.deadline import StopSignal
from rae_jobctl.dev.postgres import free_port
from rae_jobctl.errors import ConfigError, SoftLimitReached, TransientError
from rae_jobctl.llm.meter import CallSize
from rae_jobctl.tasks.metering.meter import RunMeter
from rae_jobctl.tasks.metering.rates import (
    BURST_SECONDS,
    EitherTurns,
    PostgresTurns,
    RedisTurns,
    Share,
    Turns,
    redis_client,
    share_of,
)
from rae_jobctl.tasks.metering.refusals import count_refusal, recent_refusals
from tests.fake_llm.server import FakeLlm, error, fake_llm
from tests.integration.budgets import limits, purpose
from tests.integration.graph_database import PROJECT, GraphDatabase, db
from tests.integration.memories import start_jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool
    from rae_jobctl.dev.valkey import ValkeyServer

__all__ = ["db"]

SMALL = CallSize(prompt_tokens=50, most_prompt_tokens=100, most_completion_tokens=50)


@pytest.fixture
def fake() -> Iterator[FakeLlm]:
    with fake_llm() as running:
        yield running


@pytest.fixture
async def redis_turns(valkey: ValkeyServer) -> AsyncIterator[RedisTurns]:
    async with redis_client(valkey.url) as client:
        await client.flushdb()
        yield RedisTurns(client)


@pytest.fixture(params=["redis", "postgres"])
def turns(request: pytest.FixtureRequest, pool: Pool, redis_turns: RedisTurns) -> Turns:
    return redis_turns if request.param == "redis" else PostgresTurns(pool)


async def take_patiently(turns: Turns, share: Share) -> float:
    """The moment of a turn that was waited for."""
    stop = StopSignal()
    while wait := await turns.take("m", share):
        await stop.pause(min(wait, 0.05))
    return time.monotonic()


def most_within(moments: Sequence[float], seconds: float) -> int:
    """The greatest number of moments in any span of so many seconds."""
    ordered = sorted(moments)
    return max(sum(start <= moment <= start + seconds for moment in ordered) for start in ordered)


# The algorithm ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_minute", [1, 3, 7, 30, 31, 60, 500])
def test_no_minute_sees_more_requests_than_the_limit(per_minute: int) -> None:
    """The rule itself, on a clock of its own: greedy callers that try all the time."""
    share = share_of(1, 0, (per_minute, None)).requests
    due, moments = 0.0, []
    for tick in range(200_000):
        now = tick / 1000
        if max(due, now) - now <= max(BURST_SECONDS - share, 0) + 1e-9:
            due = max(due, now) + share
            moments.append(now)
    assert most_within(moments, 59.999) <= per_minute
    # And not far fewer, or a limit would cost more than it says.
    assert len(moments) >= 0.9 * (per_minute * 200 / 60) - 1


async def test_a_burst_passes_at_once_and_the_next_is_told_how_long_to_wait(turns: Turns) -> None:
    share = share_of(1, 0, (6.2, None))
    assert share.requests == pytest.approx(10)
    assert await turns.take("m", share) == 0
    assert 9 < await turns.take("m", share) <= 10
    assert await turns.take("other-model", share) == 0
    small = share_of(1, 0, (124, None))
    assert [await turns.take("s", small) for _ in range(4)] == [0] * 4
    assert 0.1 < await turns.take("s", small) <= 0.5


async def test_the_smaller_of_requests_and_tokens_holds(turns: Turns) -> None:
    assert await turns.take("m", share_of(1, 620, (6000, 620))) == 0
    assert 50 < await turns.take("m", share_of(1, 10, (6000, 620))) <= 62
    # Tokens that were not needed are given back, and the way is free.
    await turns.correct("m", share_of(0, -620, (6000, 620)))
    assert await turns.take("m", share_of(1, 10, (6000, 620))) == 0


async def test_a_call_larger_than_a_minutes_tokens_passes_alone(turns: Turns) -> None:
    assert await turns.take("m", share_of(1, 2000, (None, 1000))) == 0
    assert await turns.take("m", share_of(1, 1, (None, 1000))) > 100


async def test_without_limits_everybody_passes_and_still_keeps_away_where_that_was_asked(turns: Turns) -> None:
    nothing = share_of(1, 1000, (None, None))
    assert [await turns.take("m", nothing) for _ in range(50)] == [0] * 50
    await turns.hold("m", 30)
    await turns.hold("m", 1)
    assert 28 < await turns.take("m", nothing) <= 30
    assert await turns.take("n", nothing) == 0
    await turns.hold("n", 1e12)
    assert await turns.take("n", nothing) <= 3600


async def test_rivals_take_no_more_than_there_is(turns: Turns) -> None:
    share = share_of(1, 0, (1240, None))
    moments: list[float] = []

    async def caller() -> None:
        for _ in range(5):
            moments.append(await take_patiently(turns, share))

    begun = time.monotonic()
    await asyncio.gather(*(caller() for _ in range(16)))
    for seconds in (0.5, 1.0, 2.0):
        # A turn is noted a little after it was taken, so two spans may share some.
        assert most_within(moments, seconds) <= (seconds + BURST_SECONDS) / share.requests * 1.2 + 2
    assert max(moments) - begun >= 80 * share.requests - BURST_SECONDS - 0.1


# Redis that is away ----------------------------------------------------------------------------------------------------------


async def test_without_redis_the_limits_are_kept_in_postgresql(pool: Pool) -> None:
    async with redis_client(f"redis://:secret@127.0.0.1:{free_port()}/0") as client:
        turns = EitherTurns(RedisTurns(client), PostgresTurns(pool))
        share = share_of(1, 0, (6.2, None))
        assert await turns.take("m", share) == 0
        assert await turns.take("m", share) > 5
        await turns.hold("m", 50)
    assert await PostgresTurns(pool).take("m", share) > 30


async def test_redis_that_refuses_us_is_as_good_as_away(pool: Pool, valkey: ValkeyServer) -> None:
    async with redis_client(valkey.url.replace(valkey.password, "wrong")) as client:
        turns = EitherTurns(RedisTurns(client), PostgresTurns(pool))
        assert await turns.take("m", share_of(1, 0, (6.2, None))) == 0
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.llm_rates") == 1


def test_a_url_that_is_none_of_redis_is_refused_and_not_told() -> None:
    with pytest.raises(ConfigError, match="REDIS_URL") as caught:
        redis_client("http://user:secret@host")
    assert "secret" not in str(caught.value)


async def test_a_restarted_redis_knows_no_scripts_and_no_turns_and_works(redis_turns: RedisTurns, valkey: ValkeyServer) -> None:
    share = share_of(1, 0, (6.2, None))
    assert await redis_turns.take("m", share) == 0
    async with redis_client(valkey.url) as client:
        await client.flushall()
        await client.script_flush()
    assert await redis_turns.take("m", share) == 0


async def test_what_redis_keeps_of_a_model_expires(redis_turns: RedisTurns, valkey: ValkeyServer) -> None:
    await redis_turns.take("m", share_of(1, 0, (6.2, None)))
    await redis_turns.hold("h", 100)
    async with redis_client(valkey.url) as client:
        keys = await client.keys("*")
        assert len(keys) == 2
        assert all([0 < await client.ttl(key) <= 161 for key in keys])
        # RAE's own cache clears what begins with "rae:".
        assert not any(str(key).startswith(("rae:", "b'rae:")) for key in keys)


# Waiting ---------------------------------------------------------------------------------------------------------------------


def meter(pool: Pool, stop: StopSignal, requests: float | None = None) -> RunMeter:
    return RunMeter(pool, PostgresTurns(pool), stop, purpose(), "m", (0.15, 0.075, 0.6), limits(), (requests, None))


async def test_waiting_for_a_turn_ends_with_the_stop_signal(pool: Pool) -> None:
    stop = StopSignal()
    ours = meter(pool, stop, requests=1)
    async with ours.call(SMALL):
        pass
    asyncio.get_running_loop().call_later(0.2, stop.set, "SIGTERM")
    with pytest.raises(SoftLimitReached, match="SIGTERM"):
        async with ours.call(SMALL):
            pytest.fail("there was no turn")
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.llm_usage") == 1


async def test_a_wait_that_is_longer_than_a_lease_ends_the_attempt_and_tells_when_to_come_back(pool: Pool) -> None:
    await PostgresTurns(pool).hold("m", 1800)
    with pytest.raises(TransientError, match="1800 s") as caught:
        async with meter(pool, StopSignal()).call(SMALL):
            pytest.fail("there was no turn")
    assert caught.value.reason == "LlmRateLimited"
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > datetime.now(UTC) + timedelta(minutes=25)


async def test_a_call_that_the_budget_refuses_leaves_its_turn_to_others(pool: Pool) -> None:
    poor = RunMeter(pool, PostgresTurns(pool), StopSignal(), purpose(), "m", (0.15, 0.075, 0.6), limits("0"), (6, 1000))
    for _ in range(3):
        with pytest.raises(TransientError, match="budget"):
            async with poor.call(SMALL):
                pytest.fail("there was no money")
    assert await PostgresTurns(pool).take("m", share_of(1, 100, (6, 1000))) == 0


async def test_refusals_are_counted_for_ten_minutes(pool: Pool) -> None:
    assert await recent_refusals(pool) == 0
    await asyncio.gather(*(count_refusal(pool) for _ in range(8)))
    assert await recent_refusals(pool) == 8
    await pool.execute("UPDATE rae_jobs.llm_refusals SET minute = minute - interval '11 minutes'")
    await count_refusal(pool)
    assert await recent_refusals(pool) == 1
    await pool.execute("UPDATE rae_jobs.llm_refusals SET minute = minute - interval '2 hours'")
    await count_refusal(pool)
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.llm_refusals") == 1


# Processes -------------------------------------------------------------------------------------------------------------------


def env(fake: FakeLlm, **more: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": fake.base_url, "RAE_LLM_BATCH_SIZE": "1", "RAE_LLM_CONCURRENCY": "4", "REDIS_URL": "", **more}


def extraction(number: int = 0, shards: int = 1) -> tuple[str, ...]:
    shard = ("--shard", str(number), "--shards", str(shards), "--limit", "1000")
    return ("extract-graph", "--tenant", "demo-tenant", "--project", PROJECT, "--pending", *shard, "-o", "json")


@pytest.mark.parametrize("store", ["redis", "postgres"])
async def test_four_pods_keep_to_the_limit_together(
    db: GraphDatabase, fake: FakeLlm, valkey: ValkeyServer, redis_turns: RedisTurns, store: str
) -> None:
    await db.remember(*[f"Alice uses Redis{n}." for n in range(60)])
    limit = "310"
    more = {"RAE_LLM_REQUESTS_PER_MINUTE": limit, "REDIS_URL": valkey.url if store == "redis" else ""}
    processes = [start_jobctl(db.url, *extraction(number, 4), **env(fake, **more)) for number in range(4)]
    ended = await asyncio.gather(*(asyncio.to_thread(process.communicate) for process in processes))
    assert [process.returncode for process in processes] == [0] * 4, ended
    assert len(await db.marked()) == 60
    # 0.2 s a call, ten at once; calls arrive some time after their turns, so a window may have some of its neighbours'.
    assert most_within(fake.arrivals, 4.0) <= 30 * 1.2
    where = await db.value("SELECT count(*) FROM rae_jobs.llm_rates")
    assert where == (0 if store == "redis" else 1)


async def test_all_pods_keep_away_for_as_long_as_one_was_asked_to(db: GraphDatabase, fake: FakeLlm) -> None:
    await db.remember(*[f"Alice uses Redis{n}." for n in range(40)])
    refusals: list[float] = []

    def limited(request: Any) -> Any:
        if len(fake.arrivals) >= 12 and not refusals:
            refusals.append(fake.arrivals[-1])
            return error(429, "rate_limit_exceeded", retry_after="3")
        return None

    fake.always, fake.delay = limited, 0.1
    processes = [start_jobctl(db.url, *extraction(number, 3), **env(fake, RAE_LLM_CONCURRENCY="1")) for number in range(3)]
    ended = await asyncio.gather(*(asyncio.to_thread(process.communicate) for process in processes))
    assert [process.returncode for process in processes] == [0] * 3, ended
    after = [moment - refusals[0] for moment in fake.arrivals if moment > refusals[0]]
    # Calls that had their turn when the 429 came are on their way; then nobody calls.
    assert max(late - early for early, late in pairwise([0.0, *after])) >= 2.5
    assert sum(moment < 2.5 for moment in after) <= 4
    assert len(await db.marked()) == 40
    assert await recent_refusals(db.pool) == 1


async def test_a_run_that_is_stopped_while_it_waits_for_its_turn_is_a_slice(db: GraphDatabase, fake: FakeLlm) -> None:
    await db.remember(*[f"Alice uses Redis{n}." for n in range(20)])
    process = start_jobctl(db.url, *extraction(), **env(fake, RAE_LLM_REQUESTS_PER_MINUTE="3"))
    while not await db.marked() and process.poll() is None:
        await StopSignal().pause(0.05)
    process.terminate()
    output, errors = await asyncio.to_thread(process.communicate)
    assert (process.returncode, json.loads(output)["reason"]) == (75, "TimeSliced"), errors
    assert len(await db.marked()) == len(fake.requests) == 1
    # What had been claimed for the calls that were not made is free again, and charged with no try.
    assert await db.value("SELECT count(*) FROM rae_jobs.extraction_state WHERE leased_until > now() OR tries > 0") == 0
