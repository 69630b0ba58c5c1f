"""The ledger's connection for the subcommands of `runs`, and words that they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from rae_jobctl.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from rae_jobctl.db.history import RunRecord
    from rae_jobctl.db.pool import Connection

T = TypeVar("T")
COLOURS = {"finished": "green", "running": "cyan", "sliced": "yellow", "failed": "red", "died": "red"}
STATUSES = ("running", "died", "finished", "failed", "sliced", "cancelled", "dismissed")
RunArgument = Annotated[str, typer.Argument(help="Id of a run, or how it begins.", show_default=False)]


@asynccontextmanager
async def ledger() -> AsyncIterator[Connection]:
    """A connection to a database whose schema this image knows.

    Raises:
        TransientError, ConfigError: the database is away, or is not migrated.
    """
    from rae_jobctl.db.pool import connect
    from rae_jobctl.db.schema import require_schema
    from rae_jobctl.settings import DatabaseSettings

    async with connect(DatabaseSettings.from_env(), "runs") as connection:
        await require_schema(connection)
        yield connection


def read(look: Callable[[Connection], Awaitable[T]]) -> T:
    """What `look` finds in one read-only transaction."""

    async def looking() -> T:
        async with ledger() as connection, connection.transaction(readonly=True):
            return await look(connection)

    return asyncio.run(looking())


def change(work: Callable[[Connection], Awaitable[T]]) -> T:
    """What `work` returns; its transactions are its own."""

    async def working() -> T:
        async with ledger() as connection:
            return await work(connection)

    return asyncio.run(working())


def name_of(run: RunRecord) -> str:
    """A run in a sentence."""
    where = f"{run.tenant}, project {run.project}" if run.project else run.tenant
    return f"run {str(run.id)[:8]} ({run.task} of {where})"


def moment(text: str, option: str) -> datetime:
    """A day or an ISO 8601 time; without a zone it is UTC.

    Raises:
        UsageError: it is neither.
    """
    from datetime import UTC, datetime

    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text[:40]!r} is no date", hint=f"e.g. {option} 2026-11-24") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)
