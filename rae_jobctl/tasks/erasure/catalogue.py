"""The tables that this installation has, with those of their columns that may hold text or the id of a memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rae_jobctl.errors import ConfigError
from rae_jobctl.tasks.erasure.rules import JOBS_RULES, JOBS_SCHEMA, ORDER, PERSON, RAE_RULES, Action, Rule

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

# Ordinary tables, and the partitions of those that are partitioned under their parent's name. A domain counts as what it is made
# of, but for `vector`, which stands in for pgvector's type.
_TABLES = """
SELECT n.nspname AS schema,
       c.relname AS relation,
       coalesce(root.relname, c.relname) AS name,
       has_table_privilege(c.oid, 'SELECT') AS readable,
       c.relrowsecurity AND NOT pg_has_role(c.relowner, 'USAGE') AND NOT EXISTS (
           SELECT FROM pg_policy AS p
           WHERE p.polrelid = c.oid
             AND (p.polroles @> ARRAY[0::oid] OR EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE pg_has_role(r, 'USAGE')))
       ) AND NOT (SELECT rolbypassrls FROM pg_roles WHERE rolname = current_user) AS hidden,
       (
           SELECT json_agg(json_build_object(
               'name', a.attname,
               'type', format_type(a.atttypid, a.atttypmod),
               'base', CASE
                   WHEN t.typname = 'vector' THEN 'vector'
                   ELSE format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL)
               END,
               'required', a.attnotnull,
               'generated', a.attgenerated <> '',
               'key', coalesce(a.attnum = ANY (i.indkey), false)
           ) ORDER BY a.attnum)
           FROM pg_attribute AS a
           JOIN pg_type AS t ON t.oid = a.atttypid
           LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       ) AS columns
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_class AS root ON root.oid = pg_partition_root(c.oid)
WHERE c.relkind = 'r'
  AND n.nspname IN ((SELECT m.relnamespace::regnamespace::text FROM pg_class AS m WHERE m.oid = to_regclass('memories')), $1)
ORDER BY n.nspname, c.relname
"""

_BY_MEMORY = "memory_id"
#: Tables without a column tenant_id whose rows are a tenant's all the same.
_OWNERS = {"tenants": "id", "memory_embeddings": _BY_MEMORY}
_TEXT = frozenset({"text", "character varying", "character", "name", "citext"})
_KINDS = {"text[]": "texts", "character varying[]": "texts", "jsonb": "json", "json": "json", "uuid": "uuid", "uuid[]": "uuids"}


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        type: as PostgreSQL writes it, for a cast.
        kind: "text", "texts" (an array), "json", "uuid", "uuids", or "other".
        required: NOT NULL.
        generated: computed; it cannot be written.
        key: part of the primary key.
    """

    name: str
    type: str
    kind: str
    required: bool = False
    generated: bool = False
    key: bool = False

    @property
    def quoted(self) -> str:
        return quoted(self.name)

    @property
    def searchable(self) -> bool:
        """Whether it may hold a person's name."""
        return self.kind in ("text", "texts", "json") or (self.kind == "uuid" and self.name in PERSON)


@dataclass(frozen=True)
class Table:
    """A table with a tenant.

    Attributes:
        name: of the table, or of the partitioned table that it is part of.
        relation: schema and name, quoted.
        rule: None for a table that the map does not have.
        tenant: the column that says whose a row is: the tenant's, or the memory's where a row belongs to a memory.
        visible: whether our role may see its rows.
    """

    name: str
    relation: str
    rule: Rule | None
    tenant: Column
    columns: tuple[Column, ...]
    visible: bool = True

    def owned(self, number: int) -> str:
        """SQL: whether a row is that of the tenant in parameter `number`."""
        if self.tenant.name == _BY_MEMORY:
            # A sub-select per row, for a join might be planned over all memories.
            return f"(SELECT m.tenant_id FROM memories AS m WHERE m.id = {self.tenant.quoted}) = ${number}"  # noqa: S608 - a quoted name
        return f"{self.tenant.quoted} = ${number}"

    def column(self, name: str) -> Column | None:
        """The column of this name, if the table has it."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def searched(self) -> tuple[Column, ...]:
        """The columns in which the person is looked for."""
        skip = self.rule.skip if self.rule else ()
        return tuple(c for c in self.columns if c.searchable and c.name not in skip and c.name != self.tenant.name)

    @property
    def key(self) -> tuple[Column, ...]:
        """The primary key; empty where there is none."""
        return tuple(column for column in self.columns if column.key)

    @property
    def changes(self) -> bool:
        """Whether a row that names the person is changed or deleted, rather than reported."""
        return self.rule is not None and self.rule.action is not Action.REPORT


@dataclass(frozen=True)
class Catalogue:
    """What an erasure goes through.

    Attributes:
        tables: those of the map first, in its order.
        missing: tables of the map that this installation lacks.
        memory_embeddings: that table, which has no tenant of its own: its rows belong to a memory.
    """

    tables: tuple[Table, ...]
    missing: tuple[str, ...]
    memory_embeddings: str | None = None


def quoted(name: str) -> str:
    """An identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


async def read_catalogue(connection: Connection) -> Catalogue:
    """Look the tables up.

    Raises:
        ConfigError: there is no table memories, or the database is not in UTF-8.
    """
    if await connection.fetchval("SELECT current_setting('server_encoding')") != "UTF8":
        raise ConfigError("the database is not encoded in UTF-8, and a name cannot be found in it reliably")
    rows = [dict(row) for row in await connection.fetch(_TABLES, JOBS_SCHEMA)]
    if not any(row["name"] == "memories" for row in rows):
        raise ConfigError("the database has no table memories", hint="is DATABASE_URL that of RAE's database?")
    found = [table for table in map(_table, rows) if table is not None]
    names = {table.name for table in found}
    order = {name: number for number, name in reversed(list(enumerate(ORDER)))}
    tables = sorted(found, key=lambda table: (order.get(table.name, len(ORDER)), table.relation))
    embeddings = next((row for row in rows if row["name"] == "memory_embeddings" and row["schema"] != JOBS_SCHEMA), None)
    return Catalogue(
        tuple(tables),
        tuple(rule.table for rule in RAE_RULES if rule.table not in names),
        _relation(embeddings) if embeddings else None,
    )


def _relation(row: dict[str, str]) -> str:
    return f"{quoted(row['schema'])}.{quoted(row['relation'])}"


def _table(row: dict[str, object]) -> Table | None:
    columns = tuple(map(_column, row["columns"] or ()))  # type: ignore[call-overload]
    wanted = _OWNERS.get(str(row["name"]), "tenant_id") if row["schema"] != JOBS_SCHEMA else "tenant_id"
    tenant = next((column for column in columns if column.name == wanted), None)
    if tenant is None:
        return None
    rules = JOBS_RULES if row["schema"] == JOBS_SCHEMA else RAE_RULES
    rule = next((rule for rule in rules if rule.table == row["name"]), None)
    about = {"schema": str(row["schema"]), "relation": str(row["relation"])}
    return Table(str(row["name"]), _relation(about), rule, tenant, columns, bool(row["readable"]) and not row["hidden"])


def _column(item: dict[str, object]) -> Column:
    base = str(item["base"])
    kind = "text" if base in _TEXT else _KINDS.get(base, "other")
    return Column(str(item["name"]), str(item["type"]), kind, bool(item["required"]), bool(item["generated"]), bool(item["key"]))
