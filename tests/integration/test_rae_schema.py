"""RAE's tables and the example memories on real PostgreSQL, with pgvector and without."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from asyncpg import Connection, Record

from rae_jobctl.dev.examples import RECENT_MEMORIES, load_examples, tenant_id_of
from rae_jobctl.dev.postgres import PostgresServer, throwaway_postgres
from rae_jobctl.dev.schema import create_rae_tables, rae_row_level_security_sql
from rae_jobctl.errors import BadDataError
from tests.database_fixtures import debian_15

# Column: type, NOT NULL, default. As RAE's migrations leave them.
TABLES = {
    "memories": """
        id: uuid, NOT NULL, gen_random_uuid()
        tenant_id: uuid, NOT NULL
        content: text, NOT NULL
        source: character varying(255)
        importance: double precision, 0.5
        layer: character varying(50)
        tags: text[]
        timestamp: timestamp with time zone, now()
        created_at: timestamp with time zone, now()
        last_accessed_at: timestamp with time zone, now()
        usage_count: integer, 0
        project: character varying(255)
        metadata: jsonb, '{}'::jsonb
        agent_id: character varying(255), NOT NULL, 'default'::character varying
        expires_at: timestamp with time zone
        memory_type: character varying(50)
        strength: double precision, 1.0
        session_id: character varying(255)
        embedding: vector
        info_class: character varying(50), NOT NULL, 'internal'::character varying
        governance: jsonb, NOT NULL, '{}'::jsonb
        content_hash: character varying(64)
        human_label: text
    """,
    "memory_embeddings": """
        memory_id: uuid, NOT NULL
        model_name: character varying(255), NOT NULL
        metadata: jsonb, '{}'::jsonb
        created_at: timestamp with time zone, now()
        embedding: vector, NOT NULL
    """,
    "knowledge_graph_nodes": """
        id: uuid, NOT NULL, gen_random_uuid()
        tenant_id: uuid, NOT NULL
        project: character varying, NOT NULL
        node_id: character varying, NOT NULL
        label: character varying, NOT NULL
        properties: jsonb, '{}'::jsonb
        created_at: timestamp with time zone, now()
        updated_at: timestamp with time zone, now()
    """,
    "knowledge_graph_edges": """
        id: uuid, NOT NULL, gen_random_uuid()
        tenant_id: uuid, NOT NULL
        project: character varying, NOT NULL
        source_node_id: uuid, NOT NULL
        target_node_id: uuid, NOT NULL
        relation: character varying, NOT NULL
        properties: jsonb, '{}'::jsonb
        created_at: timestamp with time zone, now()
        updated_at: timestamp with time zone, now()
    """,
    "reflections": """
        id: uuid, NOT NULL, gen_random_uuid()
        tenant_id: uuid, NOT NULL
        project: character varying, NOT NULL
        content: text, NOT NULL
        summary: text
        type: character varying, NOT NULL
        priority: integer, 3
        score: double precision, 0.5
        novelty_score: double precision, 0.5
        importance_score: double precision, 0.5
        utility_score: double precision, 0.5
        confidence_score: double precision, 0.5
        parent_reflection_id: uuid
        depth_level: integer, 0
        source_memory_ids: uuid[], '{}'::uuid[]
        source_reflection_ids: uuid[], '{}'::uuid[]
        embedding: double precision[]
        cluster_id: character varying
        cluster_centroid: double precision[]
        cache_key: character varying
        reuse_count: integer, 0
        tags: character varying[], '{}'::character varying[]
        metadata: jsonb, '{}'::jsonb
        generation_model: character varying
        generation_duration_ms: double precision
        generation_tokens_used: integer
        generation_cost_usd: double precision
        created_at: timestamp with time zone, now()
        updated_at: timestamp with time zone, now()
        last_accessed_at: timestamp with time zone, now()
        accessed_count: integer, 0
    """,
    "tenants": """
        id: uuid, NOT NULL, gen_random_uuid()
        name: character varying(255), NOT NULL
        tier: character varying(50), NOT NULL, 'free'::character varying
        config: jsonb, '{}'::jsonb
        created_at: timestamp with time zone, now()
        updated_at: timestamp with time zone, now()
        status: character varying(50), 'active'::character varying
        contact_email: character varying(255)
        company_name: character varying(255)
        current_memory_count: integer, 0
        current_project_count: integer, 0
        api_calls_today: integer, 0
        subscription_start: timestamp with time zone
        subscription_end: timestamp with time zone
    """,
    "budgets": """
        id: uuid, NOT NULL, gen_random_uuid()
        tenant_id: uuid, NOT NULL
        project: character varying, NOT NULL
        monthly_limit: double precision
        monthly_usage: double precision, NOT NULL, 0.0
        daily_limit: double precision
        daily_usage: double precision, NOT NULL, 0.0
        last_usage_at: timestamp without time zone, now()
    """,
}
OTHER_TABLES = {
    *("memory_feedback", "user_tenant_roles", "token_savings_log", "access_logs", "metrics_timeseries"),
    *("reflection_relationships", "reflection_usage_log", "reflection_audits", "idea_field_edges"),
    *("compute_nodes", "delegated_tasks"),
}
MEMORY_INDEXES = {
    "memories_pkey": "UNIQUE btree (id)",
    "idx_memories_tenant_content_hash": "UNIQUE btree (tenant_id, content_hash)",
    "idx_memories_tenant_id": "btree (tenant_id)",
    "idx_memories_project": "btree (project)",
    "idx_memories_agent_id": "btree (agent_id)",
    "idx_memories_session_id": "btree (session_id)",
    "idx_memories_source": "btree (source)",
    "idx_memories_info_class": "btree (info_class)",
    "idx_memories_project_created_at": "btree (project, created_at)",
    "idx_memories_governance": "gin (governance)",
    "idx_memories_content_fts": "gin (to_tsvector('english'::regconfig, COALESCE(content, ''::text)))",
}
CONSTRAINTS = {
    "memory_embeddings_pkey": "PRIMARY KEY (memory_id, model_name)",
    "memory_embeddings_memory_id_fkey": "FOREIGN KEY (memory_id) REFERENCES memories(id) ON DELETE CASCADE",
    "uq_tenant_project_node": "UNIQUE (tenant_id, project, node_id)",
    "uq_kg_edge": "UNIQUE (tenant_id, project, source_node_id, target_node_id, relation)",
    "knowledge_graph_edges_source_node_id_fkey": (
        "FOREIGN KEY (source_node_id) REFERENCES knowledge_graph_nodes(id) ON DELETE CASCADE"
    ),
    "knowledge_graph_edges_target_node_id_fkey": (
        "FOREIGN KEY (target_node_id) REFERENCES knowledge_graph_nodes(id) ON DELETE CASCADE"
    ),
    "reflections_parent_reflection_id_fkey": ("FOREIGN KEY (parent_reflection_id) REFERENCES reflections(id) ON DELETE CASCADE"),
    "uq_tenant_project_budget": "UNIQUE (tenant_id, project)",
}


@pytest.fixture(scope="module", params=["pgvector", "no-pgvector"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """The wheel's newest PostgreSQL, and Debian's 15."""
    with throwaway_postgres(debian_15() if request.param == "no-pgvector" else None) as started:
        yield started


@pytest.fixture
async def database(server: PostgresServer) -> AsyncIterator[str]:
    """A fresh database; its URL."""
    name = f"rae_{uuid4().hex[:12]}"
    server.ensure_database(name)
    yield server.url(name)
    admin = await asyncpg.connect(server.url("postgres"))
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection[Record]]:
    """A connection to a fresh database with RAE's tables."""
    opened = await asyncpg.connect(database)
    await create_rae_tables(opened)
    yield opened
    await opened.close()


