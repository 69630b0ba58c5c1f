"""A migrated database on a server of its own, at PostgreSQL's default settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rae_jobctl.db.migrate import migrate
from rae_jobctl.db.pool import connect
from rae_jobctl.dev.postgres import throwaway_postgres
from rae_jobctl.dev.schema import create_rae_tables
from rae_jobctl.settings import DatabaseSettings


@contextmanager
def migrated_database() -> Iterator[str]:
    """The URL of a database with RAE's tables and ours, both empty."""
    with throwaway_postgres(settings={}) as server:
        server.ensure_database()
        asyncio.run(_prepare(server.url()))
        yield server.url()


async def _prepare(url: str) -> None:
    async with connect(DatabaseSettings(url), "bench") as connection:
        await create_rae_tables(connection)
        await migrate(connection, say=lambda line: None)
