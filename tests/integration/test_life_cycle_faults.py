"""What may befall the tasks of the life cycle: row-level security, time zones, a lost session, a network that swallows all."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from rae_jobctl.db.migrate import migrate
from rae_jobctl.db.pool import connect
from rae_jobctl.dev.postgres import throwaway_postgres
from rae_jobctl.dev.schema import create_rae_tables
from rae_jobctl.settings import DatabaseSettings
from tests.cluster import packages
from tests.integration.memories import OTHER, TENANT, add_many, add_memories, add_tenant, jobctl, start_jobctl
from tests.integration.secured import secured

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

THIRD = UUID("33333333-3333-3333-3333-333333333333")
BEFORE = date(2026, 11, 23)
SLOT = ("--slot", "2026-11-24T02:00+00:00")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
COMMANDS = [
    ("decay",),
    ("decay", "--importance"),
    ("cleanup-expired-data",),
    ("prune",),
    ("prune", "--archive"),
    ("backfill", "decay", "--from", "2026-11-10", "--to", "2026-11-11"),
]
#: A run of each tenant that came too late.
LATE_RUNS = """
INSERT INTO rae_jobs.task_runs (task, tenant_id, slot, state, lock_key, version, arguments, counters, finished_at)
SELECT 'decay', id, 'late', 'finished', 0, '0', '{"day": "2026-11-20", "max_days": 7}',
       '{"decayed": 1, "lostDays": 5, "lostMemories": 1}', now()
FROM tenants
"""
EMBED = "INSERT INTO memory_embeddings (memory_id, model_name, embedding) SELECT id, 'm', '[1]' FROM memories"
#: All that a task may change, without what differs from run to run.
STATE = """
SELECT m.tenant_id, m.content, m.strength, m.importance, m.decayed_through, m.importance_decayed_through,
       EXISTS (SELECT FROM memory_embeddings AS e WHERE e.memory_id = m.id) AS embedded
