"""The tables of each class of data, and which of them an installation has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rae_jobctl.errors import ConfigError
from rae_jobctl.tasks.deletion import Audit, Deletion
from rae_jobctl.tasks.walk import Again, Due, Manner

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Record

#: Whether no protected tag ($3) is on the row `m`.
EXEMPT = "NOT coalesce(m.tags::text[] && $3::text[], false)"
# Of a memory's embedding: the memory tells the tenant and the tags.
_EMBEDDED = "EXISTS (SELECT FROM memories AS x WHERE x.id = m.memory_id AND x.tenant_id = $1)"
_EMBEDDED_EXEMPT = "NOT EXISTS (SELECT FROM memories AS x WHERE x.id = m.memory_id AND x.tags && $3::text[])"
# A reflection takes its children with it, which may be younger: only one without children goes, and then perhaps its parent.
_CHILDLESS = "NOT EXISTS (SELECT FROM reflections AS c WHERE c.parent_reflection_id = m.id)"
_UNCONNECTED = (
    "NOT EXISTS (SELECT FROM knowledge_graph_edges AS e WHERE e.source_node_id = m.id) "
    "AND NOT EXISTS (SELECT FROM knowledge_graph_edges AS e WHERE e.target_node_id = m.id)"
)


@dataclass(frozen=True)
class Table:
    """One table of a class.

    Attributes:
        data_class: as in `policy.DEFAULT_DAYS`.
        name: of the table.
        age: its column of time; a row without one is kept.
        tenant: its column of the tenant; empty where `owner` tells it.
        owner: SQL that tells the tenant's rows instead, the tenant being $1.
        condition: further SQL about the row `m`; $3 are the protected tags, if `tagged`.
        tagged: whether protected tags matter.
        again: whether one deletion makes others due.
        hung_on: as in Deletion.
    """

    data_class: str
    name: str
    age: str = "created_at"
    tenant: str = "tenant_id"
    owner: str = ""
    condition: str = "true"
    tagged: bool = False
    again: bool = False
    hung_on: bool = False


def _memories(layer: str) -> Table:
    return Table(layer, "memories", condition=f"m.layer = '{layer}' AND {EXEMPT}", tagged=True)


#: In the order in which they are worked: edges before nodes.
TABLES: tuple[Table, ...] = (
    _memories("episodic"),
    _memories("semantic"),
    _memories("reflective"),
    Table("reflective", "reflections", condition=f"{EXEMPT} AND {_CHILDLESS}", tagged=True, again=True, hung_on=True),
    Table("graph", "knowledge_graph_edges"),
    Table("graph", "knowledge_graph_nodes", condition=_UNCONNECTED, hung_on=True),
    Table("graph", "semantic_nodes"),
    Table("graph", "graph_triples"),
    Table("embeddings", "memory_embeddings", tenant="", owner=_EMBEDDED, condition=_EMBEDDED_EXEMPT, tagged=True),
    Table("embeddings", "embeddings"),
    Table("cost_logs", "cost_logs", "timestamp"),
    Table("cost_logs", "token_savings_log", "timestamp"),
    Table("cost_logs", "rae_jobs.llm_usage"),
    Table("audit_logs", "access_logs", "timestamp"),
    Table("audit_logs", "audit_logs", "timestamp"),
    Table("audit_logs", "audit_trail_log", "timestamp"),
    Table("audit_logs", "deletion_audit_log", "deletion_timestamp"),
    Table("audit_logs", "reflection_audits"),
    Table("audit_logs", "rae_jobs.deletion_audit", "deleted_at"),
    Table("archive", "rae_jobs.archived_memories", "archived_at"),
    Table("webhooks", "rae_jobs.webhook_outbox", condition="(m.delivered_at IS NOT NULL OR m.dead_at IS NOT NULL)"),
)

#: Types of a column of time, and of one that holds a tenant's id; a table that has others is not the one that we know.
_TIMES = ("timestamp with time zone", "timestamp without time zone", "date")
_TENANTS = ("uuid", "text", "character varying", "character")

# What the installation has of our tables: columns with their types, the key, our rights (to lock a row takes that to update
# it), and whether row-level security hides every row from us. What bears the name of a table and is a view is none.
_DESCRIBE = """
SELECT t.name,
       (SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, NULL))
        FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
       (SELECT array_agg(a.attname::text ORDER BY array_position(i.indkey::smallint[], a.attnum))
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = c.oid AND i.indisprimary) AS key,
       has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
           AS allowed,
       row_security_active(c.oid) AND NOT EXISTS (
           SELECT FROM pg_policy AS p
           WHERE p.polrelid = c.oid
             AND (p.polroles @> ARRAY[0::oid] OR EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE pg_has_role(r, 'USAGE')))
       ) AS blind
