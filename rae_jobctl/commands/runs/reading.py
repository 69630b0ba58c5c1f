"""`rae-jobctl runs list` and `runs show`: what has run, with results and errors."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rae_jobctl.commands.options import Output, OutputOption
from rae_jobctl.commands.runs.ledger import COLOURS, STATUSES, read
from rae_jobctl.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from rae_jobctl.db.history import RunRecord
    from rae_jobctl.db.pool import Connection

app = typer.Typer()


@app.command("list", epilog="Examples: rae-jobctl runs list --task decay; rae-jobctl runs list --dead -o json")
def list_(
    task: Annotated[str | None, typer.Option("--task", help="One task.", show_default="all")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="One tenant, by UUID or name.", show_default="all")] = None,
    status: Annotated[str | None, typer.Option("--status", help=f"One of {', '.join(STATUSES)}.", show_default="all")] = None,
    dead: Annotated[
        bool, typer.Option("--dead", help="Only what failed for good or was left lying for an hour, until retried or dismissed.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10000, help="At most so many, the newest first.")] = 20,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the newest runs."""
    if status is not None and status not in STATUSES:
        raise UsageError(f"--status {status[:40]!r} is none", hint=f"one of {', '.join(STATUSES)}")

    async def look(connection: Connection) -> tuple[list[RunRecord], int]:
        from rae_jobctl.db.history import Filter, count_dead, list_runs
        from rae_jobctl.db.tenants import resolve_tenant

        tenant_id = (await resolve_tenant(connection, tenant)).id if tenant else None
        wanted = Filter(task, tenant_id, status, dead=dead, limit=limit)
        counted = not dead and output is Output.TABLE
        return await list_runs(connection, wanted), await count_dead(connection, wanted) if counted else 0

    runs, dead_letters = read(look)
    if output is Output.JSON:
        typer.echo(json.dumps([_as_json(run) for run in runs], default=str))
        return
    if runs:
        _print(table(runs))
    else:
        typer.echo("no dead letters" if dead else "no runs")
    if dead_letters:
        letters = f"{dead_letters} dead letter{'s' if dead_letters > 1 else ''}"
        typer.echo(f"\n{typer.style(letters, fg='red')}: `rae-jobctl runs list --dead`")


@app.command(epilog="Examples: rae-jobctl runs show 1f0c2a9b; rae-jobctl runs show --request weekly -o json")
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

    found = read(look)
    if output is Output.JSON:
        typer.echo(json.dumps(_as_json(found), default=str, ensure_ascii=False))
    else:
        _details(found)


def _as_json(run: RunRecord) -> dict[str, Any]:
    return {**asdict(run), "result_expired": run.result_expired}


def table(runs: list[RunRecord]) -> Table:
    """Runs for a person, a line each."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("RUN", "TASK", "TENANT", "PROJECT", "STATUS", "REASON", "TRY", "STARTED", "TOOK", "SLOT"):
        made.add_column(title, no_wrap=title in ("RUN", "TASK", "STATUS", "STARTED", "TOOK"), overflow="ellipsis")
    for run in runs:
        state = Text(run.status, style=COLOURS.get(run.status, ""))
        about = (str(run.id)[:8], run.task, run.tenant, run.project or "-", state, run.reason or "-", str(run.attempt))
        made.add_row(*about, f"{run.started_at:%m-%d %H:%M:%S}", _took(run), run.slot)
    return made


def _print(made: Table) -> None:
    from rich.console import Console

    console = Console()
    # A pipe has no width: nothing may be cut off there.
    Console(width=None if console.is_terminal else 240).print(made)


def _took(run: RunRecord) -> str:
    end = run.finished_at or (datetime.now(UTC) if run.status == "running" else None)
    return f"{(end - run.started_at).total_seconds():.1f}s" if end else "-"


def _details(run: RunRecord) -> None:
    shown = {**asdict(run), "command": f"rae-jobctl {shlex.join(run.command)}" if run.command else None}
    if run.result_expired:
        shown["result"] = "the result has expired"
    for name, value in shown.items():
        if value in (None, "", {}, False):
            continue
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str) if isinstance(value, dict) else str(value)
        if name == "status":
            text = typer.style(text, fg=COLOURS.get(text))
        separator = "\n" if "\n" in text else " "
        typer.echo(f"{typer.style(name + ':', bold=True)}{separator}{text}")
