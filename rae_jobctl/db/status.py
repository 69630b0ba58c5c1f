"""What a database has of this project, as `rae-jobctl db status` tells it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rae_jobctl.db.migrate import RAE_TABLES, load_migrations

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

_INDEXES = """
SELECT c.relname AS name, i.indisvalid AS valid
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relname LIKE 'rae\\_jobs\\_%'
ORDER BY c.relname
"""


@dataclass(frozen=True)
class MigrationState:
    """A migration of this image or of the database."""

    version: int
    name: str
    applied_at: datetime | None


@dataclass(frozen=True)
class DatabaseState:
    """Everything at a glance.

    Attributes:
        server: PostgreSQL's version.
        missing_tables: RAE's tables that are not there.
        migrations: of this image, and any newer ones that the database has.
        invalid_indexes: left by a build that was killed; `db migrate` mends them.
    """

    server: str
    missing_tables: tuple[str, ...]
    migrations: tuple[MigrationState, ...]
    invalid_indexes: tuple[str, ...]

    @property
    def current(self) -> bool:
        """Whether tasks of this image can work on it."""
        return not self.missing_tables and all(m.applied_at for m in self.migrations) and not self.invalid_indexes


async def database_state(connection: Connection) -> DatabaseState:
    """Look, and write nothing."""
    rows = await connection.fetch("SELECT t FROM unnest($1::text[]) AS t WHERE to_regclass(t) IS NULL", list(RAE_TABLES))
    indexes = await connection.fetch(_INDEXES)
    return DatabaseState(
        server=await connection.fetchval("SHOW server_version"),
        missing_tables=tuple(row["t"] for row in rows),
        migrations=await _migrations(connection),
        invalid_indexes=tuple(row["name"] for row in indexes if not row["valid"]),
    )


async def _migrations(connection: Connection) -> tuple[MigrationState, ...]:
    states = {m.version: MigrationState(m.version, m.name, None) for m in load_migrations()}
    if await connection.fetchval("SELECT to_regclass('rae_jobs.schema_migrations') IS NOT NULL"):
        for row in await connection.fetch("SELECT version, name, applied_at FROM rae_jobs.schema_migrations"):
            states[row["version"]] = MigrationState(row["version"], row["name"], row["applied_at"])
    return tuple(states[version] for version in sorted(states))
