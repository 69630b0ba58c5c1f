"""Whether the database fits this image: its schema version and the right to see rows at all."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from rae_jobctl.errors import ConfigError, SchemaBehind

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

_HINT = "run `rae-jobctl db migrate` (the chart's hook does it at install and upgrade)"

_VERSIONS = """
SELECT coalesce(max(version), 0) AS version, coalesce(max(needs_image), 0) AS needs_image
FROM rae_jobs.schema_migrations
"""

# Row-level security binds us (we are neither owner nor exempt), yet no policy is meant for our role: every query would be
# empty, and "nothing to do" would be a lie.
_BLIND = """
SELECT row_security_active(c.oid) AND NOT EXISTS (
    SELECT FROM pg_policy AS p
    WHERE p.polrelid = c.oid
      AND (p.polroles @> ARRAY[0::oid] OR EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE pg_has_role(r, 'USAGE')))
)
FROM pg_class AS c
WHERE c.oid = to_regclass('memories')
"""


def latest_version() -> int:
    """The schema version that this image brings: the number of its last migration."""
    folder = resources.files("rae_jobctl.db") / "migrations"
    return max(int(entry.name[:4]) for entry in folder.iterdir() if entry.name.endswith(".sql"))


async def require_schema(connection: Connection) -> None:
    """Let a task go on only where its SQL fits.

    Raises:
        SchemaBehind: not migrated yet, or migrated by an older image.
        ConfigError: a newer image made a change that this one does not bear, or row-level security hides everything from us.
    """
    if not await connection.fetchval("SELECT to_regclass('rae_jobs.schema_migrations') IS NOT NULL"):
        raise SchemaBehind("the database has no schema rae_jobs yet", hint=_HINT)
    row = await connection.fetchrow(_VERSIONS)
    assert row is not None
    mine = latest_version()
    if row["version"] < mine:
        raise SchemaBehind(f"the database is at schema version {row['version']}, this image needs {mine}", hint=_HINT)
    if row["needs_image"] > mine:
        raise ConfigError(
            f"schema version {row['version']} of the database needs an image that knows version {row['needs_image']}, "
            f"and this one knows {mine}",
            reason="SchemaTooNew",
            hint="use the newer image",
        )
    if await connection.fetchval(_BLIND):
        raise ConfigError(
            "row-level security on memories hides every row from this role: no policy is meant for it",
            reason="RowSecurity",
            hint="run `rae-jobctl db migrate` as the tables' owner with RAE_JOB_ROLE set to the role of DATABASE_URL",
        )