async def _columns(connection: Connection[Record], table: str) -> list[str]:
    rows = await connection.fetch(
        """
        SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull, pg_get_expr(adbin, adrelid) AS default
        FROM pg_attribute
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
        """,
        table,
    )
    return [
        f"{row['attname']}: {row['type']}"
        + (", NOT NULL" if row["attnotnull"] else "")
        + (f", {row['default']}" if row["default"] else "")
        for row in rows
    ]


@pytest.mark.parametrize("table", TABLES)
async def test_a_table_has_exactly_raes_columns(connection: Connection[Record], table: str) -> None:
    assert await _columns(connection, table) == [line.strip() for line in TABLES[table].strip().splitlines()]


async def test_there_are_raes_tables_and_no_others(connection: Connection[Record]) -> None:
    found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {row["tablename"] for row in found} == TABLES.keys() | OTHER_TABLES


async def test_memories_have_exactly_raes_indexes(connection: Connection[Record]) -> None:
    found = await connection.fetch("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'memories'")
    assert {
        row["indexname"]: ("UNIQUE " if " UNIQUE " in row["indexdef"] else "") + row["indexdef"].partition(" USING ")[2]
        for row in found
    } == MEMORY_INDEXES


async def test_the_edges_have_no_index_on_either_end_alone(connection: Connection[Record]) -> None:
    found = await connection.fetch("SELECT indexname FROM pg_indexes WHERE tablename = 'knowledge_graph_edges'")
    assert {row["indexname"] for row in found} == {"knowledge_graph_edges_pkey", "uq_kg_edge", "idx_kg_edges_relation"}


