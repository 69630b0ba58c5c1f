"""The deprecated prune on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rae_jobctl.deadline import StopSignal
from rae_jobctl.slots import Slot
from rae_jobctl.tasks import walk
from rae_jobctl.tasks.prune import PruneParams, prune
from tests.integration.memories import OTHER, TENANT, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=91)


async def kept(pool: Pool) -> set[object]:
    return {row["id"] for row in await pool.fetch("SELECT id FROM memories")}


async def test_old_episodic_memories_go_with_an_audit_row_and_all_others_stay(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    gone = await add_memories(pool, 3, created_at=OLD)
    stay = await add_memories(pool, 2, created_at=NOW - timedelta(days=89))
    stay += await add_memories(pool, 2, created_at=OLD, layer="semantic")

    ended = jobctl(database_url, "prune", "-o", "json", MEMORY_RETENTION_DAYS="90")

    assert ended.code == 0, ended.errors
    assert ended.json["counters"]["deleted"] == 3
    assert await kept(pool) == set(stay)
    audit = await pool.fetchrow("SELECT tenant_id, data_class, reason, deleted_ids FROM rae_jobs.deletion_audit")
    assert audit is not None
    assert (audit["tenant_id"], audit["data_class"], audit["reason"]) == (TENANT, "episodic", "retention")
    assert set(audit["deleted_ids"]) == set(gone)
    assert '"deprecated"' in ended.errors


@pytest.mark.parametrize("days", ["", "0"])
async def test_without_a_number_of_days_nothing_is_deleted(database_url: str, pool: Pool, days: str) -> None:
    await add_tenant(pool)
    stay = await add_memories(pool, 2, created_at=OLD)

    ended = jobctl(database_url, "prune", "-o", "json", MEMORY_RETENTION_DAYS=days)

    assert (ended.code, ended.json["reason"]) == (0, "Disabled")
    assert await kept(pool) == set(stay)


@pytest.mark.parametrize("days", ["-1", "many", "1.5"])
async def test_a_number_of_days_that_is_none_is_refused(database_url: str, days: str) -> None:
    ended = jobctl(database_url, "prune", MEMORY_RETENTION_DAYS=days)

    assert ended.code == 78
    assert "MEMORY_RETENTION_DAYS" in ended.errors


async def test_a_dry_run_counts_and_deletes_nothing(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    stay = await add_memories(pool, 2, created_at=OLD) + await add_memories(pool, 1, OTHER, created_at=OLD)

    ended = jobctl(database_url, "prune", "--dry-run", "--tenant", "demo-tenant", "-o", "json", MEMORY_RETENTION_DAYS="90")

    assert ended.json["counters"]["deleted"] == 2
    assert await kept(pool) == set(stay)
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.task_runs") == 0


async def test_many_looks_delete_all(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "FEW_ROWS", 7)
    monkeypatch.setattr(walk, "BATCH_ROWS", 3)
    await add_tenant(pool)
    await add_memories(pool, 25, created_at=OLD)

    monkeypatch.setattr(walk, "SMALL_SHARE", 2.0)
    outcome = await prune(pool, PruneParams(90, Slot("s", NOW, "flag"), StopSignal()), tenant=None, dry_run=False)

    assert outcome.counters["deleted"] == 25
    assert await kept(pool) == set()
    assert await pool.fetchval("SELECT sum(deleted_count) FROM rae_jobs.deletion_audit") == 25


async def test_an_archive_keeps_the_whole_row_which_can_be_put_back(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    (memory,) = await add_memories(pool, created_at=OLD, content="kept as it was", tags=["a", "b"], metadata={"n": 1})
    before = await pool.fetchval("SELECT to_jsonb(m) FROM memories AS m")

    ended = jobctl(database_url, "prune", "--archive", "-o", "json", MEMORY_RETENTION_DAYS="90")

    assert ended.code == 0, ended.errors
    assert "1 episodic memories archived" in ended.json["message"]
    assert await pool.fetchval("SELECT memory FROM rae_jobs.archived_memories WHERE memory_id = $1", memory) == before
    assert await pool.fetchval("SELECT reason FROM rae_jobs.deletion_audit") == "archived"
    await pool.execute(
        "INSERT INTO memories SELECT (jsonb_populate_record(NULL::memories, memory)).* FROM rae_jobs.archived_memories"
    )
    assert await pool.fetchval("SELECT to_jsonb(m) FROM memories AS m") == before


async def test_a_memory_that_was_put_back_can_be_archived_again(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    (memory,) = await add_memories(pool, created_at=OLD)
    for strength in (0.5, 0.25):
        await pool.execute("UPDATE memories SET strength = $1", strength)
        ended = jobctl(database_url, "prune", "--archive", "-o", "json", MEMORY_RETENTION_DAYS="90")
        assert (ended.code, ended.json["counters"]["deleted"]) == (0, 1), ended.errors
        await pool.execute(
            "INSERT INTO memories SELECT (jsonb_populate_record(NULL::memories, memory)).* FROM rae_jobs.archived_memories"
        )
    kept_now = await pool.fetchrow("SELECT memory_id, memory ->> 'strength' AS strength FROM rae_jobs.archived_memories")
    assert kept_now is not None
    assert (kept_now["memory_id"], kept_now["strength"]) == (memory, "0.25")


async def test_an_archive_keeps_numbers_that_only_the_server_can_hold(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, created_at=OLD)
    await pool.execute("""UPDATE memories SET metadata = '{"large": 1e400, "exact": 0.12345678901234567890123}'""")
    before = await pool.fetchval("SELECT to_jsonb(m)::text FROM memories AS m")

    ended = jobctl(database_url, "prune", "--archive", "-o", "json", MEMORY_RETENTION_DAYS="90")

    assert ended.code == 0, ended.errors
    assert await pool.fetchval("SELECT memory::text FROM rae_jobs.archived_memories") == before


async def test_a_protected_memory_stays(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, created_at=OLD, tags=["legal-hold"])
    ended = jobctl(database_url, "prune", "-o", "json", MEMORY_RETENTION_DAYS="90")
    assert ended.json["reason"] == "NothingToDo"


async def test_a_tenants_own_protected_tags_hold_here_too(database_url: str, pool: Pool) -> None:
    await add_tenant(pool, config={"protected_tags": ["keep"]})
    await add_tenant(pool, OTHER, "other")
    (stays,) = await add_memories(pool, created_at=OLD, tags=["keep"])
    await add_memories(pool, 1, OTHER, created_at=OLD, tags=["keep"])
    assert jobctl(database_url, "prune", "-o", "json", MEMORY_RETENTION_DAYS="90").json["counters"]["deleted"] == 1
    assert await kept(pool) == {stays}
