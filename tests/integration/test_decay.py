"""Decay on a real PostgreSQL: each day once, whatever happens in between."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rae_jobctl.db.pool import open_pool
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ExitCode, TimeSliced
from rae_jobctl.outcome import Outcome
from rae_jobctl.settings import DatabaseSettings
from rae_jobctl.slots import Slot
from rae_jobctl.tasks import walk
from rae_jobctl.tasks.decay.params import DecayParams
from rae_jobctl.tasks.decay.task import Occurrence, decay
from tests.integration.killing import killed_and_run_again
from tests.integration.memories import OTHER, TENANT, add_many, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

DAY = date(2026, 11, 24)
AT = datetime(2026, 11, 24, 2, tzinfo=UTC)


def occurrence(at: datetime = AT, stop: StopSignal | None = None) -> Occurrence:
    return Occurrence(Slot(f"cron:{at:%Y-%m-%dT%H:%MZ}", at, "cronjob"), stop or StopSignal())


async def run(pool: Pool, at: datetime = AT, *, rate: float = 0.95, days: int = 7, **more: Any) -> Outcome:
    params = DecayParams(at, rate, days, allow_steep=True)
    return await decay(pool, params, more.pop("occurrence", occurrence(at)), **{"tenant": None, "dry_run": False, **more})


async def strengths(pool: Pool) -> list[float | None]:
    return [row["strength"] for row in await pool.fetch("SELECT strength FROM memories ORDER BY id")]


@pytest.mark.parametrize(("days", "left"), [(1, 0.95), (2, 0.90), (7, 0.70), (30, 0.21)])
async def test_strength_fades_as_the_readme_says(pool: Pool, days: int, left: float) -> None:
    await add_tenant(pool)
    await add_memories(pool, through=DAY)

    for day in range(1, days + 1):
        await run(pool, AT + timedelta(days=day))

    (strength,) = await strengths(pool)
    assert strength == pytest.approx(0.95**days, rel=1e-9)
    assert round(strength or 0, 2) == left


async def test_a_second_run_of_the_same_day_changes_nothing(pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, 3, through=DAY - timedelta(days=1))

    first = await run(pool)
    again = await run(pool)
    by_hand = await run(pool, occurrence=Occurrence(Slot("once:1", AT, "fresh"), StopSignal()))

    assert (first.counters["decayed"], again.reason, by_hand.counters["decayed"]) == (3, "AlreadyDone", 0)
    assert await strengths(pool) == [pytest.approx(0.95)] * 3


async def test_missed_days_are_made_good_up_to_the_cap_and_the_rest_is_said(pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, through=DAY - timedelta(days=10))

    outcome = await run(pool, days=7)

    assert await strengths(pool) == [pytest.approx(0.95**7)]
    assert outcome.result["tenants"][0]["lostDays"] == 3
    assert "3 days further behind" in outcome.message


async def test_a_memory_that_rae_inserts_decays_from_its_own_day(pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool)
    today = datetime.now(UTC)

    await run(pool, today)
    assert await strengths(pool) == [1.0]

    await run(pool, today + timedelta(days=1))
    assert await strengths(pool) == [pytest.approx(0.95)]


@pytest.mark.parametrize("strength", [None, 0.0, 1e-300, 5e-324, 1e-12, math.nan])
async def test_no_strength_stops_the_run(pool: Pool, strength: float | None) -> None:
    await add_tenant(pool)
    await add_memories(pool, through=DAY - timedelta(days=7), strength=strength)

    assert (await run(pool, rate=1e-60)).counters["decayed"] == 1

    (left,) = await strengths(pool)
    assert left == strength if left is None else (left == 0.0 or math.isnan(left))


@pytest.mark.parametrize("bad", ["fast", 10**400])
async def test_a_tenants_own_rate_wins_and_a_bad_one_fails_that_tenant_alone(pool: Pool, bad: object) -> None:
    await add_tenant(pool, TENANT, "kind", {"memory_decay_rate": 0.5})
    await add_tenant(pool, OTHER, "broken", {"memory_decay_rate": bad})
    (mine,) = await add_memories(pool, through=DAY - timedelta(days=1))
    (theirs,) = await add_memories(pool, tenant=OTHER, through=DAY - timedelta(days=1))

    outcome = await run(pool)

    found = {row["id"]: row["strength"] for row in await pool.fetch("SELECT id, strength FROM memories")}
    assert found == {mine: pytest.approx(0.5), theirs: 1.0}
    assert outcome.exit_code is ExitCode.BAD_DATA
    assert [(f["tenant"], f["reason"]) for f in outcome.failures] == [("broken", "DecayRateInvalid")]


async def test_what_has_expired_is_deleted_with_an_audit_row(pool: Pool) -> None:
    await add_tenant(pool)
    (gone,) = await add_memories(pool, expires_at=AT - timedelta(seconds=1))
    (kept,) = await add_memories(pool, expires_at=AT + timedelta(seconds=1))

    outcome = await run(pool)

    assert outcome.counters["expired"] == 1
    assert [row["id"] for row in await pool.fetch("SELECT id FROM memories")] == [kept]
    audit = await pool.fetchrow("SELECT tenant_id, reason, deleted_count, deleted_ids FROM rae_jobs.deletion_audit")
    assert audit is not None
    assert tuple(audit) == (TENANT, "expired", 1, [gone])


async def test_a_dry_run_writes_nothing_and_takes_no_transaction_id(pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, 5, through=DAY - timedelta(days=1), expires_at=AT - timedelta(days=1))
    before = await pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())")

    outcome = await run(pool, dry_run=True)

    assert await pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())") == before
    assert outcome.counters == {"tenants": 1, "tenantsFailed": 0, "decayed": 5, "expired": 5}
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.task_runs") == 0
    assert sum(row["after"] for row in outcome.result["tenants"][0]["strengths"]) == 5


async def test_a_large_tenant_is_walked_by_pages_and_a_small_one_beside_it_is_not_forgotten(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "FEW_ROWS", 100)
    monkeypatch.setattr(walk, "BATCH_ROWS", 50)
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "small")
    await add_many(pool, 1000, DAY - timedelta(days=2))
    await add_many(pool, 30, DAY - timedelta(days=1), OTHER)
    before = {row["id"]: row["strength"] for row in await pool.fetch("SELECT id, strength FROM memories")}

    assert (await run(pool)).counters["decayed"] == 1030

    after = await pool.fetch("SELECT id, tenant_id, strength FROM memories")
    assert all(
        row["strength"] == pytest.approx(before[row["id"]] * 0.95 ** (2 if row["tenant_id"] == TENANT else 1)) for row in after
    )


async def test_the_soft_limit_slices_the_run_and_the_next_attempt_ends_it(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "FEW_ROWS", 10)
    monkeypatch.setattr(walk, "BATCH_ROWS", 100)
    await add_tenant(pool)
    await add_many(pool, 5000, DAY - timedelta(days=1))
    total = await pool.fetchval("SELECT sum(strength) FROM memories")
    slices = 0
    while True:
        stop = StopSignal()
        real = walk.paced

        def one_batch(rows: int, seconds: float, stop: StopSignal = stop) -> int:
            stop.set("the test")
            return rows

        monkeypatch.setattr(walk, "paced", one_batch)
        try:
            outcome = await run(pool, occurrence=occurrence(stop=stop))
        except TimeSliced:
            slices += 1
            continue
        finally:
            monkeypatch.setattr(walk, "paced", real)
        break

    assert slices >= 3
    assert outcome.reason == "Done"
    assert await pool.fetchval("SELECT sum(strength) FROM memories") == pytest.approx(total * 0.95)
    row = await pool.fetchrow("SELECT state, attempt, failures FROM rae_jobs.task_runs")
    assert row is not None
    assert tuple(row) == ("finished", slices + 1, 0)


async def test_a_retry_after_midnight_keeps_its_day(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, through=DAY - timedelta(days=1))
    minutes = int(AT.timestamp()) // 60

    ended = jobctl(database_url, "decay", "-o", "json", RAE_JOB_NAME=f"rae-decay-{minutes}", RAE_CRONJOB_NAME="rae-decay")

    assert ended.code == 0, ended.errors
    assert ended.json["result"]["tenants"][0]["day"] == "2026-11-24"
    assert await pool.fetchval("SELECT decayed_through FROM memories") == DAY


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MEMORY_DECAY_RATE", "0.01", "--allow-steep-rate"),
        ("MEMORY_DECAY_RATE", "1.5", "no decay rate"),
        ("MEMORY_DECAY_RATE", "0", "no decay rate"),
        ("MEMORY_DECAY_RATE", "much", "not a number"),
        ("RAE_DECAY_MAX_CATCHUP_DAYS", "0", "RAE_DECAY_MAX_CATCHUP_DAYS"),
        ("ENABLE_MEMORY_DECAY", "maybe", "ENABLE_MEMORY_DECAY"),
    ],
)
async def test_a_wrong_setting_is_refused_and_named(database_url: str, variable: str, value: str, words: str) -> None:
    ended = jobctl(database_url, "decay", **{variable: value})

    assert ended.code == ExitCode.CONFIG
    assert words in ended.errors
    assert "Traceback" not in ended.errors


async def test_decay_switched_off_says_so(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, through=DAY - timedelta(days=1))

    ended = jobctl(database_url, "decay", "-o", "json", ENABLE_MEMORY_DECAY="false")

    assert (ended.code, ended.json["reason"]) == (0, "Disabled")
    assert await strengths(pool) == [1.0]


async def test_a_rival_of_the_same_tenant_is_told_to_come_again(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, through=DAY - timedelta(days=1))
    async with pool.acquire() as holder:
        await holder.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", f"rae_jobs.memories:{TENANT}:*")
        ended = jobctl(database_url, "decay", "-o", "json")
        await holder.execute("SELECT pg_advisory_unlock_all()")

    assert (ended.code, ended.json["reason"]) == (75, "RunLocked")


@settings(max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.floats(0.0, 0.5), min_size=1, max_size=3))
async def test_killed_at_any_moment_and_run_again_each_row_has_each_day_once(database_url: str, kills: list[float]) -> None:
    async with open_pool(DatabaseSettings(database_url), "test") as pool:
        await pool.execute("TRUNCATE memories, tenants, rae_jobs.task_runs CASCADE")
        await add_tenant(pool)
        await add_many(pool, 60_000, DAY - timedelta(days=3))
        expected = {row["id"]: row["strength"] * 0.95**3 for row in await pool.fetch("SELECT id, strength FROM memories")}
        slot = AT.isoformat()
        ended = await killed_and_run_again(database_url, pool, kills, "decay", "--slot", slot)
        assert ended.code == 0, ended.errors

        rows = await pool.fetch("SELECT id, strength, decayed_through FROM memories")
        assert len(rows) == len(expected)
        assert all(abs(row["strength"] - expected[row["id"]]) < 1e-9 and row["decayed_through"] == DAY for row in rows)
