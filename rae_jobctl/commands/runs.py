"""`rae-jobctl runs`: what has run, with results and errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from rae_jobctl.commands.options import Output, OutputOption
from rae_jobctl.errors import UsageError

if TYPE_CHECKING:
    from rae_jobctl.db.history import RunRecord
    from rae_jobctl.db.pool import Connection

T = TypeVar("T")
app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="What has run, with results and errors; kept beyond Jobs and requests."
)

_COLOURS = {"finished": "green", "running": "cyan", "sliced": "yellow", "failed": "red", "died": "red"}
_STATUSES = ("running", "died", "finished", "failed", "sliced", "cancelled", "dismissed")


@app.command("list")
def list_(
    task: Annotated[str | None, typer.Option("--task", help="One task.", show_default="all")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="One tenant, by UUID or name.", show_default="all")] = None,
    status: Annotated[str | None, typer.Option("--status", help=f"One of {', '.join(_STATUSES)}.", show_default="all")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10000, help="At most so many, the newest first.")] = 20,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the newest runs."""
    if status is not None and status not in _STATUSES:
        raise UsageError(f"--status {status!r} is none", hint=f"one of {', '.join(_STATUSES)}")

    async def look(connection: Connection) -> list[RunRecord]:
        from rae_jobctl.db.history import Filter, list_runs
        from rae_jobctl.db.tenants import resolve_tenant

        tenant_id = (await resolve_tenant(connection, tenant)).id if tenant else None
        return await list_runs(connection, Filter(task, tenant_id, status, limit))

    runs = _read(look)
    if output is Output.JSON:
        typer.echo(json.dumps([_as_json(run) for run in runs], default=str))
    elif not runs:
        typer.echo("no runs")
    else:
        _table(runs)


@app.command()
def show(
    run: Annotated[str | None, typer.Argument(help="Id of a run, or how it begins.", show_default=False)] = None,
    request: Annotated[str | None, typer.Option("--request", help="The newest run of a request, by its uid or name.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one run whole: arguments, attempts, counters, result, error."""
    if (run is None) == (request is None):
        raise UsageError("runs show needs the id of a run, or --request, and not both")

    async def look(connection: Connection) -> RunRecord:
        from rae_jobctl.db.history import find_run, runs_of_request

        if request is not None:
            return (await runs_of_request(connection, request, 1))[0]
        return await find_run(connection, run or "")

    found = _read(look)
    if output is Output.JSON:
        typer.echo(json.dumps(_as_json(found), default=str, ensure_ascii=False))
    else:
        _details(found)


def _read(look: Callable[[Connection], Awaitable[T]]) -> T:
    return asyncio.run(_connected(look))


async def _connected(look: Callable[[Connection], Awaitable[T]]) -> T:
    from rae_jobctl.db.pool import connect
    from rae_jobctl.db.schema import require_schema
    from rae_jobctl.settings import DatabaseSettings

    async with connect(DatabaseSettings.from_env(), "runs") as connection:
        await require_schema(connection)
        async with connection.transaction(readonly=True):
            return await look(connection)


def _as_json(run: RunRecord) -> dict[str, object]:
    return asdict(run)


def _table(runs: list[RunRecord]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("RUN", "TASK", "TENANT", "PROJECT", "STATUS", "REASON", "TRY", "STARTED", "TOOK", "SLOT"):
        table.add_column(title, no_wrap=title in ("RUN", "TASK", "STATUS", "STARTED", "TOOK"), overflow="ellipsis")
    for run in runs:
        state = Text(run.status, style=_COLOURS.get(run.status, ""))
        about = (str(run.id)[:8], run.task, run.tenant, run.project or "-", state, run.reason or "-", str(run.attempt))
        table.add_row(*about, f"{run.started_at:%m-%d %H:%M:%S}", _took(run), run.slot)
    console = Console()
    # A pipe has no width: nothing may be cut off there.
    Console(width=None if console.is_terminal else 240).print(table)


def _took(run: RunRecord) -> str:
    end = run.finished_at or (datetime.now(UTC) if run.status == "running" else None)
    return f"{(end - run.started_at).total_seconds():.1f}s" if end else "-"


def _details(run: RunRecord) -> None:
    for name, value in asdict(run).items():
        if value in (None, "", {}):
            continue
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str) if isinstance(value, dict) else str(value)
        if name == "status":
            text = typer.style(text, fg=_COLOURS.get(text))
        separator = "\n" if "\n" in text else " "
        typer.echo(f"{typer.style(name + ':', bold=True)}{separator}{text}")