async def test_keys_and_references_are_raes(connection: Connection[Record]) -> None:
    found = await connection.fetch(
        "SELECT conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conname = ANY($1)", list(CONSTRAINTS)
    )
    assert {row["conname"]: row["definition"] for row in found} == CONSTRAINTS


async def test_vector_is_pgvectors_type_where_there_is_one_and_text_elsewhere(connection: Connection[Record]) -> None:
    available = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')")
    kind = await connection.fetchval("SELECT typtype FROM pg_type WHERE oid = 'vector'::regtype")
    assert kind == (b"b" if available else b"d")
    memory = await connection.fetchval(
        "INSERT INTO memories (tenant_id, content, embedding) VALUES ($1, 'x', '[1,2,3]') RETURNING embedding::text", uuid4()
    )
    assert memory == "[1,2,3]"


async def test_creating_the_tables_again_changes_nothing(connection: Connection[Record]) -> None:
    tenant = uuid4()
    await connection.execute("INSERT INTO memories (tenant_id, content) VALUES ($1, 'kept')", tenant)
    before = await connection.fetch("SELECT oid, relname FROM pg_class ORDER BY oid")
    await create_rae_tables(connection)
    assert await connection.fetch("SELECT oid, relname FROM pg_class ORDER BY oid") == before
    assert await connection.fetchval("SELECT content FROM memories WHERE tenant_id = $1", tenant) == "kept"


async def _as_role(database: str, role: str) -> Connection[Record]:
    connection = await asyncpg.connect(database)
    await connection.execute(f"SET ROLE {role}")
    return connection


@pytest.fixture
async def secured(connection: Connection[Record]) -> AsyncIterator[str]:
    """The name of a role that owns nothing and is bound by row-level security."""
    for _ in range(2):
        await connection.execute(rae_row_level_security_sql())
    role = f"jobs_{uuid4().hex[:8]}"
    await connection.execute(f"CREATE ROLE {role} NOLOGIN NOBYPASSRLS")
    await connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    yield role
    await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_the_policies_are_made_to_a_role_and_read_both_settings(connection: Connection[Record], secured: str) -> None:
    found = await connection.fetch("SELECT tablename, roles, qual FROM pg_policies")
    assert {row["tablename"] for row in found} == {"memories", "reflections", "approval_requests"}
    assert {tuple(row["roles"]) for row in found} == {("postgres",)}
    settings = {row["tablename"]: row["qual"].split("'")[1] for row in found}
    assert settings["memories"] == "app.current_tenant_id"
    assert settings["approval_requests"] == "app.current_tenant"


async def test_a_role_that_is_no_owner_sees_no_memory_at_all(database: str, connection: Connection[Record], secured: str) -> None:
    tenant = uuid4()
    await connection.execute("INSERT INTO memories (tenant_id, content) VALUES ($1, 'x')", tenant)
    other = await _as_role(database, secured)
    try:
        await other.execute("SELECT set_config('app.current_tenant_id', $1, false)", str(tenant))
        assert await other.fetchval("SELECT count(*) FROM memories") == 0
    finally:
        await other.close()
    assert await connection.fetchval("SELECT count(*) FROM memories") == 1


