"""How decay goes through the rows: large and small tenants, resumed walks, rows that RAE moves or locks, row-level security."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from rae_jobctl.db.pool import open_pool
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ExitCode, SoftLimitReached
from rae_jobctl.outcome import Outcome
from rae_jobctl.settings import DatabaseSettings
from rae_jobctl.slots import Slot
from rae_jobctl.tasks import walk
from rae_jobctl.tasks.decay.formulas import formula_of
from rae_jobctl.tasks.decay.params import DecayParams
from rae_jobctl.tasks.decay.task import Occurrence, decay
from tests.integration.memories import OTHER, TENANT, add_many, add_memories, add_tenant
from tests.integration.secured import secured

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

BEFORE, DAY = date(2026, 11, 23), date(2026, 11, 24)
AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
THIRD = UUID("33333333-3333-3333-3333-333333333333")
NOT_YET = "SELECT count(*) FROM memories WHERE decayed_through < $1"


async def _decay(pool: Pool, slot: str = "walk", stop: StopSignal | None = None, tenant: str | None = None) -> Outcome:
    occurrence = Occurrence(Slot(slot, AT, "flag"), stop or StopSignal())
    return await decay(pool, DecayParams(AT, 0.95, 7), occurrence, tenant=tenant, dry_run=False)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows a batch, so that a small table takes many."""
    monkeypatch.setattr(walk, "FEW_ROWS", 300)
    monkeypatch.setattr(walk, "BATCH_ROWS", 100)


@pytest.mark.usefixtures("small_steps")
async def test_a_tenant_of_several_lists_of_places_is_walked_to_the_end(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "SMALL_SHARE", 2.0)
    await add_many(pool, 1000, BEFORE)
    await pool.execute("ANALYZE memories")
    monkeypatch.setattr(walk.Due, "places_of_pages", "no page must be read for a tenant that is a small part of the table")
    assert (await _decay(pool)).counters["decayed"] == 1000


@pytest.mark.usefixtures("small_steps")
async def test_a_walk_that_goes_on_in_the_middle_also_looks_at_the_pages_before(pool: Pool) -> None:
    await add_many(pool, 1000, BEFORE)
    # As an attempt leaves it that had all but finished when it was killed, and whose early rows RAE has since moved.
    await pool.execute(
        "INSERT INTO rae_jobs.task_runs (task, tenant_id, slot, state, lock_key, cursor, version) "
        """VALUES ('decay', $1, 'walk', 'sliced', 0, '{"page": 1000000, "found": 1}', '0')""",
        TENANT,
    )
    assert (await _decay(pool)).counters["decayed"] == 1000
    assert await pool.fetchval(NOT_YET, DAY) == 0


@pytest.mark.usefixtures("small_steps")
async def test_what_is_too_far_behind_is_counted_once_over_slices(pool: Pool) -> None:
    await add_many(pool, 1000, date(2026, 11, 1))
    outcome = await _decay(pool)
    assert outcome.result["tenants"][0]["lostMemories"] == 1000
    assert outcome.result["tenants"][0]["lostDays"] == 23 - 7


@pytest.mark.usefixtures("small_steps")
async def test_rows_that_rae_changes_meanwhile_have_their_day_too(pool: Pool) -> None:
    await add_many(pool, 12_000, BEFORE)
    ended = asyncio.Event()

    async def rae() -> int:
        changes = 0
        while not ended.is_set():
            some = "SELECT id FROM memories ORDER BY random() LIMIT 50"
            await pool.execute(f"UPDATE memories SET usage_count = usage_count + 1 WHERE id IN ({some})")
            changes += 1
        return changes

    writer = asyncio.create_task(rae())
    await _decay(pool)
    ended.set()
    assert await writer > 0
    assert await pool.fetchval(NOT_YET, DAY) == 0
    wrong = await pool.fetchval(
        "SELECT count(*) FROM memories WHERE abs(strength - 0.95 * (substr(content, 8)::int % 997 + 1) / 1000.0) > 1e-9"
    )
    assert wrong == 0


async def test_a_row_that_rae_keeps_locked_for_a_while_does_not_fail_the_run(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "_LOCK_TIMEOUT_MS", 50)
    memory, *_ = await add_memories(pool, 5, through=BEFORE)
    rae = await asyncpg.connect(database_url)
    transaction = rae.transaction()
    await transaction.start()
    await rae.execute("UPDATE memories SET usage_count = 7 WHERE id = $1", memory)
    run = asyncio.create_task(_decay(pool))
    await asyncio.sleep(0.5)
    assert not run.done()
    await transaction.commit()
    assert (await run).counters["decayed"] == 5
    await rae.close()


