"""What the tasks' role may do, given by the tables' owner: rights on tables, and a policy where row-level security is on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rae_jobctl.db.migrate import Say, quote_identifier, under_short_lock
from rae_jobctl.errors import ConfigError

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

_WRITES = ("memories", "memory_embeddings", "knowledge_graph_nodes", "knowledge_graph_edges", "reflections")
_READS = ("tenants", "budgets")
#: Logs and derived data, of which retention deletes and erasure takes a person out; an installation has some of them.
_CLEANS = (
    "access_logs",
    "audit_logs",
    "audit_trail_log",
    "cost_logs",
    "deletion_audit_log",
    "embeddings",
    "graph_triples",
    "idea_field_edges",
    "memory_feedback",
    "metrics_timeseries",
    "reflection_audits",
    "reflection_relationships",
    "reflection_usage_log",
    "semantic_nodes",
    "token_savings_log",
    "user_tenant_roles",
)
_POLICY = "rae_jobs_tenant"

# Whatever else RAE keeps of a tenant: an erasure looks there too, and says what it finds.
_OTHERS = """
SELECT c.oid::regclass::text AS name
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p')
  AND c.relnamespace = (SELECT m.relnamespace FROM pg_class AS m WHERE m.oid = to_regclass('memories'))
  AND c.relname <> ALL ($1)
"""

# Tables of RAE with row-level security whose policies our role is not meant by yet.
_SECURED = """
SELECT c.oid::regclass::text AS name, format_type(a.atttypid, NULL) AS tenant_type
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
WHERE c.oid IN (SELECT to_regclass(t) FROM unnest($1::text[]) AS t)
  AND c.relrowsecurity
  AND NOT pg_has_role($2, c.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = $3)
"""


async def grant_to(connection: Connection, role: str, say: Say, patience: float) -> None:
    """Give `role` what the tasks need; safe to repeat.

    Args:
        connection: of the tables' owner.
        role: name of an existing role, the one in the tasks' DATABASE_URL.
        say: told each step in one line.
        patience: seconds to go on trying for a lock (policies alter a table).

    Raises:
        ConfigError: there is no such role.
        TransientError: a table was in use all the time.
    """
    if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", role):
        raise ConfigError(
            f"RAE_JOB_ROLE names no role: {role!r}", hint=f"CREATE ROLE {quote_identifier(role)} LOGIN PASSWORD '...'"
        )
    quoted = quote_identifier(role)
    others = [row["name"] for row in await connection.fetch(_OTHERS, [*_WRITES, *_READS, *_CLEANS])]
    for statement in await _grants(connection, quoted, others):
        await connection.execute(statement)
    secured = await connection.fetch(_SECURED, [*_WRITES, *_READS, *_CLEANS, *others], role, _POLICY)
    for row in secured:
        say(f"  row-level security on {row['name']}: policy {_POLICY} for the job role")
        await under_short_lock(connection, _policy(row["name"], row["tenant_type"], quoted), say, patience)


async def _grants(connection: Connection, role: str, others: Sequence[str]) -> list[str]:
    rows = await connection.fetch(
        "SELECT t AS name, to_regclass(t)::text AS found FROM unnest($1::text[]) AS t", [*_WRITES, *_READS, *_CLEANS]
    )
    present = {row["name"]: row["found"] for row in rows if row["found"]}
    writes = [f"GRANT SELECT, INSERT, UPDATE, DELETE ON {present[name]} TO {role}" for name in _WRITES if name in present]
    reads = [f"GRANT SELECT ON {present[name]} TO {role}" for name in _READS if name in present]
    cleans = [f"GRANT SELECT, UPDATE, DELETE ON {present[name]} TO {role}" for name in _CLEANS if name in present]
    return [
        f"GRANT USAGE ON SCHEMA rae_jobs TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rae_jobs TO {role}",
        f"REVOKE INSERT, UPDATE, DELETE ON rae_jobs.schema_migrations FROM {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA rae_jobs TO {role}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA rae_jobs TO {role}",
        *writes,
        *reads,
        *cleans,
        *(f"GRANT SELECT ON {name} TO {role}" for name in others),
    ]


def _policy(table: str, tenant_type: str, role: str) -> str:
    # Both settings, and an empty one counts as unset: PostgreSQL leaves '' behind when a transaction-local setting ends.
    settings = [f"nullif(current_setting('{name}', true), '')" for name in ("app.current_tenant_id", "app.current_tenant")]
    return f"CREATE POLICY {_POLICY} ON {table} TO {role} USING (tenant_id = coalesce({', '.join(settings)})::{tenant_type})"