FROM memories AS m
ORDER BY m.tenant_id, m.content
"""


async def _three_tenants(pool: Pool) -> None:
    for number, tenant in enumerate((TENANT, OTHER, THIRD)):
        await add_tenant(pool, tenant, f"tenant-{number}")
        for n in range(number + 1):
            await add_memories(pool, tenant=tenant, content=f"old {n}", importance=0.6, created_at=LONG_AGO)
            await add_memories(pool, tenant=tenant, content=f"new {n}", importance=0.6)
            await add_memories(pool, tenant=tenant, content=f"gone {n}", importance=0.6, expires_at=LONG_AGO)
    await pool.execute(EMBED)
    await pool.execute(LATE_RUNS)
    await pool.execute("UPDATE memories SET decayed_through = $1, importance_decayed_through = $1", BEFORE)


def _run(url: str, command: tuple[str, ...]) -> dict[str, int]:
    slot = () if command[0] == "backfill" else SLOT
    ended = jobctl(url, *command, *slot, "-o", "json", MEMORY_RETENTION_DAYS="90", RAE_RETENTION_SEMANTIC_DAYS="100")
    assert ended.code == 0, ended.errors
    counters: dict[str, int] = ended.json["counters"]
    return counters


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_under_row_level_security_a_role_that_owns_nothing_does_what_the_owner_does(
    database_url: str, pool: Pool, command: tuple[str, ...]
) -> None:
    await _three_tenants(pool)
    copy = [row["m"] for row in await pool.fetch("SELECT to_jsonb(m) AS m FROM memories AS m")]
    owner = _run(database_url, command)
    by_owner = [tuple(row) for row in await pool.fetch(STATE)]
    await pool.execute("TRUNCATE memories, rae_jobs.task_runs, rae_jobs.deletion_audit, rae_jobs.archived_memories CASCADE")
    await pool.execute(
        "INSERT INTO memories SELECT (jsonb_populate_record(NULL::memories, m)).* FROM unnest($1::jsonb[]) AS m", copy
    )
    await pool.execute(EMBED)
    await pool.execute(LATE_RUNS)

    async with secured(database_url, pool) as url:
        stranger = _run(url, command)

    assert stranger == owner
    assert any(count for name, count in owner.items() if name != "tenants"), "the command must do something here"
    assert [tuple(row) for row in await pool.fetch(STATE)] == by_owner


#: The nights around both changes of 2026, in Europe and in America.
NIGHTS = [date(2026, 3, 7), date(2026, 3, 28), date(2026, 10, 24), date(2026, 10, 31)]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Kiritimati"])
async def test_no_summer_time_gives_a_day_twice_or_takes_one(database_url: str, pool: Pool, zone: str) -> None:
    await add_tenant(pool)
    await pool.execute(f"ALTER DATABASE {urlsplit(database_url).path[1:]} SET timezone = '{zone}'")
    for night in NIGHTS:
        await pool.execute("DELETE FROM memories")
        await add_memories(pool, through=night)
        for n in range(1, 4):
            at = datetime.combine(night + timedelta(days=n), datetime.min.time(), UTC) + timedelta(hours=2)
            job = {"RAE_JOB_NAME": f"rae-decay-{int(at.timestamp()) // 60}", "RAE_CRONJOB_NAME": "rae-decay"}
            ended = jobctl(database_url, "decay", "-o", "json", TZ=zone, PGTZ=zone, **job)
            assert ended.json["result"]["tenants"][0]["day"] == str(night + timedelta(days=n)), ended.errors
            row = await pool.fetchrow("SELECT strength, decayed_through FROM memories")
            assert row is not None
            assert (row["strength"], row["decayed_through"]) == (pytest.approx(0.95**n), night + timedelta(days=n))


async def test_a_session_that_is_ended_in_a_batch_leaves_half_of_nothing(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_many(pool, 60_000, BEFORE)
    process = start_jobctl(database_url, "decay", *SLOT)
    while not await pool.fetchval("SELECT count(*) FROM memories WHERE decayed_through > $1", BEFORE):
        assert process.poll() is None, process.communicate()
        await asyncio.sleep(0.01)
    await pool.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rae-jobctl decay'")
    _, errors = await asyncio.to_thread(process.communicate, timeout=60)

    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    assert jobctl(database_url, "decay", *SLOT).code == 0
    wrong = "SELECT count(*) FROM memories WHERE abs(strength - 0.95 * (substr(content, 8)::int % 997 + 1) / 1000.0) > 1e-9"
    assert await pool.fetchval(wrong) == 0


@contextlib.contextmanager
def swallowed(host: str, port: int) -> Iterator[None]:
    """For the block, no packet to or from that address arrives, and nobody is told."""
    packages.ensure({"iptables": "iptables"})
    rules = [["INPUT", "-p", "tcp", "-d", host, "--dport", str(port)], ["INPUT", "-p", "tcp", "-s", host, "--sport", str(port)]]
    for rule in rules:
        subprocess.run(["iptables", "-w", "-I", *rule, "-j", "DROP"], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule, "-j", "DROP"], check=True)


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_a_network_that_swallows_everything_for_a_minute_lets_a_rival_take_over() -> None:
    far = "127.0.0.9"
    with throwaway_postgres(settings={"listen_addresses": f"127.0.0.1,{far}"}) as server:
        server.ensure_database()
        near = server.url()
        async with connect(DatabaseSettings(near), "test") as owner:
            await create_rae_tables(owner)
            await migrate(owner, say=lambda line: None)
        pool = await asyncpg.create_pool(near, min_size=1, max_size=2)
        await pool.execute("INSERT INTO tenants (id, name) VALUES ($1, 'demo-tenant')", TENANT)
        await add_many(pool, 200_000, BEFORE)
        process = start_jobctl(near.replace("127.0.0.1", far), "decay", *SLOT)
        while not await pool.fetchval("SELECT count(*) FROM memories WHERE decayed_through > $1", BEFORE):
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.01)
        with swallowed(far, urlsplit(near).port or 0):
            told = jobctl(near, "decay", *SLOT, "-o", "json")
            assert (told.code, told.json["reason"]) == (75, "RunLocked")
            began = asyncio.get_running_loop().time()
            rival = await asyncio.to_thread(jobctl, near, "decay", *SLOT, "--wait")
            waited = asyncio.get_running_loop().time() - began
            assert rival.code == 0, rival.errors
            await asyncio.sleep(max(0.0, 60 - waited))
        await asyncio.to_thread(process.communicate, timeout=120)
        assert process.returncode in (75, 1)
        wrong = "SELECT count(*) FROM memories WHERE abs(strength - 0.95 * (substr(content, 8)::int % 997 + 1) / 1000.0) > 1e-9"
        assert await pool.fetchval(wrong) == 0
        assert await pool.fetchval("SELECT state FROM rae_jobs.task_runs") == "finished"
        await pool.close()
