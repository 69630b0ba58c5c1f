"""`rae-jobctl pause`: keep the scheduling tasks from making requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rae_jobctl.commands.options import Output, OutputOption, TenantOption
from rae_jobctl.commands.pausing import ProjectOption, check_reach, pause_as_json, reach_of, since, with_connection
from rae_jobctl.errors import UsageError

if TYPE_CHECKING:
    from rae_jobctl.commands.pausing import Reach
    from rae_jobctl.db.pauses import Pause
    from rae_jobctl.db.pool import Connection

_HELP = "Make no new requests, until `resume`; those that were made before go on."
app = typer.Typer(add_completion=False, no_args_is_help=True, help=_HELP)
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; shown by `pause list` and in the task's outcome.")]
_LONGEST_REASON = 500


@app.command(epilog="Example: rae-jobctl pause queue --tenant demo-tenant --reason 'the budget of November is spent'")
def queue(
    tenant: TenantOption = None, project: ProjectOption = None, reason: ReasonOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Make no requests for graph extraction; memories go on waiting, and none is lost. Safe to repeat."""
    _pause("queue", tenant, project, reason, output)


@app.command(epilog="Example: rae-jobctl pause reflections --tenant demo-tenant")
def reflections(
    tenant: TenantOption = None, project: ProjectOption = None, reason: ReasonOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Make no requests for reflections. Safe to repeat."""
    _pause("reflections", tenant, project, reason, output)


@app.command("list")
def list_all(output: OutputOption = Output.TABLE) -> None:
    """Show what is paused, since when and why."""

    async def work(connection: Connection) -> list[tuple[Pause, str]]:
        from rae_jobctl.db.pauses import list_pauses
        from rae_jobctl.db.tenants import list_known_tenants

        pauses = await list_pauses(connection)
        names = {tenant.id: tenant.name for tenant in await list_known_tenants(connection)} if pauses else {}
        return [(pause, names.get(pause.tenant_id, str(pause.tenant_id))) for pause in pauses]

    found = with_connection("pause list", work)
    if output is Output.JSON:
        typer.echo(json.dumps([pause_as_json(pause) for pause, _ in found], ensure_ascii=False))
        return
    for pause, name in found:
        body = pause_as_json(pause)
        whose = "all tenants" if body["tenantId"] is None else name
        typer.echo(f"{pause.what:<12} {whose:<24} {pause.project or 'all projects':<24} {since(pause)}")
    if not found:
        typer.echo("nothing is paused")


def _pause(what: str, tenant: str | None, project: str | None, reason: str | None, output: Output) -> None:
    check_reach(tenant, project)
    told = _checked(reason)

    async def work(connection: Connection) -> tuple[Reach, Pause, bool]:
        from rae_jobctl.db.pauses import Pausable, pause

        reach = await reach_of(connection, tenant, project)
        return reach, *await pause(connection, Pausable(what), reach.tenant_id, reach.project, told)

    reach, pause, made = with_connection(f"pause {what}", work)
    if output is Output.JSON:
        typer.echo(json.dumps({**pause_as_json(pause), "before": not made}, ensure_ascii=False))
        return
    typer.echo(f"{what} of {reach.words} is paused {since(pause)}" + ("" if made else "; it was before"))


def _checked(reason: str | None) -> str | None:
    """One line of bounded length; it is shown in logs and statuses.

    Raises:
        UsageError: it is longer.
    """
    words = " ".join((reason or "").split())
    if len(words) > _LONGEST_REASON:
        raise UsageError(f"--reason must have at most {_LONGEST_REASON} characters, not {len(words)}")
    return words or None
