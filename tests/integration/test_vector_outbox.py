"""Vectors follow deletions: the outbox on a real PostgreSQL and Qdrant's own engine behind real HTTP."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ConfigError, SoftLimitReached, TransientError
from rae_jobctl.tasks.vectors import outbox
from rae_jobctl.tasks.vectors.outbox import delete_queued_vectors, queue_vector_deletions
from tests.fake_qdrant.server import FakeQdrant, error, fake_qdrant
from tests.integration.memories import OTHER, TENANT, add_memories, environment, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool


@pytest.fixture
def qdrant(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeQdrant]:
    with fake_qdrant() as server:
        server.create()
        monkeypatch.setenv("QDRANT_URL", server.url)
        yield server


async def queue(pool: Pool, ids: list[UUID], tenant: UUID = TENANT) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM memories WHERE id = ANY($1)", ids)
        await queue_vector_deletions(connection, tenant, ids)


async def queued(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM rae_jobs.vector_deletions"))


async def test_queued_vectors_are_deleted_and_the_queue_is_empty_afterwards(pool: Pool, qdrant: FakeQdrant) -> None:
    gone, stay = await add_memories(pool, 3), await add_memories(pool, 2)
    qdrant.add(TENANT, [*gone, *stay])
    await queue(pool, gone)
    await queue(pool, gone)

    assert await delete_queued_vectors(pool, TENANT) == 3

    assert qdrant.ids() == set(map(str, stay))
    assert await queued(pool) == 0
    assert await delete_queued_vectors(pool, TENANT) == 0


async def test_where_no_qdrant_is_configured_nothing_is_queued_nor_called(
    pool: Pool, qdrant: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QDRANT_URL")
    monkeypatch.delenv("QDRANT_HOST", raising=False)
    await queue(pool, await add_memories(pool, 1))

    assert await queued(pool) == 0
    assert await delete_queued_vectors(pool, TENANT) == 0
    assert qdrant.requests == []


async def test_a_rolled_back_deletion_queues_nothing(pool: Pool, qdrant: FakeQdrant) -> None:
    with pytest.raises(ZeroDivisionError):
        async with pool.acquire() as connection, connection.transaction():
            await queue_vector_deletions(connection, TENANT, [uuid4()])
            raise ZeroDivisionError
    assert await queued(pool) == 0


async def test_an_absent_qdrant_keeps_the_queue_and_the_deletions(pool: Pool, qdrant: FakeQdrant) -> None:
    gone = await add_memories(pool, 2)
    qdrant.add(TENANT, gone)
    await queue(pool, gone)
    qdrant.always = error(503, "gone")

    with pytest.raises(TransientError):
        await delete_queued_vectors(pool, TENANT)
    assert await queued(pool) == 2
    assert await pool.fetchval("SELECT count(*) FROM memories") == 0

    qdrant.always = None
    assert await delete_queued_vectors(pool, TENANT) == 2
    assert (qdrant.ids(), await queued(pool)) == (set(), 0)


async def test_a_missing_collection_is_an_error_that_keeps_the_queue(
    pool: Pool, qdrant: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue(pool, await add_memories(pool, 1))
    monkeypatch.setenv("QDRANT_COLLECTION_NAME", "elsewhere")

    with pytest.raises(ConfigError, match="elsewhere"):
        await delete_queued_vectors(pool, TENANT)
    assert await queued(pool) == 1


async def test_only_the_tenants_own_points_go(pool: Pool, qdrant: FakeQdrant) -> None:
    mine, theirs = uuid4(), uuid4()
    qdrant.add(TENANT, [mine])
    qdrant.add(OTHER, [theirs])
    await queue(pool, [mine, theirs])
    await queue(pool, [theirs], OTHER)

    await delete_queued_vectors(pool, TENANT)

    assert qdrant.ids() == {str(theirs)}
    assert await queued(pool) == 1


async def test_a_memory_that_is_back_keeps_its_vector(pool: Pool, qdrant: FakeQdrant) -> None:
    [back] = await add_memories(pool, 1)
    qdrant.add(TENANT, [back])
    async with pool.acquire() as connection:
        await queue_vector_deletions(connection, TENANT, [back])

    assert await delete_queued_vectors(pool, TENANT) == 0

    assert qdrant.ids() == {str(back)}
    assert await queued(pool) == 0


async def test_many_are_deleted_in_batches_and_a_stop_leaves_the_rest(
    pool: Pool, qdrant: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 10)
    ids = [uuid4() for _ in range(25)]
    qdrant.add(TENANT, ids)
    await queue(pool, ids)
    stop = StopSignal()
    stop.set("SIGTERM")

    with pytest.raises(SoftLimitReached):
        await delete_queued_vectors(pool, TENANT, stop)
    assert await queued(pool) == 25

    assert await delete_queued_vectors(pool, TENANT, StopSignal()) == 25
    assert len(qdrant.calls("/points/delete")) == 3


async def test_a_process_killed_between_commit_and_qdrant_leaves_what_the_next_check_makes_up_for(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    gone = await add_memories(pool, 2)
    kept = await add_memories(pool, 1)
    qdrant.add(TENANT, [*gone, *kept])
    script = textwrap.dedent("""
        import asyncio, os, signal, sys
        from uuid import UUID
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.vectors.outbox import queue_vector_deletions

        async def main():
            tenant, *ids = map(UUID, sys.argv[1:])
            async with open_pool(DatabaseSettings.from_env(), "test") as pool, pool.acquire() as connection:
                async with connection.transaction():
                    await connection.execute("DELETE FROM memories WHERE id = ANY($1)", ids)
                    await queue_vector_deletions(connection, tenant, ids)
                os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """)
    command = [sys.executable, "-c", script, str(TENANT), *map(str, gone)]
    process = await asyncio.create_subprocess_exec(*command, env=environment(database_url, QDRANT_URL=qdrant.url))
    assert await process.wait() == -signal.SIGKILL
    assert (await queued(pool), len(qdrant.ids())) == (2, 3)

    checked = jobctl(database_url, "check-consistency", "-o", "json", QDRANT_URL=qdrant.url)

    assert checked.json["counters"]["queuedDeleted"] == 2, checked.errors
    assert checked.json["reason"] == "Consistent"
    assert (qdrant.ids(), await queued(pool)) == (set(map(str, kept)), 0)


@pytest.mark.parametrize("command", ["cleanup-expired-data", "decay", "prune"])
async def test_the_vector_of_a_memory_that_a_task_deletes_follows(
    database_url: str, pool: Pool, qdrant: FakeQdrant, command: str
) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    gone, stay = await add_memories(pool, 3, created_at=long_ago, expires_at=long_ago), await add_memories(pool, 1)
    qdrant.add(TENANT, [*gone, *stay])

    ended = jobctl(database_url, command, QDRANT_URL=qdrant.url, MEMORY_RETENTION_DAYS="90")

    assert ended.code == 0, ended.errors
    assert qdrant.ids() == set(map(str, stay))
    assert await queued(pool) == 0