FROM unnest($1::text[]) AS t (name)
JOIN pg_class AS c ON c.oid = to_regclass(t.name) AND c.relkind IN ('r', 'p')
"""


@dataclass(frozen=True)
class Found:
    """A table as an installation has it.

    Attributes:
        table: of the list above.
        tenant: SQL that tells the tenant's rows.
        moment: SQL of the cut-off ($2), to compare with the column of time.
        key: SQL of the row's key.
        key_is_uuid: whether that is a uuid.
    """

    table: Table
    tenant: str
    moment: str
    key: str
    key_is_uuid: bool

    def deletion(self, cutoff: datetime, protected: Sequence[str]) -> Deletion:
        """What of it is older than the cut-off and not protected."""
        table = self.table
        arguments = (cutoff, list(protected)) if table.tagged else (cutoff,)
        due = Due(f'm."{table.age}" < {self.moment} AND {table.condition}', arguments, table.name, self.tenant)
        audit, counter = Audit(table.data_class, "retention"), f"{table.data_class}/{table.name}"
        manner = Manner(again=Again.ALWAYS if table.again else Again.NEVER)
        return Deletion(due, audit, counter, manner, self.key, self.key_is_uuid, hung_on=table.hung_on)


async def find_tables(connection: Connection) -> tuple[list[Found], list[str]]:
    """The tables that are here and can be cleaned, and the names of those that are not here or have other columns.

    Raises:
        ConfigError: one is here, and this role may not see or delete its rows.
    """
    rows = await connection.fetch(_DESCRIBE, sorted({table.name for table in TABLES}))
    described = {row["name"]: row for row in rows}
    found, absent = [], []
    for table in TABLES:
        row = described.get(table.name)
        if row is None or not _fits(table, row["columns"]):
            absent.append(table.name)
        else:
            _demand_rights(row)
            found.append(_as_found(table, row))
    return found, sorted(set(absent))


def _fits(table: Table, columns: Mapping[str, str]) -> bool:
    return columns.get(table.age) in _TIMES and (not table.tenant or columns.get(table.tenant) in _TENANTS)


def _demand_rights(row: Record) -> None:
    if row["blind"] or not row["allowed"]:
        cause = "row-level security hides its rows from this role" if row["allowed"] else "this role may not delete from it"
        raise ConfigError(
            f"{row['name']} cannot be cleaned: {cause}",
            reason="RowSecurity" if row["allowed"] else "NotGranted",
            hint="run `rae-jobctl db migrate` as the tables' owner with RAE_JOB_ROLE set to the role of DATABASE_URL",
        )


def _as_found(table: Table, row: Record) -> Found:
    columns, key = row["columns"], row["key"] or []
    # A time without a zone is UTC, whatever the session's is; the column stays bare for an index.
    moment = "$2::timestamptz" if columns[table.age] == "timestamp with time zone" else "($2::timestamptz AT TIME ZONE 'UTC')"
    tenant = table.owner or f"m.{table.tenant} = $1::uuid" + ("" if columns[table.tenant] == "uuid" else "::text")
    if len(key) == 1:
        return Found(table, tenant, moment, f'm."{key[0]}"', columns[key[0]] == "uuid")
    # Several columns, or none: told together, or not at all.
    keys = ", ".join(f'm."{name}"' for name in key)
    return Found(table, tenant, moment, f"concat_ws('/', {keys})" if key else "''", False)
