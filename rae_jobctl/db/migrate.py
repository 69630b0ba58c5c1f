"""Forward-only migrations: numbered SQL files, applied once each, safe to kill anywhere and to run again or twice at once.

A file's header says how it is applied:

- `mode: transaction` in one transaction with its row in `schema_migrations`;
- `mode: locking` each step in a short transaction under a short lock_timeout, tried again, because whoever comes after a
  waiting ALTER waits as well;
- `mode: concurrent` each step outside a transaction (CREATE INDEX CONCURRENTLY), an invalid leftover dropped first.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal

import asyncpg

from rae_jobctl import __version__
from rae_jobctl.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

#: RAE's tables that the tasks work on; without them there is nothing to migrate.
RAE_TABLES = ("memories", "memory_embeddings", "knowledge_graph_nodes", "knowledge_graph_edges", "reflections", "tenants")
#: How long an ALTER waits for its lock, and so how long others wait behind it.
LOCK_TIMEOUT_MS = 1000
_RETRY_SECONDS = (1.0, 4.0)
_LOCK = "rae_jobs.migrate"

_SCHEMA_OF_RAE = """
SELECT n.nspname
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('memories')
"""

Mode = Literal["transaction", "locking", "concurrent"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Migration:
    """One file of `migrations/`.

    Attributes:
        version: the number that its name begins with.
        name: the rest of the file's name.
        mode: how it is applied.
        needs_image: the least schema version that an image must know to work on a database that has this.
        sql: the whole text.
        checksum: SHA-256 of the text.
    """

    version: int
    name: str
    mode: Mode
    needs_image: int
    sql: str
    checksum: str

    @property
    def steps(self) -> list[str]:
        """The statements of a locking or concurrent migration, one a step."""
        return [part.partition("\n")[2].strip() for part in self.sql.split("-- step:")[1:]]


def load_migrations() -> list[Migration]:
    """All migrations of this image, in order."""
    folder = resources.files("rae_jobctl.db") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [_parse(name, (folder / name).read_text(encoding="utf-8")) for name in names]


def _parse(filename: str, sql: str) -> Migration:
    mode = re.search(r"^-- mode: (transaction|locking|concurrent)$", sql, re.MULTILINE)
    needs = re.search(r"^-- needs-image: (\d+)$", sql, re.MULTILINE)
    if mode is None or needs is None:
        raise ValueError(f"{filename} lacks its mode or needs-image line")
    return Migration(
        version=int(filename[:4]),
        name=filename[5:-4],
        mode=mode[1],  # type: ignore[arg-type]
        needs_image=int(needs[1]),
        sql=sql,
        checksum=hashlib.sha256(sql.encode()).hexdigest(),
    )


def render(migrations: list[Migration], rae_schema: str = "public") -> str:
    """The SQL as a DBA may read it or run it with psql."""
    parts = [f"-- {m.version:04} {m.name}\n{m.sql.replace('@rae_schema@', quote_identifier(rae_schema))}" for m in migrations]
    return "\n".join(parts)


def quote_identifier(name: str) -> str:
    """A name quoted for SQL, for the places that take no parameter."""
    return '"' + name.replace('"', '""') + '"'


async def applied_versions(connection: Connection) -> dict[int, str]:
    """Version and checksum of what the database has."""
    if not await connection.fetchval("SELECT to_regclass('rae_jobs.schema_migrations') IS NOT NULL"):
        return {}
    rows = await connection.fetch("SELECT version, checksum FROM rae_jobs.schema_migrations")
    return {row["version"]: row["checksum"] for row in rows}


async def migrate(connection: Connection, *, say: Say, patience: float = 600.0) -> list[Migration]:
    """Apply what is missing and return it.

    Args:
        connection: of the tables' owner, in no transaction.
        say: told each step in one line.
        patience: seconds to go on trying for the migration lock and for a lock on a table of RAE.

    Raises:
        TransientError: RAE's tables are not there yet, or a lock was not to be had.
        ConfigError: the role does not own RAE's tables, or an applied migration differs from this image's.
    """
    await _check_tables(connection)
    await _take_turn(connection, say, patience)
    try:
        return await _apply_missing(connection, say, patience)
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", _LOCK)


async def _check_tables(connection: Connection) -> None:
    rows = await connection.fetch(
        "SELECT name, to_regclass(name) AS oid, "
        "(SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = to_regclass(name)) AS owned "
        "FROM unnest($1::text[]) AS name",
        list(RAE_TABLES),
    )
    missing = [row["name"] for row in rows if row["oid"] is None]
    if missing:
        raise TransientError(
            f"RAE's tables are not there yet: {', '.join(missing)}",
            reason="TablesMissing",
            hint="let RAE create its tables (alembic upgrade head) in this database first; "
            "if they are in another schema, add options=-csearch_path%3D<schema> to the URL",
        )
    foreign = [row["name"] for row in rows if not row["owned"]]
    if foreign:
        raise ConfigError(
            f"this role does not own {', '.join(foreign)}",
            reason="NotOwner",
            hint="set RAE_MIGRATE_DATABASE_URL to a role that owns RAE's tables",
        )


async def _take_turn(connection: Connection, say: Say, patience: float) -> None:
    # Polled, because a session that waits inside pg_advisory_lock holds a snapshot, and CREATE INDEX CONCURRENTLY of the one
    # that works would wait for it: a deadlock.
    deadline = time.monotonic() + patience
    told = False
    while not await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", _LOCK):
        if not told:
            say("another migration is at work; waiting for it")
            told = True
        if time.monotonic() >= deadline:
            raise TransientError(f"another migration has been at work for {patience:.0f} s", reason="MigrationLocked")
        await asyncio.sleep(0.2)


async def _apply_missing(connection: Connection, say: Say, patience: float) -> list[Migration]:
    migrations = load_migrations()
    applied = await applied_versions(connection)
    _check_history(migrations, applied)
    schema = await connection.fetchval(_SCHEMA_OF_RAE)
    missing = [migration for migration in migrations if migration.version not in applied]
    for migration in missing:
        say(f"{migration.version:04} {migration.name}")
        await _apply(connection, migration, quote_identifier(schema), say, patience)
    return missing


def _check_history(migrations: list[Migration], applied: dict[int, str]) -> None:
    for migration in migrations:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise ConfigError(
                f"migration {migration.version:04} of this database differs from this image's",
                reason="SchemaDiffers",
                hint="use the image that made it, or a later release",
            )


async def _apply(connection: Connection, migration: Migration, schema: str, say: Say, patience: float) -> None:
    if migration.mode == "transaction":
        async with connection.transaction():
            await connection.execute(migration.sql.replace("@rae_schema@", schema))
            await _record(connection, migration)
        return
    for step in migration.steps:
        if migration.mode == "locking":
            await under_short_lock(connection, step, say, patience)
        else:
            await _build_index(connection, step, say)
    await _record(connection, migration)


async def _record(connection: Connection, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO rae_jobs.schema_migrations (version, name, checksum, needs_image, image) VALUES ($1, $2, $3, $4, $5)",
        migration.version,
        migration.name,
        migration.checksum,
        migration.needs_image,
        __version__,
    )


async def under_short_lock(connection: Connection, sql: str, say: Say, patience: float) -> None:
    """Run DDL on a busy table: a short wait for the lock, then out of the others' way, and again.

    Raises:
        TransientError: no luck within `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                await connection.execute(sql)
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if time.monotonic() >= deadline:
                raise TransientError(
                    f"a table of RAE was in use for all of {patience:.0f} s, so it could not be altered",
                    reason="TableBusy",
                    hint="end long transactions (pg_stat_activity, oldest xact_start), then run it again",
                ) from None
            say("  the table is in use; trying again")
            await asyncio.sleep(random.uniform(*_RETRY_SECONDS))  # noqa: S311 - jitter


async def _build_index(connection: Connection, sql: str, say: Say) -> None:
    found = re.search(r"CREATE INDEX CONCURRENTLY IF NOT EXISTS (\w+)", sql)
    if found is None:
        raise ValueError("a step of a concurrent migration is one CREATE INDEX CONCURRENTLY IF NOT EXISTS")
    name = found[1]
    valid = await connection.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", name)
    if valid is False:
        # Left by a build that was killed: it costs every write and serves no read.
        say(f"  dropping the unfinished index {name}")
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quote_identifier(name)}")
    if not valid:
        say(f"  building index {name}")
        await connection.execute(sql)
