"""Importance decay on a real PostgreSQL: the share of a day depends on how long a memory has lain idle."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rae_jobctl.db.pool import open_pool
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ExitCode
from rae_jobctl.outcome import Outcome
from rae_jobctl.settings import DatabaseSettings
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.decay.params import IMPORTANCE_RATE, STRENGTH_RATE, DecayParams
from rae_jobctl.tasks.decay.task import Occurrence, decay
from tests.integration.killing import killed_and_run_again
from tests.integration.memories import OTHER, TENANT, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from uuid import UUID

    from rae_jobctl.db.pool import Pool

AT = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)
DAY = date(2026, 11, 24)
IMPORTANCES = "SELECT id, importance FROM memories"


def faded(importance: float, idle: float, days: int = 1, rate: float = 0.01) -> float:
    """The formula in plain arithmetic; `idle` days at the last of `days`."""
    for back in reversed(range(days)):
        d = idle - back
        share = rate * (1 + d / 30) if d > 30 else rate / 2 if d < 7 else rate
        importance = max(0.01, importance * (1 - min(1.0, share)))
    return importance


async def run(pool: Pool, at: datetime = AT, *, rate: float = 0.01, days: int = 7, dry_run: bool = False) -> Outcome:
    occurrence = Occurrence(Slot(f"cron:{at.isoformat()}", at, "cronjob"), StopSignal())
    params = DecayParams(at, rate, days, allow_steep=True, rule=IMPORTANCE_RATE)
    return await decay(pool, params, occurrence, tenant=None, dry_run=dry_run)


async def add(pool: Pool, importance: float | None, idle: float | None, behind: int = 1, tenant: UUID = TENANT) -> UUID:
    """A memory of that importance, idle for so many days at AT, which has not had `behind` days."""
    accessed = None if idle is None else AT - timedelta(days=idle)
    (memory,) = await add_memories(pool, tenant=tenant, importance=importance, last_accessed_at=accessed)
    await pool.execute("UPDATE memories SET importance_decayed_through = $2 WHERE id = $1", memory, DAY - timedelta(days=behind))
    return memory


@pytest.mark.parametrize("idle", [0.0, 6.99, 7.01, 29.99, 30.01, 90.0, 365.0, 4000.0])
@pytest.mark.parametrize("behind", [1, 2, 7])
async def test_a_day_takes_the_share_that_the_idle_time_asks_for(pool: Pool, idle: float, behind: int) -> None:
    await add_tenant(pool)
    memory = await add(pool, 0.8, idle, behind)

    assert (await run(pool)).counters == {"tenants": 1, "tenantsFailed": 0, "decayed": 1}

    assert await pool.fetchval("SELECT importance FROM memories WHERE id = $1", memory) == pytest.approx(
        faded(0.8, idle, behind), abs=1e-12
    )


@pytest.mark.parametrize("end", ["infinity", "-infinity"])
@pytest.mark.parametrize("behind", [1, 4])
async def test_a_date_at_infinity_is_none(pool: Pool, end: str, behind: int) -> None:
    await add_tenant(pool)
    accessed, undated = await add(pool, 0.8, 0, behind), await add(pool, 0.8, 0, behind)
    change = "UPDATE memories SET last_accessed_at = $2::text::timestamptz, created_at = $3 WHERE id = $1"
    await pool.execute(change, accessed, end, AT - timedelta(days=20))
    await pool.execute(change, undated, end, None)

    await run(pool)

    found = {row["id"]: row["importance"] for row in await pool.fetch(IMPORTANCES)}
    assert found == {accessed: pytest.approx(faded(0.8, 20, behind)), undated: pytest.approx(faded(0.8, 0, behind))}


async def test_each_day_counts_once_and_missed_days_as_they_would_have_counted(pool: Pool) -> None:
    await add_tenant(pool)
    memory = await add(pool, 0.9, 28.5, 4)
    other = await add(pool, 0.9, 28.5, 4)
    await pool.execute("UPDATE memories SET importance_decayed_through = $2 WHERE id = $1", other, DAY)

    await run(pool)
    again = await run(pool, AT + timedelta(hours=1))

    found = {row["id"]: row["importance"] for row in await pool.fetch(IMPORTANCES)}
    assert again.counters["decayed"] == 0
    assert found == {memory: pytest.approx(faded(0.9, 28.5, 4), abs=1e-12), other: 0.9}


@pytest.mark.parametrize("importance", [None, 0.01, 0.0, -0.5, 0.009999])
async def test_what_is_at_the_floor_or_has_none_stays(pool: Pool, importance: float | None) -> None:
    await add_tenant(pool)
    memory = await add(pool, importance, 100)
    before = await pool.fetchval("SELECT ctid FROM memories WHERE id = $1", memory)

    assert (await run(pool)).counters["decayed"] == 0

    row = await pool.fetchrow("SELECT importance, ctid FROM memories WHERE id = $1", memory)
    assert row is not None
    assert tuple(row) == (importance, before)


@pytest.mark.parametrize("importance", [1.045, 1e300, math.inf, math.nan, 0.0100001])
async def test_no_importance_stops_the_run(pool: Pool, importance: float) -> None:
    await add_tenant(pool)
    await add(pool, importance, 10_000, 7)

    assert (await run(pool, rate=1.0, days=3650)).counters["decayed"] == 1

    left = await pool.fetchval("SELECT importance FROM memories")
    assert math.isnan(left) if math.isnan(importance) else left >= 0.01


async def test_importance_given_to_a_memory_at_the_floor_does_not_fade_for_the_days_before(pool: Pool) -> None:
    await add_tenant(pool)
    memory = await add(pool, 0.01, 1, 300)
    strength = DecayParams(AT - timedelta(days=1), 0.95, 7, rule=STRENGTH_RATE)
    await pool.execute("UPDATE memories SET decayed_through = $1", DAY - timedelta(days=2))
    await decay(pool, strength, Occurrence(Slot("s", strength.at, "flag"), StopSignal()), tenant=None, dry_run=False)
    await pool.execute("UPDATE memories SET importance = 0.5 WHERE id = $1", memory)

    await run(pool)

    assert await pool.fetchval("SELECT importance FROM memories") == pytest.approx(faded(0.5, 1), abs=1e-12)


async def test_strength_and_importance_have_watermarks_of_their_own(pool: Pool) -> None:
    await add_tenant(pool)
    await add(pool, 0.8, 10)
    await pool.execute("UPDATE memories SET decayed_through = $1, strength = 0.7", DAY - timedelta(days=1))

    await run(pool)

    row = await pool.fetchrow("SELECT strength, decayed_through, importance_decayed_through FROM memories")
    assert row is not None
    assert tuple(row) == (0.7, DAY - timedelta(days=1), DAY)


async def test_a_memory_without_any_time_counts_as_just_used(pool: Pool) -> None:
    await add_tenant(pool)
    memory = await add(pool, 0.8, None)
    await pool.execute("UPDATE memories SET created_at = NULL, last_accessed_at = NULL WHERE id = $1", memory)

    await run(pool)

    assert await pool.fetchval("SELECT importance FROM memories") == pytest.approx(0.8 * 0.995)


async def test_a_tenants_own_rate_wins_and_a_bad_one_fails_that_tenant_alone(pool: Pool) -> None:
    await add_tenant(pool, TENANT, "slow", {"importance_decay_rate": 0.001})
    await add_tenant(pool, OTHER, "broken", {"importance_decay_rate": 0.5})
    mine, theirs = await add(pool, 0.5, 10), await add(pool, 0.5, 10, tenant=OTHER)

    occurrence = Occurrence(Slot("one", AT, "flag"), StopSignal())
    params = DecayParams(AT, 0.01, 7, rule=IMPORTANCE_RATE)
    outcome = await decay(pool, params, occurrence, tenant=None, dry_run=False)

    found = {row["id"]: row["importance"] for row in await pool.fetch(IMPORTANCES)}
    assert found == {mine: pytest.approx(0.4995), theirs: 0.5}
    assert outcome.exit_code is ExitCode.BAD_DATA
    assert [(one["tenant"], one["reason"]) for one in outcome.failures] == [("broken", "DecayRateSteep")]


async def test_a_dry_run_shows_it_and_writes_nothing(pool: Pool) -> None:
    await add_tenant(pool)
    await add(pool, 0.35, 3000, 7)

    outcome = await run(pool, dry_run=True)

    (one,) = outcome.result["tenants"]
    assert (one["of"], one["daysBehind"], outcome.counters["decayed"]) == ("importance", 7, 1)
    assert [row["from"] for row in one["strengths"] if row["after"]] == ["0.0"]
    assert await pool.fetchval("SELECT importance FROM memories") == 0.35


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MEMORY_IMPORTANCE_DECAY_RATE", "0.95", "--allow-steep-rate"),
        ("MEMORY_IMPORTANCE_DECAY_RATE", "0", "no decay rate"),
        ("MEMORY_IMPORTANCE_DECAY_RATE", "1.2", "no decay rate"),
    ],
)
async def test_a_wrong_rate_is_refused_and_named(database_url: str, variable: str, value: str, words: str) -> None:
    ended = jobctl(database_url, "decay", "--importance", **{variable: value})
    assert ended.code == ExitCode.CONFIG
    assert words in ended.errors


@pytest.mark.parametrize("variable", ["ENABLE_MEMORY_DECAY", "MEMORY_IMPORTANCE_DECAY_ENABLED"])
async def test_it_can_be_switched_off(database_url: str, variable: str) -> None:
    ended = jobctl(database_url, "decay", "--importance", "-o", "json", **{variable: "false"})
    assert (ended.code, ended.json["reason"]) == (0, "Disabled")
    assert variable in ended.json["message"]


@settings(max_examples=2, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.floats(0.0, 0.5), min_size=1, max_size=3))
async def test_killed_at_any_moment_and_run_again_each_row_has_each_day_once(database_url: str, kills: list[float]) -> None:
    async with open_pool(DatabaseSettings(database_url), "test") as pool:
        await pool.execute("TRUNCATE memories, tenants, rae_jobs.task_runs CASCADE")
        await add_tenant(pool)
        await pool.execute(
            """
            INSERT INTO memories (tenant_id, content, layer, importance, last_accessed_at, importance_decayed_through)
            SELECT $1, 'memory ' || n, 'episodic', (n % 1000) / 1000.0, $2::timestamptz - (n % 400) * interval '1 day 1 hour', $3
            FROM generate_series(1, 60000) AS n
            """,
            TENANT,
            AT,
            DAY - timedelta(days=3),
        )
        idle = "extract(epoch FROM $1::timestamptz - last_accessed_at)::float8 / 86400"
        rows = await pool.fetch(f"SELECT id, importance, {idle} AS idle FROM memories", AT)
        expected = {row["id"]: min(row["importance"], faded(row["importance"], row["idle"], 3)) for row in rows}

        command = ("decay", "--importance", "--slot", AT.isoformat())
        ended = await killed_and_run_again(database_url, pool, kills, *command)

        assert ended.code == 0, ended.errors
        found = await pool.fetch(IMPORTANCES)
        assert len(found) == len(expected)
        assert all(abs(row["importance"] - expected[row["id"]]) < 1e-9 for row in found)
