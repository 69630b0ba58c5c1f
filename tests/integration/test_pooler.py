"""Behind a real PgBouncer: in session mode a task works; in transaction mode it says so or works, and is never wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from rae_jobctl.dev.postgres import UNPRIVILEGED, free_port
from tests.cluster import packages
from tests.integration.memories import TENANT, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

BEFORE = date(2026, 11, 23)
SLOT = ("--slot", "2026-11-24T02:00+00:00")


@contextlib.contextmanager
def pgbouncer(url: str, mode: str, server_connections: int = 20) -> Iterator[str]:
    """The URL of the same database through a PgBouncer of the block's own; Debian's package is installed when it is missing."""
    packages.ensure({"pgbouncer": "pgbouncer"})
    folder = Path(tempfile.mkdtemp(prefix="rae-pgbouncer-"))
    parts, port = urlsplit(url), free_port()
    (folder / "users").write_text(f'"{parts.username}" "{parts.password}"\n', encoding="utf-8")
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": folder / "users",
        "pool_mode": mode,
        "default_pool_size": server_connections,
        "logfile": folder / "log",
    }
    body = "".join(f"{name} = {value}\n" for name, value in lines.items())
    target = f"host={parts.hostname} port={parts.port}"
    (folder / "pgbouncer.ini").write_text(f"[databases]\n* = {target}\n[pgbouncer]\n{body}", encoding="utf-8")
    command = [str(shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")), str(folder / "pgbouncer.ini")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **_identity(folder),  # type: ignore[call-overload]
    )
    try:
        _await_port(port, process, folder / "log")
        yield f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}{parts.path}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder)


def _identity(folder: Path) -> dict[str, object]:
    """PgBouncer refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(UNPRIVILEGED)
    for path in (folder, *folder.iterdir()):
        os.chown(path, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid}


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"PgBouncer did not start: {log.read_text() if log.exists() else 'it left no log'}")


async def _strengths(pool: Pool) -> set[float]:
    return {round(row["strength"], 9) for row in await pool.fetch("SELECT strength FROM memories")}


@pytest.fixture
async def due(pool: Pool) -> None:
    """Memories that are one day behind."""
    await add_tenant(pool)
    await add_memories(pool, 20, through=BEFORE)


@pytest.mark.usefixtures("due")
async def test_through_a_pooler_in_session_mode_decay_works(database_url: str, pool: Pool) -> None:
    with pgbouncer(database_url, "session") as url:
        ended = jobctl(url, "decay", "-o", "json", *SLOT)

    assert ended.code == 0, ended.errors
    assert ended.json["counters"]["decayed"] == 20
    assert await _strengths(pool) == {0.95}


@pytest.mark.usefixtures("due")
@pytest.mark.parametrize("server_connections", [1, 2, 20])
async def test_through_a_pooler_in_transaction_mode_it_works_or_asks_for_the_server_itself(
    database_url: str, pool: Pool, server_connections: int
) -> None:
    with pgbouncer(database_url, "transaction", server_connections) as url:
        ended = jobctl(url, "decay", "-o", "json", *SLOT, RAE_DATABASE_CONNECT_TIMEOUT="5")
        direct = jobctl(url, "decay", "-o", "json", *SLOT, RAE_DATABASE_DIRECT_URL=database_url)

    assert ended.code in (0, 78), ended.errors
    assert "Traceback" not in ended.errors
    if ended.code:
        assert ended.json["reason"] == "TransactionPooler"
        assert "RAE_DATABASE_DIRECT_URL" in ended.errors
    assert direct.code == 0, direct.errors
    assert await _strengths(pool) == {0.95}


@pytest.mark.usefixtures("due")
async def test_busy_neighbours_in_the_same_pool_never_make_a_day_count_twice(database_url: str, pool: Pool) -> None:
    """The pooler hands our session to others between our transactions: two runs at once and RAE's own traffic."""
    with pgbouncer(database_url, "transaction", 3) as url:
        end = asyncio.Event()
        traffic = [asyncio.create_task(_traffic(url, end)) for _ in range(4)]
        both = [asyncio.create_task(asyncio.to_thread(jobctl, url, "decay", "-o", "json", *SLOT)) for _ in range(2)]
        ends = [await one for one in both]
        end.set()
        await asyncio.gather(*traffic)

    for ended in ends:
        assert ended.code in (0, 75, 78), ended.errors
        assert "Traceback" not in ended.errors
    done = any(ended.code == 0 for ended in ends)
    assert await _strengths(pool) == ({0.95} if done else {1.0})
    held = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    assert await pool.fetchval(held) == 0, "a lock was left in a session of the pool"


async def _traffic(url: str, end: asyncio.Event) -> None:
    connection = await asyncpg.connect(url, statement_cache_size=0)
    while not end.is_set():
        async with connection.transaction():
            await connection.execute("UPDATE memories SET usage_count = usage_count + 1 WHERE tenant_id = $1", TENANT)
        await asyncio.sleep(0.002)
    await connection.close()
