"""Erasures that are killed, that wait for others, that somebody writes against, and those of a role that owns nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from rae_jobctl.db.ledger import RunKey, open_run
from rae_jobctl.db.locks import Resource
from tests.integration.memories import OTHER, TENANT, jobctl, start_jobctl
from tests.integration.secured import secured
from tests.integration.test_erase_user import KEY, World, world

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

__all__ = ["world"]

_COMMAND = ("erase-user", "--tenant", str(TENANT), "--output", "json", "--yes")
_ENV = {"RAE_ERASURE_KEY": KEY, "RAE_ERASE_IDENTIFIER": "alice\nann@x.org", "REDIS_URL": ""}

_MANY = """
INSERT INTO memories (tenant_id, content, layer, project, metadata)
SELECT $1, CASE WHEN n % 4 = 0 THEN 'alice says ' ELSE 'malice says ' END || n, 'episodic', 'p', jsonb_build_object('n', n)
FROM generate_series(1, $2::int) AS n
"""

_AUDITED = """
SELECT id, count(*) AS n
FROM (SELECT unnest(deleted_ids) AS id FROM rae_jobs.deletion_audit WHERE table_name = 'memories') AS x
GROUP BY id
"""
_AGAIN = """
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO idea_field_edges (tenant_id, source_concept, target_concept) VALUES ('{tenant}', 'alice', 'x');
    RETURN NULL;
END $$;
CREATE TRIGGER again AFTER DELETE ON idea_field_edges EXECUTE FUNCTION again()
"""


async def _left(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM memories WHERE tenant_id = $1 AND content LIKE 'alice says%'", TENANT))


@pytest.mark.parametrize(("end", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75)])
async def test_an_erasure_that_is_ended_completes_when_run_again(world: World, end: signal.Signals, code: int) -> None:
    await world.pool.execute(_MANY, TENANT, 40_000)
    process = start_jobctl(world.url, *_COMMAND, "--slot", "ticket", **_ENV)
    while await _left(world.pool) == 10_000 and process.poll() is None:
        pass
    process.send_signal(end)
    process.communicate(timeout=60)
    assert process.returncode == code
    left = await _left(world.pool)
    assert 0 < left < 10_000, "the test must kill it in the middle"
    again = await asyncio.to_thread(jobctl, world.url, *_COMMAND, "--slot", "ticket", "--wait", **_ENV)
    assert again.code == 0, again.errors
    assert await _left(world.pool) == 0
    audited = await world.pool.fetch(_AUDITED)
    assert {row["n"] for row in audited} == {1}
    assert len(audited) == again.json["result"]["tables"]["memories"]["deleted"] == 10_007
    edges = await world.pool.fetch(
        "SELECT relation FROM knowledge_graph_edges WHERE tenant_id = $1 AND relation <> 'LIKES'", TENANT
    )
    assert [row["relation"] for row in edges] == ["GROWN_IN"]


async def test_what_rests_on_memories_that_an_earlier_run_deleted_is_found(world: World) -> None:
    """A run under another slot knows from the audit what the one that died has deleted."""
    await world.pool.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
    await world.pool.execute("CREATE TRIGGER refuse BEFORE DELETE ON reflections EXECUTE FUNCTION refuse()")
    failed = world.erase("--yes")
    assert failed.code == 1
    assert "alice" not in failed.errors
    await world.pool.execute("DROP TRIGGER refuse ON reflections")
    assert world.erase("--yes").code == 0
    assert not await world.pool.fetchval(
        "SELECT count(*) FROM reflections WHERE tenant_id = $1 AND content = 'A chess player'", TENANT
    )
    relations = await world.pool.fetch("SELECT relation FROM knowledge_graph_edges WHERE tenant_id = $1", TENANT)
    assert "FAR_FROM" not in {row["relation"] for row in relations}


@pytest.mark.parametrize("kind", ["memories", "graph"])
async def test_a_run_on_the_memories_or_the_graph_excludes_it(world: World, kind: str) -> None:
    holder = open_run(world.pool, RunKey("decay", TENANT, "s"), resource=Resource(kind, "exclusive"))  # type: ignore[arg-type]
    async with holder as run:
        ended = await asyncio.to_thread(jobctl, world.url, *_COMMAND, **_ENV)
        await run.finish()
    assert ended.code == 75
    assert "another run is at work" in ended.errors


async def test_a_text_that_comes_back_is_reported_as_left(world: World) -> None:
    await world.pool.execute(_AGAIN.format(tenant=TENANT))
    ended = await asyncio.to_thread(jobctl, world.url, *_COMMAND, "--slot", "ticket", **_ENV)
    assert (ended.code, ended.json["result"]["remaining"]) == (65, {"idea_field_edges": 1})
    status = await world.pool.fetchval("SELECT state FROM rae_jobs.task_runs WHERE task = 'erase-user'")
    assert status == "failed"
    await world.pool.execute("DROP TRIGGER again ON idea_field_edges")
    again = await asyncio.to_thread(jobctl, world.url, *_COMMAND, "--slot", "ticket", **_ENV)
    assert (again.code, again.json["result"]["remaining"]) == (0, {})


@pytest.fixture
async def job_url(world: World) -> AsyncIterator[str]:
    """URL of a role that owns nothing and is bound by row-level security."""
    async with secured(world.url, world.pool) as url:
        yield url


async def test_a_role_under_row_level_security_erases_the_same(world: World, job_url: str) -> None:
    elsewhere = await world.dump(OTHER)
    ended = World(job_url, world.pool, {}).erase("--yes")
    assert ended.code == 0, ended.output + ended.errors
    assert await world.dump(OTHER) == elsewhere
    assert ended.json["result"]["tables"]["memories"]["deleted"] == 7
    assert World(world.url, world.pool, {}).erase("--yes").json["reason"] == "NothingToDo"


async def test_a_table_that_the_role_may_not_see_is_named(world: World, job_url: str) -> None:
    await world.pool.execute(f"CREATE TABLE secrets (tenant_id uuid, who text); INSERT INTO secrets VALUES ('{TENANT}', 'alice')")
    ended = World(job_url, world.pool, {}).erase("--yes")
    assert (ended.code, ended.json["result"]["notReadable"]) == (65, ["secrets"])


async def test_a_dry_run_reads_only(world: World, job_url: str) -> None:
    database = urlsplit(world.url).path.strip("/")
    await world.pool.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    looked = World(job_url, world.pool, {}).erase("--dry-run")
    assert (looked.code, looked.json["reason"]) == (0, "DryRun")
    assert World(job_url, world.pool, {}).erase("--yes").code != 0
