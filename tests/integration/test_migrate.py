"""Migrations on a real PostgreSQL: beside running work, twice at once, killed, run again."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from rae_jobctl.db.migrate import load_migrations
from rae_jobctl.db.pool import connect
from rae_jobctl.settings import DatabaseSettings
from tests.integration.memories import TENANT, jobctl, start_jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

#: What a statement of others may wait at most while we alter a table, in seconds.
LONGEST_WAIT = 2.5
INDEXES = {"rae_jobs_memories_pending", "rae_jobs_memories_expiry", "rae_jobs_edges_source", "rae_jobs_edges_target"}


async def fill(connection: Connection, rows: int) -> None:
    await connection.execute(
        """
        INSERT INTO memories (tenant_id, content, layer, project, created_at)
        SELECT $1, 'memory ' || n, 'episodic', 'p', now() - interval '2 years' FROM generate_series(1, $2::int) AS n
        """,
        TENANT,
        rows,
    )


async def state(connection: Connection) -> tuple[list[int], set[str]]:
    """Versions applied, and the valid indexes of ours."""
    versions = await connection.fetch("SELECT version FROM rae_jobs.schema_migrations ORDER BY version")
    indexes = await connection.fetch(
        "SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
        "WHERE i.indisvalid AND c.relname LIKE 'rae\\_jobs\\_%'"
    )
    return [row["version"] for row in versions], {row["relname"] for row in indexes}


async def test_history_is_not_pending_and_no_row_is_rewritten(unmigrated_url: str) -> None:
    async with connect(DatabaseSettings(unmigrated_url), "test") as connection:
        await fill(connection, 1000)
        before = await connection.fetchval("SELECT pg_relation_filenode('memories')")

        ended = jobctl(unmigrated_url, "db", "migrate")

        assert ended.code == 0, ended.errors
        assert await connection.fetchval("SELECT pg_relation_filenode('memories')") == before
        assert await connection.fetchval("SELECT count(*) FROM memories WHERE NOT graph_extracted") == 0
        days = await connection.fetchrow("SELECT min(decayed_through), max(decayed_through) FROM memories")
        assert days is not None
        assert set(days) == {datetime.now(UTC).date()}
        new = await connection.fetchrow(
            "INSERT INTO memories (tenant_id, content, layer) VALUES ($1, 'new', 'episodic') RETURNING graph_extracted", TENANT
        )
        assert new is not None
        assert new["graph_extracted"] is False


async def test_a_second_run_has_nothing_to_do_and_print_shows_what_is_missing(unmigrated_url: str) -> None:
    printed = jobctl(unmigrated_url, "db", "migrate", "--print").output
    assert "ALTER TABLE memories" in printed
    assert "CREATE INDEX CONCURRENTLY" in printed
    async with connect(DatabaseSettings(unmigrated_url), "test") as connection:
        assert await connection.fetchval("SELECT to_regnamespace('rae_jobs')") is None

    assert f"applied {len(load_migrations())} migrations" in jobctl(unmigrated_url, "db", "migrate").output
    assert "nothing to do" in jobctl(unmigrated_url, "db", "migrate").output
    assert "nothing to do" in jobctl(unmigrated_url, "db", "migrate", "--print").output


async def test_two_at_once_both_end_well(unmigrated_url: str) -> None:
    async with connect(DatabaseSettings(unmigrated_url), "test") as connection:
        await fill(connection, 20_000)
        both = [start_jobctl(unmigrated_url, "db", "migrate") for _ in range(2)]
        ends = [(await asyncio.to_thread(process.communicate, timeout=120), process.returncode) for process in both]

        assert [code for _, code in ends] == [0, 0], ends
        versions, indexes = await state(connection)
        assert versions == [migration.version for migration in load_migrations()]
        assert indexes == INDEXES


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.15, 0.4])
async def test_killed_anywhere_and_run_again_it_is_whole(unmigrated_url: str, moment: float) -> None:
    async with connect(DatabaseSettings(unmigrated_url), "test") as connection:
        await fill(connection, 50_000)
        process = start_jobctl(unmigrated_url, "db", "migrate")
        # Its first word is that it has begun.
        await asyncio.to_thread(process.stderr.readline)  # type: ignore[union-attr]
        await asyncio.sleep(moment)
        process.kill()
        await asyncio.to_thread(process.communicate)

        ended = jobctl(unmigrated_url, "db", "migrate")

        assert ended.code == 0, ended.errors
        versions, indexes = await state(connection)
        assert versions == [migration.version for migration in load_migrations()]
        assert indexes == INDEXES


async def test_an_index_that_a_killed_build_left_is_dropped_and_built(unmigrated_url: str) -> None:
    assert jobctl(unmigrated_url, "db", "migrate").code == 0
    async with connect(DatabaseSettings(unmigrated_url), "test") as connection:
        await connection.execute("DELETE FROM rae_jobs.schema_migrations WHERE version = 3")
        await connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rae_jobs_edges_target'::regclass")

        ended = jobctl(unmigrated_url, "db", "migrate")

        assert ended.code == 0, ended.errors
        assert "dropping the unfinished index rae_jobs_edges_target" in ended.errors
        assert (await state(connection))[1] == INDEXES


async def test_without_raes_tables_it_waits_and_then_names_them(unmigrated_url: str) -> None:
    async with connect(DatabaseSettings(unmigrated_url), "test") as connection:
        await connection.execute("DROP TABLE memory_embeddings")

    ended = jobctl(unmigrated_url, "db", "migrate", "--wait-database", "3")

    assert ended.code == 75
    assert "waiting: RAE's tables are not there yet: memory_embeddings" in ended.errors
    assert "error: RAE's tables are not there yet: memory_embeddings" in ended.errors


async def test_a_role_that_owns_nothing_is_refused_to_migrate_and_granted_what_tasks_need(unmigrated_url: str) -> None:
    role = f"job_{uuid4().hex[:8]}"
    async with connect(DatabaseSettings(unmigrated_url), "test") as owner:
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'of-the-test'")
        address = unmigrated_url.split("@")[1]
        job_url = f"postgresql://{role}:of-the-test@{address}"

        stranger = jobctl(job_url, "db", "migrate")
        assert stranger.code == 78
        assert "does not own" in stranger.errors

        assert jobctl(job_url, "db", "migrate", RAE_MIGRATE_DATABASE_URL=unmigrated_url, RAE_JOB_ROLE=role).code == 0
        await owner.execute("INSERT INTO tenants (id, name) VALUES ($1, 'demo-tenant')", TENANT)
        await fill(owner, 3)
        await owner.execute("UPDATE memories SET decayed_through = decayed_through - 1")
        ended = jobctl(job_url, "decay", "-o", "json")
        assert ended.code == 0, ended.errors
        assert ended.json["counters"]["decayed"] == 3
        await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(
    ("rows", "reading"), [(100_000, 10.0), pytest.param(1_000_000, 30.0, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
async def test_no_statement_of_others_waits_long(unmigrated_url: str, rows: int, reading: float) -> None:
    """A migration beside writers, and beside a reader whose transaction stays open."""
    async with connect(DatabaseSettings(unmigrated_url), "test") as connection:
        await fill(connection, rows)
    end = asyncio.Event()
    writer = asyncio.create_task(_write(unmigrated_url, end))
    reader = asyncio.create_task(_read(unmigrated_url, reading))
    await asyncio.sleep(0.5)
    process = start_jobctl(unmigrated_url, "db", "migrate")

    _, errors = await asyncio.to_thread(process.communicate, timeout=600)
    await reader
    end.set()
    longest, written = await writer

    assert process.returncode == 0, errors
    assert "the table is in use; trying again" in errors
    assert written > 100
    assert longest <= LONGEST_WAIT


async def _write(url: str, end: asyncio.Event) -> tuple[float, int]:
    """Insert without a pause to speak of; the longest that one statement took, and how many there were."""
    longest, count = 0.0, 0
    connection = await asyncpg.connect(url)
    while not end.is_set():
        began = time.monotonic()
        await connection.execute(
            "INSERT INTO memories (tenant_id, content, layer) VALUES ($1, $2, 'episodic')", TENANT, f"w {count}"
        )
        longest = max(longest, time.monotonic() - began)
        count += 1
        await asyncio.sleep(0.005)
    await connection.close()
    return longest, count


async def _read(url: str, seconds: float) -> None:
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        await connection.fetchval("SELECT count(*) FROM memories")
        await asyncio.sleep(seconds)
    await connection.close()


async def test_the_first_run_on_an_old_database_changes_each_strength_once_a_day_since_the_migration(unmigrated_url: str) -> None:
    async with connect(DatabaseSettings(unmigrated_url), "test") as connection:
        await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'demo-tenant')", TENANT)
        await fill(connection, 500)
        assert jobctl(unmigrated_url, "db", "migrate").code == 0
        today = datetime.now(UTC)

        assert jobctl(unmigrated_url, "decay", "-o", "json").json["counters"]["decayed"] == 0
        for day in (1, 2, 3):
            night = (today + timedelta(days=day)).replace(hour=2, minute=0)
            job = {"RAE_JOB_NAME": f"decay-{int(night.timestamp()) // 60}", "RAE_CRONJOB_NAME": "decay"}
            for _ in range(2):
                assert jobctl(unmigrated_url, "decay", **job).code == 0

        strengths = await connection.fetch("SELECT DISTINCT strength FROM memories")
        assert [row["strength"] for row in strengths] == [pytest.approx(0.95**3, rel=1e-9)]
        assert await connection.fetchval("SELECT count(*) FROM memories WHERE NOT graph_extracted") == 0
        paid = {"RAE_LLM_PROVIDER": "openai", "OPENAI_API_KEY": "x"}
        preview = ("db", "backfill-extraction", "--tenant", "demo-tenant", "--since", "2000-01-01", "--dry-run")
        assert "would open 500 memories" in jobctl(unmigrated_url, *preview, **paid).output
