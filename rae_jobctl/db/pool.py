"""The connection pool of one process, and transactions that are bound to one tenant."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from rae_jobctl.db.errors import connecting, working
from rae_jobctl.settings import DatabaseSettings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Record = asyncpg.Record
    Pool = asyncpg.Pool[Record]
    Connection = asyncpg.Connection[Record] | PoolConnectionProxy[Record]

_CLOSE_SECONDS = 5.0
#: A dead peer is noticed after 10 + 3 * 5 s on either side, so that a rival need not wait for the kernel's two hours.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}


@asynccontextmanager
async def open_pool(settings: DatabaseSettings, task: str) -> AsyncIterator[Pool]:
    """A pool whose connections read and write jsonb as Python objects.

    Args:
        settings: where the server is.
        task: subcommand name, seen by a DBA in pg_stat_activity as `rae-jobctl <task>`.

    Raises:
        TransientError, ConfigError: as `connecting` and `working` say, also for what the block raises.
    """
    with connecting(settings.where):
        pool = await asyncpg.create_pool(
            settings.dsn,
            min_size=1,
            max_size=max(2, settings.pool_size),
            timeout=settings.connect_timeout,
            init=_prepare,
            server_settings={"application_name": f"rae-jobctl {task}"[:63]},
        )
    try:
        with working(settings.where):
            yield pool
    finally:
        await _close(pool)


async def _close(pool: Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), _CLOSE_SECONDS)
    except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        pool.terminate()


@asynccontextmanager
async def connect(settings: DatabaseSettings, task: str) -> AsyncIterator[Connection]:
    """One connection without a pool, for work that needs no second one.

    Raises:
        TransientError, ConfigError: as `open_pool`.
    """
    with connecting(settings.where):
        connection = await asyncpg.connect(
            settings.dsn,
            timeout=settings.connect_timeout,
            server_settings={"application_name": f"rae-jobctl {task}"[:63]},
        )
    try:
        with working(settings.where):
            await _prepare(connection)
            yield connection
    finally:
        try:
            await connection.close(timeout=_CLOSE_SECONDS)
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            connection.terminate()


async def _prepare(connection: Connection) -> None:
    _keep_alive(connection)
    for name in ("jsonb", "json"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=_encode, decoder=json.loads)


def _encode(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def _keep_alive(connection: Connection) -> None:
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def bind_tenant(connection: Connection, tenant_id: UUID) -> None:
    """Set both of RAE's row-level security settings for the current transaction."""
    await connection.execute(
        "SELECT set_config('app.current_tenant_id', $1, true), set_config('app.current_tenant', $1, true)", str(tenant_id)
    )


@asynccontextmanager
async def tenant_transaction(connection: Connection, tenant_id: UUID, *, readonly: bool = False) -> AsyncIterator[Connection]:
    """A transaction in which row-level security shows this tenant's rows.

    Args:
        connection: a free connection.
        tenant_id: whose rows.
        readonly: READ ONLY, which never gets a transaction id.
    """
    async with connection.transaction(readonly=readonly):
        await bind_tenant(connection, tenant_id)
        yield connection