async def test_a_member_of_the_policies_role_sees_the_tenant_that_it_set_and_loads_examples(
    database: str, connection: Connection[Record], secured: str
) -> None:
    owner = f"owner_{uuid4().hex[:8]}"
    await connection.execute(f"CREATE ROLE {owner}; ALTER TABLE memories OWNER TO {owner}; GRANT postgres TO {secured}")
    member = await _as_role(database, secured)
    try:
        report = await load_examples(member, recent=False)
        await member.execute("SELECT set_config('app.current_tenant_id', $1, false)", str(tenant_id_of("acme-labs")))
        visible = await member.fetchval("SELECT count(*) FROM memories")
    finally:
        await member.close()
        await connection.execute(f"DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}")
    assert report.new == report.read > visible
    assert visible == sum(project.read for project in report.projects if project.tenant == "acme-labs")


async def test_loading_twice_adds_the_examples_once(database: str, connection: Connection[Record]) -> None:
    first = await load_examples(database, recent=False)
    again = await load_examples(connection, recent=False)
    assert (first.read, first.new, again.read, again.new) == (first.read, first.read, first.read, 0)
    assert await connection.fetchval("SELECT count(*) FROM memories") == first.read
    assert {project.tenant_id for project in first.projects} == {tenant_id_of("demo-tenant"), tenant_id_of("acme-labs")}
    tenants = await connection.fetch("SELECT id, name, config FROM tenants ORDER BY name")
    assert [tuple(row) for row in tenants] == [
        (tenant_id_of("acme-labs"), "acme-labs", "{}"),
        (tenant_id_of("demo-tenant"), "demo-tenant", "{}"),
    ]


async def test_a_loaded_memory_looks_like_one_that_rae_wrote(connection: Connection[Record]) -> None:
    report = await load_examples(connection, recent=False)
    wrong = await connection.fetchval(
        """
        SELECT count(*)
        FROM memories
        WHERE content_hash IS DISTINCT FROM encode(sha256(convert_to(content, 'UTF8')), 'hex')
           OR strength <> 1.0 OR usage_count <> 0 OR metadata <> '{}' OR embedding IS NOT NULL OR expires_at IS NOT NULL
           OR cardinality(tags) <> 2 OR layer NOT IN ('episodic', 'semantic') OR created_at > now()
        """
    )
    assert (report.new > 0, wrong) == (True, 0)


async def test_recent_examples_lie_within_the_last_day_and_keep_their_own_date(connection: Connection[Record]) -> None:
    now = datetime.now(UTC)
    await load_examples(connection, recent=True, now=now)
    moved = await connection.fetch(
        "SELECT created_at, metadata->>'original_date' AS original FROM memories "
        "WHERE tenant_id = $1 AND project = 'ai-research' AND metadata ? 'original_date'",
        tenant_id_of("demo-tenant"),
    )
    assert len(moved) == RECENT_MEMORIES
    assert all(now - timedelta(days=1) < row["created_at"] <= now for row in moved)
    assert all(datetime.fromisoformat(row["original"]) < now - timedelta(hours=1) for row in moved)
    assert (await load_examples(connection, recent=True, now=now + timedelta(days=3))).new == 0


async def test_a_tenant_that_exists_by_name_keeps_its_id(connection: Connection[Record]) -> None:
    mine = UUID("11111111-1111-4111-8111-111111111111")
    await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'demo-tenant')", mine)
    report = await load_examples(connection, recent=False)
    assert {project.tenant_id for project in report.projects if project.tenant == "demo-tenant"} == {mine}
    assert await connection.fetchval("SELECT count(*) FROM memories WHERE tenant_id = $1", tenant_id_of("demo-tenant")) == 0


async def test_an_ambiguous_tenant_name_is_refused_and_nothing_of_it_is_written(connection: Connection[Record]) -> None:
    await connection.execute("INSERT INTO tenants (name) VALUES ('acme-labs'), ('acme-labs')")
    with pytest.raises(BadDataError, match="2 tenants are named 'acme-labs'"):
        await load_examples(connection, recent=False)
    assert await connection.fetchval("SELECT count(*) FROM memories") == 0
