"""Retention by class and tenant on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
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
from rae_jobctl.tasks.retention import tables
from rae_jobctl.tasks.retention.policy import Defaults
from rae_jobctl.tasks.retention.task import CleanupParams, cleanup
from tests.integration.killing import killed_and_run_again
from tests.integration.memories import OTHER, TENANT, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

NOW = datetime.now(UTC)
ANCIENT = NOW - timedelta(days=4000)


async def run(
    pool: Pool, *, slot: str = "s", tenant: str | None = None, dry_run: bool = False, stop: StopSignal | None = None, **env: str
) -> Outcome:
    params = CleanupParams(Defaults.from_env(env), Slot(slot, NOW, "flag"), stop or StopSignal())
    return await cleanup(pool, params, tenant=tenant, dry_run=dry_run)


async def ids(pool: Pool, table: str = "memories") -> set[object]:
    return {row["id"] for row in await pool.fetch(f"SELECT id FROM {table}")}


async def audits(pool: Pool) -> set[tuple[str, str, str, int]]:
    rows = await pool.fetch("SELECT data_class, table_name, reason, deleted_count FROM rae_jobs.deletion_audit")
    return {(row["data_class"], row["table_name"], row["reason"], row["deleted_count"]) for row in rows}


async def test_old_episodic_memories_go_and_the_other_layers_stay(pool: Pool) -> None:
    await add_tenant(pool)
    gone = await add_memories(pool, 3, created_at=NOW - timedelta(days=366))
    stay = await add_memories(pool, 2, created_at=NOW - timedelta(days=364))
    for layer in ("semantic", "reflective", None):
        stay += await add_memories(pool, 1, created_at=ANCIENT, layer=layer)
    stay += await add_memories(pool, 1, created_at=None)
    stay += await add_memories(pool, 1, created_at=ANCIENT, tags=["x", "legal-hold"])
    await pool.execute(
        "INSERT INTO rae_jobs.extraction_state (memory_id, tenant_id, tries) SELECT unnest($1::uuid[]), $2, 1",
        [*gone, stay[0]],
        TENANT,
    )

    outcome = await run(pool)

    assert (outcome.counters["deleted"], outcome.counters["episodic"]) == (3, 3)
    assert await ids(pool) == set(stay)
    assert await audits(pool) == {("episodic", "memories", "retention", 3)}
    audit = await pool.fetchrow("SELECT deleted_ids, tenant_id FROM rae_jobs.deletion_audit")
    assert audit is not None
    assert (set(audit["deleted_ids"]), audit["tenant_id"]) == (set(gone), TENANT)
    assert await pool.fetchval("SELECT array_agg(memory_id) FROM rae_jobs.extraction_state") == [stay[0]]


async def test_each_tenant_has_its_own_days_and_a_bad_config_fails_that_tenant_alone(pool: Pool) -> None:
    third = UUID("33333333-3333-3333-3333-333333333333")
    await add_tenant(pool, TENANT, "short", {"memory_retention_days": 30})
    await add_tenant(pool, OTHER, "keeps", {"retention_days": {"episodic": -1}})
    await add_tenant(pool, third, "broken", {"memory_retention_days": "soon"})
    await add_memories(pool, 2, created_at=NOW - timedelta(days=31))
    stay = await add_memories(pool, 2, OTHER, created_at=ANCIENT) + await add_memories(pool, 2, third, created_at=ANCIENT)

    outcome = await run(pool)

    assert await ids(pool) == set(stay)
    assert outcome.exit_code is ExitCode.BAD_DATA
    assert [(one["tenant"], one["reason"]) for one in outcome.failures] == [("broken", "RetentionInvalid")]
    assert outcome.counters["deleted"] == 2


@pytest.mark.parametrize(("config", "left"), [('"[1]"', 1), ("[1]", 1), ('"{\\"memory_retention_days\\": -1}"', 1), ("null", 0)])
async def test_a_config_that_is_no_object_is_not_taken_for_the_default(pool: Pool, config: str, left: int) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    await pool.execute("UPDATE tenants SET config = $2::text::jsonb WHERE id = $1", TENANT, config)
    await add_memories(pool, 1, created_at=ANCIENT)
    outcome = await run(pool)
    assert len(await ids(pool)) == left
    refused = [one["reason"] for one in outcome.failures]
    assert refused == (["TenantConfigInvalid"] if "[1]" in config else [])


async def test_an_unforeseen_failure_of_one_tenant_stops_no_other_and_quotes_no_row(pool: Pool, capsys: Any) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    await add_memories(pool, 1, created_at=ANCIENT, content="a secret")
    stay = await add_memories(pool, 1, OTHER, created_at=ANCIENT)
    await pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no: %', OLD.content USING ERRCODE = 'P0042'; END $$"
    )
    await pool.execute(
        "CREATE TRIGGER refuse BEFORE DELETE ON memories FOR EACH ROW "
        f"WHEN (OLD.tenant_id = '{TENANT}') EXECUTE FUNCTION refuse()"
    )

    outcome = await run(pool)

    assert outcome.exit_code is ExitCode.TRANSIENT
    assert [one["tenant"] for one in outcome.failures] == ["demo-tenant"]
    assert outcome.counters["deleted"] == 1
    assert not await ids(pool) & set(stay)
    assert "a secret" not in capsys.readouterr().err + str(outcome.as_json())
    assert "a secret" not in str(await pool.fetch("SELECT r::text FROM rae_jobs.task_runs AS r"))


async def test_logs_go_by_their_own_days_and_tables_that_are_not_there_are_named(pool: Pool) -> None:
    await add_tenant(pool)
    await pool.execute("CREATE TABLE cost_logs (id serial PRIMARY KEY, tenant_id varchar(255), timestamp timestamptz)")
    await pool.execute("CREATE TABLE audit_trail_log (entry_id uuid PRIMARY KEY, tenant_id text, timestamp timestamptz)")
    await pool.execute("CREATE TABLE embeddings (x int)")
    for days in (1, 1094, 1096):
        await pool.execute(
            "INSERT INTO cost_logs (tenant_id, timestamp) VALUES ($1, $2)", str(TENANT), NOW - timedelta(days=days)
        )
        await pool.execute("INSERT INTO cost_logs (tenant_id, timestamp) VALUES ($1, $2)", str(OTHER), NOW)
    for days in (2554, 2556):
        at = NOW - timedelta(days=days)
        await pool.execute("INSERT INTO audit_trail_log VALUES ($1, $2, $3)", uuid4(), str(TENANT), at)
        await _log_access(pool, at)

    outcome = await run(pool)

    assert outcome.counters["cost_logs"] == 1
    assert outcome.counters["audit_logs"] == 2
    assert await pool.fetchval("SELECT count(*) FROM cost_logs") == 5
    assert await pool.fetchval("SELECT deleted_keys FROM rae_jobs.deletion_audit WHERE table_name = 'cost_logs'") == ["5"]
    assert set(outcome.result["skippedTables"]) >= {"audit_logs", "embeddings", "graph_triples", "semantic_nodes"}
    assert "cost_logs" not in outcome.result["skippedTables"]


@pytest.mark.parametrize(("kind", "hours"), [("timestamp", 1), ("date", 24), ("timestamptz", 1)])
async def test_a_time_without_a_zone_is_taken_as_utc(database_url: str, pool: Pool, kind: str, hours: int) -> None:
    await add_tenant(pool)
    await pool.execute(f"CREATE TABLE cost_logs (id serial PRIMARY KEY, tenant_id varchar(255), timestamp {kind})")
    await pool.execute(f"ALTER DATABASE {database_url.rsplit('/', 1)[1]} SET timezone = 'Asia/Tokyo'")
    limit = NOW - timedelta(days=1095)
    for at in (limit - timedelta(hours=hours), limit + timedelta(hours=hours)):
        await pool.execute(
            f"INSERT INTO cost_logs (tenant_id, timestamp) SELECT $1, ($2::timestamptz AT TIME ZONE 'UTC')::timestamp"
            f"{' AT TIME ZONE ' + repr('UTC') if kind == 'timestamptz' else ''}",
            str(TENANT),
            at,
        )

    async with open_pool(DatabaseSettings(database_url), "test") as abroad:
        outcome = await run(abroad)

    assert outcome.counters["cost_logs"] == 1
    assert await pool.fetchval("SELECT array_agg(id) FROM cost_logs") == [2]


async def test_what_has_the_name_of_a_table_and_is_something_else_is_skipped(pool: Pool) -> None:
    await add_tenant(pool)
    await pool.execute(
        "CREATE VIEW embeddings AS SELECT m.tenant_id, e.* FROM memory_embeddings AS e JOIN memories AS m ON m.id = e.memory_id"
    )
    await pool.execute("CREATE TABLE cost_logs (tenant_id uuid, timestamp bigint)")
    await pool.execute("CREATE TABLE audit_logs (tenant_id integer, timestamp timestamptz)")
    outcome = await run(pool)
    assert set(outcome.result["skippedTables"]) >= {"embeddings", "cost_logs", "audit_logs"}


async def test_old_embeddings_go_and_their_memories_stay(pool: Pool) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    old, held = await add_memories(pool, 1, layer="semantic"), await add_memories(pool, 1, layer="semantic", tags=["protected"])
    other = await add_memories(pool, 1, OTHER)
    for memory in (*old, *held, *other):
        await pool.execute(
            "INSERT INTO memory_embeddings (memory_id, model_name, embedding, created_at) VALUES ($1, 'm', '[1]', $2)",
            memory,
            ANCIENT,
        )

    outcome = await run(pool, tenant="demo-tenant")

    assert outcome.counters["embeddings"] == 1
    assert {row[0] for row in await pool.fetch("SELECT memory_id FROM memory_embeddings")} == {*held, *other}
    assert len(await ids(pool)) == 3


async def test_a_deleted_memory_takes_its_embeddings_with_it(pool: Pool) -> None:
    await add_tenant(pool)
    (memory,) = await add_memories(pool, 1, created_at=ANCIENT)
    await pool.execute("INSERT INTO memory_embeddings (memory_id, model_name, embedding) VALUES ($1, 'm', '[1]')", memory)
    await run(pool)
    assert await pool.fetchval("SELECT count(*) FROM memory_embeddings") == 0


async def test_a_reflection_goes_only_when_nothing_younger_hangs_on_it(pool: Pool) -> None:
    await add_tenant(pool)

    async def reflection(created: datetime, parent: UUID | None = None) -> UUID:
        made: UUID = await pool.fetchval(
            "INSERT INTO reflections (tenant_id, project, content, type, created_at, parent_reflection_id) "
            "VALUES ($1, 'p', 'c', 'insight', $2, $3) RETURNING id",
            TENANT,
            created,
            parent,
        )
        return made

    old_chain = await reflection(ANCIENT)
    await reflection(ANCIENT, await reflection(ANCIENT, old_chain))
    held = await reflection(ANCIENT)
    young = await reflection(NOW, held)

    outcome = await run(pool, RAE_RETENTION_REFLECTIVE_DAYS="30")

    assert outcome.counters["reflective"] == 3
    assert await ids(pool, "reflections") == {held, young}


async def test_a_reflection_stays_when_one_is_hung_on_it_meanwhile(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    await add_tenant(pool)
    parent, child = uuid4(), uuid4()
    insert = (
        "INSERT INTO reflections (id, tenant_id, project, content, type, created_at, parent_reflection_id) "
        "VALUES ($1, $2, 'p', 'c', 'insight', $3, $4)"
    )
    await pool.execute(insert, parent, TENANT, ANCIENT, None)
    # The first statement of the batch that looks whether it has children takes its time.
    await pool.execute("CREATE SEQUENCE looks")
    await pool.execute(
        "CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS "
        "$$ BEGIN IF current_setting('transaction_read_only') = 'off' AND nextval('looks') = 1 THEN PERFORM pg_sleep(2); END IF; "
        "RETURN true; END $$"
    )
    slow = [replace(one, condition=f"{one.condition} AND slow()") if one.name == "reflections" else one for one in tables.TABLES]
    monkeypatch.setattr(tables, "TABLES", slow)

    cleaning = asyncio.create_task(run(pool, RAE_RETENTION_REFLECTIVE_DAYS="30"))
    while not await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await pool.execute(insert, child, TENANT, NOW, parent)
    outcome = await cleaning

    assert outcome.counters["deleted"] == 0
    assert await ids(pool, "reflections") == {parent, child}


async def test_the_graph_goes_edges_first_and_a_node_in_use_stays(pool: Pool) -> None:
    await add_tenant(pool)
    nodes = [
        await pool.fetchval(
            "INSERT INTO knowledge_graph_nodes (tenant_id, project, node_id, label, created_at) "
            "VALUES ($1, 'p', $2, $2, $3) RETURNING id",
            TENANT,
            f"n{n}",
            ANCIENT,
        )
        for n in range(3)
    ]
    for source, target, created in ((0, 1, ANCIENT), (1, 2, NOW)):
        await pool.execute(
            "INSERT INTO knowledge_graph_edges (tenant_id, project, source_node_id, target_node_id, relation, created_at) "
            "VALUES ($1, 'p', $2, $3, 'KNOWS', $4)",
            TENANT,
            nodes[source],
            nodes[target],
            created,
        )

    assert (await run(pool)).counters["deleted"] == 0
    outcome = await run(pool, slot="with days", RAE_RETENTION_GRAPH_DAYS="30")

    assert outcome.counters["graph"] == 2
    assert await ids(pool, "knowledge_graph_nodes") == set(nodes[1:])


async def test_an_archive_and_our_own_audit_are_cleaned_for_a_tenant_that_has_no_memory_left(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO rae_jobs.deletion_audit (run_id, tenant_id, data_class, reason, deleted_count, deleted_at) "
        "VALUES ($1, $2, 'episodic', 'retention', 1, $3)",
        uuid4(),
        TENANT,
        ANCIENT,
    )
    await pool.execute(
        "INSERT INTO rae_jobs.archived_memories (memory_id, tenant_id, run_id, memory, archived_at) "
        "VALUES ($1, $2, $1, '{}', $3)",
        uuid4(),
        TENANT,
        ANCIENT,
    )

    outcome = await run(pool, RAE_RETENTION_ARCHIVE_DAYS="100")

    assert (outcome.counters["audit_logs"], outcome.counters["archive"]) == (1, 1)
    assert await audits(pool) == {
        ("audit_logs", "rae_jobs.deletion_audit", "retention", 1),
        ("archive", "rae_jobs.archived_memories", "retention", 1),
    }


async def test_a_dry_run_counts_by_table_and_writes_nothing(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, 4, created_at=ANCIENT)
    before = await pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())")

    ended = jobctl(database_url, "cleanup-expired-data", "--dry-run")

    assert ended.code == 0, ended.errors
    assert "would delete 4 episodic" in ended.output
    assert "not in this database: audit_logs" in ended.output
    assert await pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())") == before


async def test_a_row_that_rae_holds_is_left_for_the_next_run(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    memories = await add_memories(pool, 5, created_at=ANCIENT)
    rae = await asyncpg.connect(database_url)
    async with rae.transaction():
        await rae.execute("UPDATE memories SET usage_count = 7 WHERE id = $1", memories[0])
        assert (await run(pool)).counters["deleted"] == 4
    await rae.close()
    assert await ids(pool) == {memories[0]}
    assert (await run(pool, slot="next")).counters["deleted"] == 1


@pytest.mark.parametrize("few", [10, 100_000])
async def test_a_large_tenant_and_a_small_one_lose_the_same_rows(pool: Pool, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(walk, "FEW_ROWS", few)
    monkeypatch.setattr(walk, "BATCH_ROWS", 100)
    await add_tenant(pool)
    await _many(pool, 3000)

    outcome = await run(pool)

    assert outcome.counters["deleted"] == 1500
    assert await pool.fetchval("SELECT count(*) FROM memories WHERE created_at < now() - interval '366 days'") == 0
    assert await pool.fetchval("SELECT sum(deleted_count) FROM rae_jobs.deletion_audit") == 1500


async def test_rows_that_an_index_finds_in_another_order_all_go(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "FEW_ROWS", 300)
    monkeypatch.setattr(walk, "BATCH_ROWS", 100)
    await add_tenant(pool)
    await pool.execute("ALTER TABLE access_logs SET (autovacuum_enabled = false)")
    await _log_access(pool, NOW, 40_000)
    # What the planner knows is that next to none is old, so that it takes the index of the times.
    await pool.execute("ANALYZE access_logs")
    await _log_access(pool, ANCIENT, 4000)
    await pool.execute("UPDATE access_logs SET timestamp = timestamp - random() * interval '1 day' WHERE timestamp < $1", NOW)

    outcome = await run(pool)

    assert outcome.counters["audit_logs"] == 4000


async def test_a_partitioned_table_is_cleaned_however_large_the_tenant_is(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "FEW_ROWS", 300)
    await add_tenant(pool)
    await pool.execute(
        "CREATE TABLE audit_trail_log (entry_id uuid DEFAULT gen_random_uuid(), tenant_id text, timestamp timestamptz) "
        "PARTITION BY RANGE (timestamp)"
    )
    await pool.execute("CREATE TABLE first PARTITION OF audit_trail_log FOR VALUES FROM (MINVALUE) TO ('2010-01-01')")
    await pool.execute("CREATE TABLE second PARTITION OF audit_trail_log FOR VALUES FROM ('2010-01-01') TO (MAXVALUE)")
    for at in (datetime(2001, 1, 1, tzinfo=UTC), datetime(2011, 1, 1, tzinfo=UTC), NOW):
        insert = "INSERT INTO audit_trail_log (tenant_id, timestamp) SELECT $1, $2 FROM generate_series(1, 500)"
        await pool.execute(insert, str(TENANT), at)

    outcome = await run(pool)

    assert outcome.counters["audit_logs"] == 1000
    assert await pool.fetchval("SELECT count(*) FROM audit_trail_log") == 500
    assert await pool.fetchval("SELECT sum(deleted_count) FROM rae_jobs.deletion_audit") == 1000


async def test_the_soft_limit_slices_it_and_the_next_attempt_goes_on_at_the_table_where_it_was(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "FEW_ROWS", 10)
    monkeypatch.setattr(walk, "BATCH_ROWS", 500)
    await add_tenant(pool)
    await _many(pool, 3000)
    await _log_access(pool, ANCIENT, 2000)
    slices = 0
    while True:
        stop = StopSignal()
        monkeypatch.setattr(walk, "paced", lambda rows, seconds, stop=stop: (stop.set("the test"), rows)[1])
        try:
            outcome = await run(pool, stop=stop)
        except TimeSliced:
            slices += 1
            continue
        break
    assert slices >= 2
    assert (outcome.counters["episodic"], outcome.counters["audit_logs"]) == (1500, 2000)


async def test_a_slot_of_a_far_day_deletes_nothing(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    stay = await add_memories(pool, 1)
    slot = ("--slot", "2100-11-24T02:00Z", "-o", "json")
    assert jobctl(database_url, "cleanup-expired-data", *slot).code == 64
    assert await ids(pool) == set(stay)
    assert jobctl(database_url, "cleanup-expired-data", "--dry-run", *slot).json["counters"]["episodic"] == 1


@pytest.mark.parametrize("right", ["DELETE", "UPDATE"])
async def test_a_role_without_the_rights_is_told_so(database_url: str, pool: Pool, right: str) -> None:
    role = f"bare_{uuid4().hex[:8]}"
    await pool.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    try:
        from rae_jobctl.db.grants import grant_to

        await grant_to(pool, role, lambda line: None, 5)  # type: ignore[arg-type]
        await pool.execute(f"REVOKE {right} ON access_logs FROM {role}")
        parts = database_url.split("@")
        ended = jobctl(f"postgresql://{role}:secret@{parts[1]}", "cleanup-expired-data", "-o", "json")
    finally:
        await pool.execute(f"DROP OWNED BY {role}")
        await pool.execute(f"DROP ROLE {role}")
    assert (ended.code, ended.json["reason"]) == (78, "NotGranted")
    assert "access_logs" in ended.errors


async def _log_access(pool: Pool, at: datetime, count: int = 1) -> None:
    columns = "id, tenant_id, user_id, action, resource, allowed, timestamp"
    values = "gen_random_uuid(), $1, 'u', 'read', 'memories', true, $2"
    await pool.execute(f"INSERT INTO access_logs ({columns}) SELECT {values} FROM generate_series(1, $3::int)", TENANT, at, count)


async def _many(pool: Pool, count: int) -> None:
    """Every other one is old."""
    await pool.execute(
        """
        INSERT INTO memories (tenant_id, content, layer, created_at)
        SELECT $1, 'memory ' || n, 'episodic', now() - CASE WHEN n % 2 = 0 THEN interval '400 days' ELSE interval '1 day' END
        FROM generate_series(1, $2::int) AS n
        """,
        TENANT,
        count,
    )


@settings(max_examples=2, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.floats(0.0, 0.5), min_size=1, max_size=3), command=st.sampled_from(["cleanup-expired-data", "decay"]))
async def test_killed_at_any_moment_each_deletion_has_its_audit(database_url: str, kills: list[float], command: str) -> None:
    async with open_pool(DatabaseSettings(database_url), "test") as pool:
        await pool.execute("TRUNCATE memories, tenants, rae_jobs.task_runs, rae_jobs.deletion_audit CASCADE")
        await add_tenant(pool)
        await _many(pool, 40_000)
        await pool.execute("UPDATE memories SET expires_at = created_at + interval '300 days'")
        old = {row["id"] for row in await pool.fetch("SELECT id FROM memories WHERE created_at < now() - interval '399 days'")}
        young = await ids(pool) - old
        slot = f"killed-{random.random()}"

        ended = await killed_and_run_again(database_url, pool, kills, command, "--slot", slot)

        assert ended.code == 0, ended.errors
        assert await ids(pool) == young
        audited: list[Any] = await pool.fetchval("SELECT array_agg(i) FROM rae_jobs.deletion_audit, unnest(deleted_ids) AS i")
        assert sorted(audited) == sorted(old), "each row once"


async def test_the_ledger_lets_go_of_its_own_old_rows(pool: Pool) -> None:
    await add_tenant(pool)
    await pool.execute(
        """
        INSERT INTO rae_jobs.task_runs
            (task, tenant_id, slot, state, lock_key, version, result, started_at, updated_at, finished_at, expires_at)
        VALUES ('extract-graph', $1, 'a', 'finished', 0, '0', '{"x": 1}', $2, $2, $2, $3),
               ('extract-graph', $1, 'b', 'finished', 0, '0', '{"x": 1}', $4, $4, $4, $5)
        """,
        TENANT,
        NOW - timedelta(days=92),
        NOW - timedelta(days=62),
        NOW - timedelta(days=31),
        NOW - timedelta(days=1),
    )

    outcome = await run(pool)

    rows = await pool.fetch("SELECT slot, result FROM rae_jobs.task_runs WHERE task = 'extract-graph'")
    assert [(row["slot"], row["result"]) for row in rows] == [("b", None)]
    assert outcome.counters["forgottenRuns"] == 1
