"""`rae-jobctl resume`: take a pause back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from rae_jobctl.commands.options import Output, OutputOption, TenantOption
from rae_jobctl.commands.pausing import ProjectOption, check_reach, pause_as_json, reach_of, since, with_connection

if TYPE_CHECKING:
    from rae_jobctl.commands.pausing import Reach
    from rae_jobctl.db.pauses import Pause
    from rae_jobctl.db.pool import Connection

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Take a pause back: requests are made again from the next run on."
)


@app.command(epilog="Example: rae-jobctl resume queue --tenant demo-tenant")
def queue(tenant: TenantOption = None, project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """Take back the pause of exactly this reach; narrower and wider ones stay, and are named. Safe to repeat."""
    _resume("queue", tenant, project, output)


@app.command(epilog="Example: rae-jobctl resume reflections")
def reflections(tenant: TenantOption = None, project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """Take back the pause of exactly this reach; narrower and wider ones stay, and are named. Safe to repeat."""
    _resume("reflections", tenant, project, output)


def _resume(what: str, tenant: str | None, project: str | None, output: Output) -> None:
    check_reach(tenant, project)

    async def work(connection: Connection) -> tuple[Reach, Pause | None, list[Pause]]:
        from rae_jobctl.db.pauses import Pausable, list_pauses, resume

        reach = await reach_of(connection, tenant, project, gone=True)
        ended = await resume(connection, Pausable(what), reach.tenant_id, reach.project)
        return reach, ended, _related(reach, await list_pauses(connection, Pausable(what)))

    reach, ended, left = with_connection(f"resume {what}", work)
    if output is Output.JSON:
        body = {"resumed": ended is not None, "left": [pause_as_json(pause) for pause in left]}
        typer.echo(json.dumps(body, ensure_ascii=False))
        return
    typer.echo(f"{what} of {reach.words} " + (f"goes on; it was paused {since(ended)}" if ended else "was not paused"))
    for pause in left:
        typer.echo(f"  still paused: {_words(pause)}, {since(pause)}")


def _related(reach: Reach, pauses: list[Pause]) -> list[Pause]:
    """Pauses that still bear on what was resumed: wider ones that cover it, narrower ones within it."""
    from rae_jobctl.db.tenants import ALL_TENANTS

    return [
        pause
        for pause in pauses
        if pause.covers(reach.tenant_id, reach.project)
        or reach.tenant_id == ALL_TENANTS
        or (pause.tenant_id == reach.tenant_id and not reach.project)
    ]


def _words(pause: Pause) -> str:
    from rae_jobctl.db.tenants import ALL_TENANTS

    if pause.tenant_id == ALL_TENANTS:
        return "all tenants"
    return f"tenant {pause.tenant_id}" + (f", project {pause.project!r}" if pause.project else "")
