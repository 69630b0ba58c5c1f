"""Pytest fixtures on a real PostgreSQL: one server a test run, a fresh migrated database a test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from rae_jobctl.db.migrate import migrate
from rae_jobctl.db.pool import connect, open_pool
from rae_jobctl.dev.postgres import PostgresServer, debian_programs, throwaway_postgres
from rae_jobctl.dev.schema import create_rae_tables
from rae_jobctl.dev.valkey import ValkeyServer, throwaway_valkey
from rae_jobctl.settings import DatabaseSettings
from tests.cluster import packages

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

#: "15" tests on Debian's PostgreSQL 15 instead of the wheel's newest.
VERSION = "RAE_TEST_POSTGRES"
_TEMPLATES = {"migrated": "rae_migrated", "unmigrated": "rae_unmigrated"}


def debian_15() -> Path:
    """Debian's PostgreSQL 15, which has no pgvector; installed when it is missing."""
    packages.ensure({"postgresql-15": "/usr/lib/postgresql/15/bin/initdb"})
    return debian_programs("15")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server of the run's own, with two template databases: RAE's tables, and those migrated."""
    with throwaway_postgres(debian_15() if os.environ.get(VERSION) == "15" else None) as server:
        for name in _TEMPLATES.values():
            server.ensure_database(name)
        asyncio.run(_fill_templates(server))
        yield server


async def _fill_templates(server: PostgresServer) -> None:
    for kind, name in _TEMPLATES.items():
        async with connect(DatabaseSettings(server.url(name)), "test") as connection:
            await create_rae_tables(connection)
            if kind == "migrated":
                await migrate(connection, say=lambda line: None)


@pytest.fixture
async def database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """URL of a fresh database with RAE's tables and ours."""
    async for url in _fresh(postgres_server, _TEMPLATES["migrated"]):
        yield url


@pytest.fixture
async def unmigrated_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """URL of a fresh database with RAE's tables alone."""
    async for url in _fresh(postgres_server, _TEMPLATES["unmigrated"]):
        yield url


async def _fresh(server: PostgresServer, template: str) -> AsyncIterator[str]:
    name = f"rae_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(server.url("postgres"))
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield server.url(name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool on the fresh database, as a task opens it."""
    async with open_pool(DatabaseSettings(database_url, pool_size=8), "test") as opened:
        yield opened


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A Valkey server of the run's own."""
    with throwaway_valkey() as server:
        yield server
