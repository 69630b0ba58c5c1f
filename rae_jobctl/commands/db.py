"""`rae-jobctl db`: migrate the database, look at its state, open the history for extraction."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from rae_jobctl.commands.options import DryRunOption, Output, OutputOption
from rae_jobctl.errors import TransientError, UsageError

if TYPE_CHECKING:
    from rae_jobctl.db.backfill import Opened
    from rae_jobctl.db.pool import Connection
    from rae_jobctl.settings import DatabaseSettings

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Migrate the database, look at its state, open its history.")

#: A token of English text has about four characters.
_CHARACTERS_OF_A_TOKEN = 4
#: Tokens sent and received for each token of a memory, in batches of 20.
_PROMPT_FACTOR, _REPLY_FACTOR = 2.5, 1.5
_RETRY_SECONDS = 2.0


@app.command()
def migrate(
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the SQL of what is missing, for a DBA; change nothing.")
    ] = False,
    wait_database: Annotated[
        float, typer.Option("--wait-database", min=0, max=86400, help="Seconds to wait for the server and for RAE's tables.")
    ] = 0,
) -> None:
    """Bring the database to this image's schema; safe to run again, twice at once, or to kill.

    It runs as the owner of RAE's tables: RAE_MIGRATE_DATABASE_URL, or else what the tasks use. RAE_JOB_ROLE names the role that
    the tasks log in as, if that is another: it is granted what they need.
    """
    if print_only:
        asyncio.run(_print_missing())
        return
    applied = asyncio.run(_migrate_patiently(wait_database))
    typer.echo(f"applied {applied} migrations" if applied else "nothing to do: the database is current")


async def _migrate_patiently(seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await _migrate()
        except TransientError as error:
            if time.monotonic() + _RETRY_SECONDS > deadline:
                raise
            typer.echo(f"waiting: {error.message}", err=True)
            await asyncio.sleep(_RETRY_SECONDS)


async def _migrate() -> int:
    from rae_jobctl.db.grants import grant_to
    from rae_jobctl.db.migrate import migrate as apply

    def say(line: str) -> None:
        typer.echo(line, err=True)

    async with _owner_connection("db migrate") as connection:
        applied = await apply(connection, say=say)
        role = os.environ.get("RAE_JOB_ROLE", "").strip()
        if role:
            await grant_to(connection, role, say, patience=600.0)
    return len(applied)


async def _print_missing() -> None:
    from rae_jobctl.db.migrate import applied_versions, load_migrations, render

    async with _owner_connection("db migrate --print") as connection:
        applied = await applied_versions(connection)
    missing = [m for m in load_migrations() if m.version not in applied]
    typer.echo(render(missing) if missing else "-- nothing to do: the database is current")


@asynccontextmanager
async def _owner_connection(what: str) -> AsyncIterator[Connection]:
    from rae_jobctl.db.pool import connect

    async with connect(_owner_settings(), what) as connection:
        yield connection


def _owner_settings() -> DatabaseSettings:
    from rae_jobctl.settings import DatabaseSettings

    own = os.environ.get("RAE_MIGRATE_DATABASE_URL", "").strip()
    return DatabaseSettings.from_env({**os.environ, "RAE_DATABASE_DIRECT_URL": own} if own else None)


@app.command()
def status(output: OutputOption = Output.TABLE) -> None:
    """Show the schema version, what is missing, and what `db migrate` would do. Exit code 75 when it is behind."""
    current = asyncio.run(_status(output))
    if not current:
        raise typer.Exit(75)


async def _status(output: Output) -> bool:
    from dataclasses import asdict

    from rae_jobctl.db.status import database_state

    async with _owner_connection("db status") as connection:
        state = await database_state(connection)
    if output is Output.JSON:
        typer.echo(json.dumps({**asdict(state), "current": state.current}, default=str))
        return state.current
    typer.echo(f"PostgreSQL {state.server}; this image and the database {'agree' if state.current else 'do NOT agree'}")
    for migration in state.migrations:
        when = f"{migration.applied_at:%Y-%m-%d %H:%M} UTC" if migration.applied_at else "missing"
        typer.echo(f"  {migration.version:04} {migration.name:<24} {when}")
    for table in state.missing_tables:
        typer.echo(f"  RAE's table {table} is missing: alembic upgrade head")
    for index in state.invalid_indexes:
        typer.echo(f"  index {index} is unfinished: rae-jobctl db migrate")
    return state.current


@app.command("backfill-extraction")
def backfill_extraction(
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant, by UUID or by unique name.")],
    since: Annotated[str, typer.Option("--since", help="Memories created from this day on (ISO 8601, UTC).")],
    project: Annotated[str | None, typer.Option("--project", help="One project.", show_default="all")] = None,
    max_cost: Annotated[
        float | None,
        typer.Option("--max-cost", min=0, help="Stop where the estimate reaches so many USD.", show_default="no bound"),
    ] = None,
    dry_run: DryRunOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give memories from before the migration to the extraction queue, the newest first; --dry-run says what it costs."""
    begin = _moment(since)
    opened = asyncio.run(_backfill(tenant, project, begin, max_cost, dry_run))
    tokens, usd = _estimate(opened)
    if output is Output.JSON:
        body = {
            "memories": opened.memories,
            "tokens": tokens,
            "costUsd": usd,
            "stoppedByCost": opened.stopped_by_cost,
            "dryRun": dry_run,
        }
        typer.echo(json.dumps(body))
        return
    cost = "price unknown (RAE_LLM_PRICE_* sets it)" if usd is None else f"about {usd:.4f} USD"
    verb = "would open" if dry_run else "opened"
    end = "; stopped at --max-cost" if opened.stopped_by_cost else ""
    typer.echo(f"{verb} {opened.memories} memories, about {tokens} tokens, {cost}{end}")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text[:40]!r} is no date", hint="e.g. --since 2026-01-01") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def _backfill(tenant: str, project: str | None, since: datetime, max_cost: float | None, dry_run: bool) -> Opened:
    from rae_jobctl.db.backfill import Selection, open_history
    from rae_jobctl.db.pool import connect
    from rae_jobctl.db.schema import require_schema
    from rae_jobctl.db.tenants import resolve_tenant
    from rae_jobctl.settings import DatabaseSettings

    async with connect(DatabaseSettings.from_env(), "db backfill-extraction") as connection:
        await require_schema(connection)
        found = await resolve_tenant(connection, tenant)
        selection = Selection(found.id, project, since, _characters_for(max_cost))
        return await open_history(connection, selection, dry_run=dry_run)


def _price() -> tuple[float, float, float] | None:
    from rae_jobctl.llm.settings import LlmSettings

    return LlmSettings.from_env().price


def _usd_of_a_character(price: tuple[float, float, float]) -> float:
    return (_PROMPT_FACTOR * price[0] + _REPLY_FACTOR * price[2]) / 1e6 / _CHARACTERS_OF_A_TOKEN


def _characters_for(max_cost: float | None) -> int | None:
    if max_cost is None:
        return None
    price = _price()
    if price is None:
        raise UsageError("--max-cost needs a price, and none is known for this model", hint="set RAE_LLM_PRICE_*")
    cost = _usd_of_a_character(price)
    return int(max_cost / cost) if cost else None


def _estimate(opened: Opened) -> tuple[int, float | None]:
    tokens = round((_PROMPT_FACTOR + _REPLY_FACTOR) * opened.characters / _CHARACTERS_OF_A_TOKEN)
    price = _price()
    return tokens, None if price is None else round(opened.characters * _usd_of_a_character(price), 6)
