"""`rae-jobctl runs cancel` and `runs dismiss`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rae_jobctl.commands.options import Output, OutputOption
from rae_jobctl.commands.runs.ledger import RunArgument, change, moment, name_of
from rae_jobctl.errors import BadDataError, TransientError, UsageError

if TYPE_CHECKING:
    from rae_jobctl.db.history import Filter, RunRecord
    from rae_jobctl.db.pool import Connection

app = typer.Typer()
_SHOWN = 20


@app.command(epilog="Examples: rae-jobctl runs cancel 1f0c2a9b; rae-jobctl runs cancel 1f0c2a9b --wait-seconds 120")
def cancel(
    run: RunArgument,
    wait_seconds: Annotated[
        float, typer.Option("--wait-seconds", min=0, max=3600, help="How long to wait for a running one to stop.")
    ] = 30,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop a run, and keep later attempts from taking it up.

    A running one stops at its next batch and exits 65 (RunCancelled); what it
    committed before stays. One that failed or died is cancelled at once.
    `runs retry` runs it after all.
    """

    async def work(connection: Connection) -> tuple[RunRecord, RunRecord]:
        from rae_jobctl.db.control import cancel_run
        from rae_jobctl.db.history import find_run

        found = await find_run(connection, run)
        if found.status == "finished":
            raise BadDataError(f"{name_of(found)} has finished: there is nothing to cancel", reason="RunFinished")
        return found, await cancel_run(connection, found.id, wait_seconds)

    before, after = change(work)
    _tell_cancelled(before, after, wait_seconds, output)


def _tell_cancelled(before: RunRecord, after: RunRecord, waited: float, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps({"run": str(after.id), "before": before.status, "status": after.status}))
    if after.status == "finished":
        raise BadDataError(f"{name_of(after)} finished before it saw the request", reason="RunFinished")
    if after.status != "cancelled":
        raise TransientError(
            f"{name_of(after)} has been asked to stop and still is {after.status} after {waited:g} s",
            reason="RunStopping",
            hint=f"it stops at its next batch: rae-jobctl runs watch {str(after.id)[:8]}",
        )
    if output is Output.TABLE:
        was = "was cancelled before" if before.status == "cancelled" else f"is cancelled; it was {before.status}"
        typer.echo(f"{name_of(after)} {was}")


@app.command(
    epilog="Examples: rae-jobctl runs dismiss 1f0c2a9b; rae-jobctl runs dismiss --task decay --before 2026-11-01 --dry-run"
)
def dismiss(
    runs: Annotated[list[str] | None, typer.Argument(help="Ids of runs, or how they begin.", show_default=False)] = None,
    task: Annotated[str | None, typer.Option("--task", help="The dead letters of one task.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="The dead letters of one tenant, by UUID or name.")] = None,
    before: Annotated[str | None, typer.Option("--before", help="The dead letters of runs that started before, in UTC.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Lay dead letters aside: runs that failed or died and that nobody means to run again.

    A later attempt of the same occurrence may still run one; `runs cancel`
    prevents that too.
    """
    chosen = task is not None or tenant is not None or before is not None
    if bool(runs) == chosen:
        raise UsageError(
            "runs dismiss needs ids of runs, or --task, --tenant or --before, and not both",
            hint="e.g. rae-jobctl runs dismiss --task decay --before 2026-11-01",
        )
    started_before = moment(before, "--before") if before else None

    async def work(connection: Connection) -> list[RunRecord]:
        from rae_jobctl.db.history import Filter, find_run
        from rae_jobctl.db.tenants import resolve_tenant

        if runs:
            found = {one.id: one for one in [await find_run(connection, text) for text in runs]}
            return await _dismiss(connection, list(found.values()), dry_run)
        tenant_id = (await resolve_tenant(connection, tenant)).id if tenant else None
        return await _dismiss_dead(connection, Filter(task, tenant_id, before=started_before, dead=True), dry_run)

    _tell_dismissed(change(work), dry_run, output)


async def _dismiss(connection: Connection, runs: list[RunRecord], dry_run: bool) -> list[RunRecord]:
    from rae_jobctl.db.control import dismiss_runs, require_dismissible

    require_dismissible(runs)
    if dry_run:
        return [run for run in runs if run.status != "dismissed"]
    gone = set(await dismiss_runs(connection, runs))
    return [run for run in runs if run.id in gone]


async def _dismiss_dead(connection: Connection, wanted: Filter, dry_run: bool) -> list[RunRecord]:
    from dataclasses import replace

    from rae_jobctl.db.control import BATCH
    from rae_jobctl.db.history import list_runs

    dismissed: list[RunRecord] = []
    while True:
        dead = await list_runs(connection, replace(wanted, limit=BATCH))
        gone = await _dismiss(connection, dead, dry_run)
        dismissed += gone
        if dry_run or len(dead) < BATCH or not gone:
            return dismissed


def _tell_dismissed(runs: list[RunRecord], dry_run: bool, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps({"dismissed": [str(run.id) for run in runs], "dryRun": dry_run}))
        return
    verb = "would be" if dry_run else "is"
    for run in runs[:_SHOWN]:
        reason = f", {run.reason}" if run.reason else ""
        typer.echo(f"{name_of(run)} {verb} dismissed; it was {run.status}{reason}")
    if len(runs) > _SHOWN:
        typer.echo(f"… {len(runs) - _SHOWN} more")
    if not runs:
        typer.echo("nothing to dismiss")
