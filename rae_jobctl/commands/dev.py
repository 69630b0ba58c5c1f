"""`rae-jobctl dev`: PostgreSQL and Valkey at a laptop, RAE's tables and the example memories."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rae_jobctl.dev.examples import LoadReport

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="PostgreSQL and Valkey at a laptop, with RAE's tables and example memories."
)

_FIRST_STEPS = """\
Next:
  eval "$(rae-jobctl dev env)"
  rae-jobctl dev load-examples --create-tables
  rae-jobctl extract-graph --tenant demo-tenant --project ai-research --dry-run"""


@app.command()
def up() -> None:
    """Start both servers; a second time it finds them running."""
    from rae_jobctl.dev.services import home, prepared_services

    folder = home()
    services = prepared_services(folder)
    services.start()
    typer.echo(f"PostgreSQL at 127.0.0.1:{services.postgres.port}, Valkey at 127.0.0.1:{services.valkey.port}, data in {folder}")
    typer.echo(_FIRST_STEPS)


@app.command()
def down() -> None:
    """Stop both servers; their data stay for the next `up`."""
    from rae_jobctl.dev.services import home, known_services

    known_services(home()).stop()
    typer.echo("stopped")


@app.command()
def env() -> None:
    """Print the variables that the tasks read, for eval "$(rae-jobctl dev env)". They hold passwords."""
    from rae_jobctl.dev.services import home, known_services

    for name, value in known_services(home()).environment.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command("load-examples")
def load_examples(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of .jsonl files.", show_default="the examples of this release")
    ] = None,
    create_tables: Annotated[
        bool, typer.Option("--create-tables", help="Create RAE's tables and migrate first, where RAE itself is not installed.")
    ] = False,
    recent: Annotated[
        bool, typer.Option("--recent/--original-dates", help="Move the newest memories of each project into the last day.")
    ] = True,
) -> None:
    """Load the example memories; those that are there already stay as they are."""
    report = asyncio.run(_load(folder, create_tables, recent))
    for each in report.projects:
        typer.echo(f"{each.tenant} / {each.project}: {each.new} new of {each.read} memories")


async def _load(folder: Path | None, create_tables: bool, recent: bool) -> LoadReport:
    from rae_jobctl.db.migrate import migrate
    from rae_jobctl.db.pool import connect
    from rae_jobctl.dev.examples import load_examples as load
    from rae_jobctl.dev.schema import create_rae_tables
    from rae_jobctl.settings import DatabaseSettings

    async with connect(DatabaseSettings.from_env(), "dev load-examples") as connection:
        if create_tables:
            await create_rae_tables(connection)
            # Before the memories: what is there at the migration counts as history, and is not pending.
            await migrate(connection, say=lambda line: typer.echo(line, err=True))
        return await load(connection, folder, recent=recent)
