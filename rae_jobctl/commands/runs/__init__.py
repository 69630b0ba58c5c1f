"""`rae-jobctl runs`: what has run, with results and errors; watch it, stop it, run it again."""

from __future__ import annotations

import typer

from rae_jobctl.commands.runs import controlling, reading, retrying, watching

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="What has run, with results and errors; kept beyond Jobs and requests. Watch it, stop it, run it again.",
)
for part in (reading.app, watching.app, controlling.app, retrying.app):
    app.registered_commands.extend(part.registered_commands)
