"""RAE's own tables on a database where RAE itself is not installed."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection


def rae_schema_sql() -> str:
    """The statements that create RAE's tables; safe to run again."""
    return files(__package__).joinpath("rae_schema.sql").read_text(encoding="utf-8")


def rae_row_level_security_sql() -> str:
    """The statements that secure RAE's tables by tenant, as some installations do; safe to run again."""
    return files(__package__).joinpath("rae_row_level_security.sql").read_text(encoding="utf-8")


async def create_rae_tables(connection: Connection) -> None:
    """Create what is missing of RAE's tables; what is there stays as it is."""
    async with connection.transaction():
        await connection.execute(rae_schema_sql())
