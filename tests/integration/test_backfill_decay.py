"""Missed days, made good on purpose and once."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rae_jobctl.db.ledger import RunKey, open_run
from rae_jobctl.db.locks import Resource
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BadDataError
from rae_jobctl.outcome import Outcome
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.decay.backfill import Range, backfill
from rae_jobctl.tasks.decay.params import DecayParams
from rae_jobctl.tasks.decay.task import Occurrence, decay
from tests.integration.killing import killed_and_run_again
from tests.integration.memories import OTHER, TENANT, add_many, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

DAY = date(2026, 11, 23)
AT = datetime(2026, 11, 23, 2, tzinfo=UTC)
#: 17 days behind on DAY, of which 7 are made good: ten days are lost, the 7th to the 16th.
LAST_DONE = date(2026, 11, 6)
PARAMS = DecayParams(AT, 0.95, 7)


async def _late_run(pool: Pool) -> None:
    await pool.execute("UPDATE memories SET decayed_through = greatest($1, (created_at AT TIME ZONE 'UTC')::date)", LAST_DONE)
    await decay(pool, PARAMS, Occurrence(Slot("late", AT, "flag"), StopSignal()), tenant=None, dry_run=False)


async def _backfill(
    pool: Pool, first: int, last: int, *, dry_run: bool = False, tenant: str | None = None, wait: bool = False
) -> Outcome:
    wanted = Range(date(2026, 11, first), date(2026, 11, last))
    return await backfill(pool, PARAMS, wanted, tenant=tenant, dry_run=dry_run, stop=StopSignal(), wait=wait)


async def test_each_memory_has_the_lost_days_after_its_own_and_each_once(pool: Pool) -> None:
    await add_tenant(pool)
    old, *_ = await add_memories(pool, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    young, *_ = await add_memories(pool, created_at=datetime(2026, 11, 9, 23, 59, tzinfo=UTC))
    undated, *_ = await add_memories(pool, created_at=None)
    await _late_run(pool)

    whole = await _backfill(pool, 1, 12)
    again = await _backfill(pool, 1, 12)
    rest = await _backfill(pool, 10, 20)

    found = {row["id"]: row["strength"] for row in await pool.fetch("SELECT id, strength FROM memories")}
    assert found[old] == pytest.approx(0.95**17, rel=1e-9)
    assert found[undated] == found[old]
    assert found[young] == pytest.approx(0.95**14, rel=1e-9)
    assert whole.result["tenants"][0]["days"] == [f"2026-11-{day:02}" for day in range(7, 13)]
    assert rest.result["tenants"][0]["days"] == [f"2026-11-{day:02}" for day in range(13, 17)]
    assert again.reason == "AlreadyDone"


async def test_days_that_no_run_missed_are_left_alone(pool: Pool) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    await add_memories(pool, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    await _late_run(pool)
    await add_memories(pool, tenant=OTHER, created_at=datetime(2026, 1, 1, tzinfo=UTC))

    outcome = await _backfill(pool, 7, 16)

    assert outcome.counters["decayed"] == 1
    assert await pool.fetchval("SELECT strength FROM memories WHERE tenant_id = $1", OTHER) == 1.0
    assert (await _backfill(pool, 17, 22)).counters["decayed"] == 0


async def test_a_dry_run_says_what_would_be_and_writes_nothing(pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, 3, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    await _late_run(pool)
    before = await pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())")

    outcome = await _backfill(pool, 1, 30, dry_run=True)

    assert outcome.message == "would decay 3 memories for 10 days from 2026-11-07 to 2026-11-16, at 0.95 a day"
    assert await pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())") == before


async def test_an_unfinished_backfill_of_the_same_days_comes_first(pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    await _late_run(pool)
    await pool.execute(
        "INSERT INTO rae_jobs.task_runs (task, tenant_id, slot, state, lock_key, cursor, version) "
        """VALUES ('backfill-decay', $1, '2026-11-07..2026-11-09', 'sliced', 0, '{"days": ["2026-11-09"]}', '0')""",
        TENANT,
    )
    with pytest.raises(BadDataError) as raised:
        await _backfill(pool, 9, 12)
    assert raised.value.reason == "BackfillUnfinished"


async def test_killed_and_run_again_no_row_has_a_day_twice(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_many(pool, 60_000, LAST_DONE)
    await pool.execute("UPDATE memories SET created_at = '2026-01-01'")
    before = {row["id"]: row["strength"] for row in await pool.fetch("SELECT id, strength FROM memories")}
    await _late_run(pool)

    command = ("backfill", "decay", "--from", "2026-11-07", "--to", "2026-11-16")
    ended = await killed_and_run_again(database_url, pool, [0.3, 0.1, 0.6], *command)

    assert ended.code == 0, ended.errors
    rows = await pool.fetch("SELECT id, strength FROM memories")
    assert all(abs(row["strength"] - before[row["id"]] * 0.95**17) < 1e-9 for row in rows)


async def test_days_that_another_backfill_makes_good_meanwhile_are_not_applied_again(pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    await _late_run(pool)
    lock = Resource("memories", "exclusive")

    async with open_run(pool, RunKey("another", TENANT, "s"), resource=lock) as holder:
        both = asyncio.gather(_backfill(pool, 7, 12, wait=True), _backfill(pool, 10, 16, wait=True))
        # Both have looked for their days once they have failed to get the lock.
        await _until_waiting(pool, 2)
        await holder.finish()
    await both

    assert await pool.fetchval("SELECT strength FROM memories") == pytest.approx(0.95**17, rel=1e-9)


async def _until_waiting(pool: Pool, count: int) -> None:
    keys = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database "
    keys += "WHERE datname = current_database())"
    while await pool.fetchval(keys) < count + 2:  # noqa: ASYNC110 - the server is what changes
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("max_days", [7, 16])
async def test_days_that_a_run_applied_to_some_memories_before_it_died_are_no_missed_days(pool: Pool, max_days: int) -> None:
    await add_tenant(pool)
    ahead, behind = await add_memories(pool, 2, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    await pool.execute("UPDATE memories SET decayed_through = $1", LAST_DONE)
    # The run of the day before had changed one of the two when it was killed.
    had = min(16, max_days)
    change = "UPDATE memories SET decayed_through = '2026-11-22', strength = 0.95::float8 ^ $2::int WHERE id = $1"
    await pool.execute(change, ahead, had)
    await pool.execute(
        "INSERT INTO rae_jobs.task_runs (task, tenant_id, slot, state, lock_key, arguments, counters, version) "
        "VALUES ('decay', $1, 'killed', 'open', 0, $2, $3, '0')",
        TENANT,
        {"day": "2026-11-22", "max_days": max_days},
        {"decayed": 1, "lostMemories": 1, "lostDays": 16 - had},
    )
    await decay(pool, PARAMS, Occurrence(Slot("late", AT, "flag"), StopSignal()), tenant=None, dry_run=False)

    await _backfill(pool, 1, 22)

    # Missed by both are the 7th to the 15th where the killed run made 7 days good, and none where it made all good.
    both = 16 - had
    found = {row["id"]: row["strength"] for row in await pool.fetch("SELECT id, strength FROM memories")}
    assert found[ahead] == pytest.approx(0.95 ** (had + 1 + both), rel=1e-9)
    assert found[behind] == pytest.approx(0.95 ** (7 + both), rel=1e-9)


async def test_many_days_at_a_steep_rate_leave_nothing_and_raise_nothing(pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, created_at=datetime(2020, 1, 1, tzinfo=UTC))
    await pool.execute("UPDATE memories SET strength = 1e-5, decayed_through = '2025-11-06'")
    kept = DecayParams(AT, 1, 7)
    await decay(pool, kept, Occurrence(Slot("late", AT, "flag"), StopSignal()), tenant=None, dry_run=False)
    wanted = Range(date(2025, 11, 7), date(2025, 11, 7) + timedelta(days=160))

    steep = DecayParams(AT, 0.01, 7, True)
    await backfill(pool, steep, wanted, tenant=None, dry_run=False, stop=StopSignal())

    assert await pool.fetchval("SELECT strength FROM memories") == 0


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [("2026-10-02", "2026-10-01", "is after"), ("soon", "2026-10-01", "is no day"), ("2026-10-01", "2999-01-01", "not over")],
)
def test_a_wrong_range_is_refused(first: str, last: str, words: str) -> None:
    ended = jobctl("postgresql://nobody@127.0.0.1:1/x", "backfill", "decay", "--from", first, "--to", last)
    assert ended.code == 64
    assert words in ended.errors


def test_a_range_has_its_days() -> None:
    assert Range(DAY - timedelta(days=1), DAY).days == [DAY - timedelta(days=1), DAY]