async def test_an_attempt_that_finds_only_finished_tenants_is_no_progress(pool: Pool) -> None:
    await add_memories(pool, 1, TENANT, through=BEFORE)
    await add_memories(pool, 1, OTHER, through=BEFORE)
    await _decay(pool, tenant=str(TENANT))

    class StopsAtTheSecond(StopSignal):
        asked = 0

        @property
        def should_stop(self) -> bool:
            self.asked += 1
            if self.asked > 1:
                self.set("SIGTERM")
            return super().should_stop

    with pytest.raises(SoftLimitReached):
        await _decay(pool, stop=StopsAtTheSecond())


@pytest.mark.usefixtures("small_steps")
async def test_after_pages_without_a_due_row_a_batch_is_no_larger_than_before(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a table is after a day's decay and a vacuum: a stretch of free pages, then full ones."""
    monkeypatch.setattr(walk, "_MOST_ROWS", 100)
    await add_many(pool, 20_000, DAY)
    await add_many(pool, 5000, BEFORE)
    await pool.execute("CREATE TABLE batches (memories bigint)")
    await pool.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO batches SELECT count(*) FROM changed; RETURN NULL; END $$"
    )
    await pool.execute(
        "CREATE TRIGGER note AFTER UPDATE ON memories REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note()"
    )
    assert (await _decay(pool)).counters["decayed"] == 5000
    a_page = await pool.fetchval("SELECT max(n) FROM (SELECT count(*) AS n FROM memories GROUP BY (ctid::text::point)[0]) AS p")
    assert await pool.fetchval("SELECT max(memories) FROM batches") < 100 + a_page


@pytest.mark.usefixtures("small_steps")
async def test_one_look_changes_every_row_that_nobody_moves(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "_FRUITLESS_LOOKS", 1)
    await add_many(pool, 5000, BEFORE)
    looks: list[int] = []
    real = walk.Walk._by_pages

    async def counted(self: walk.Walk) -> tuple[bool, bool]:
        done = await real(self)
        looks.append(self.run.counters["decayed"])
        return done

    monkeypatch.setattr(walk.Walk, "_by_pages", counted)
    await _decay(pool)
    assert looks == [5000]


async def test_the_new_versions_of_full_pages_find_room_beside_the_old(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "FEW_ROWS", 300)
    await add_many(pool, 20_000, BEFORE)
    before = await pool.fetchval("SELECT pg_relation_size('memories')")
    assert (await _decay(pool)).counters["decayed"] == 20_000
    # Without stripes it doubles.
    assert await pool.fetchval("SELECT pg_relation_size('memories')") < 1.3 * before


@pytest.mark.usefixtures("small_steps")
async def test_under_row_level_security_a_role_that_owns_nothing_decays_what_the_owner_would(
    database_url: str, pool: Pool
) -> None:
    await add_tenant(pool)
    for tenant, count in ((TENANT, 1000), (OTHER, 40), (THIRD, 500)):
        await add_many(pool, count, BEFORE, tenant)
    await add_memories(pool, 3, OTHER, expires_at=datetime(2026, 11, 1, tzinfo=UTC))
    async with secured(database_url, pool) as url, open_pool(DatabaseSettings(url), "decay") as restricted:
        assert await restricted.fetchval("SELECT count(*) FROM memories") == 0, "the policies must be in force"
        outcome = await _decay(restricted)
    assert (outcome.exit_code, outcome.counters["tenants"]) == (ExitCode.DONE, 3)
    assert (outcome.counters["decayed"], outcome.counters["expired"]) == (1540, 3)
    assert await pool.fetchval(NOT_YET, DAY) == 0


async def test_under_row_level_security_pages_and_places_are_still_read_directly(database_url: str, pool: Pool) -> None:
    await add_many(pool, 2000, BEFORE)
    async with (
        secured(database_url, pool) as url,
        open_pool(DatabaseSettings(url), "decay") as restricted,
        restricted.acquire() as connection,
    ):
        await connection.execute("SELECT set_config('app.current_tenant_id', $1, false)", str(TENANT))
        formula = formula_of(DecayParams(AT, 0.95, 7), 0.95)
        pages = await connection.fetch(f"EXPLAIN {formula.due.places_of_pages}", TENANT, DAY, (0, 0), (4, 0), 100)
        places = await connection.fetch(f"EXPLAIN {formula.update}", TENANT, DAY, *formula.arguments, [(0, 1), (0, 2)])
    assert any("Tid Range Scan" in row[0] for row in pages)
    assert any("Tid Scan" in row[0] for row in places)
