"""The command line: a table of subcommands, each imported only when it runs.

Every Job pays the start-up time, so nothing heavy may be imported here.
"""

from __future__ import annotations

import importlib
import re
import signal
from typing import Annotated, Any

import typer
import typer.core

from rae_jobctl import __version__
from rae_jobctl.commands import CATALOG, CommandEntry
from rae_jobctl.commands.reporting import report_error
from rae_jobctl.errors import BadDataError, ExitCode, TaskError, TransientError
from rae_jobctl.logs import as_task_error
from rae_jobctl.outcome import Outcome, write_termination_message
from rae_jobctl.provenance import began
from rae_jobctl.request import Request, read_request

_ENTRIES = {entry.name: entry for entry in CATALOG}
#: Fields of a request whose option has another name than the field.
_OPTION_OF_FIELD = {"tenantId": "tenant", "memoryIds": "memory_id"}
_CLICK_USAGE = 2


class LazyGroup(typer.core.TyperGroup):
    """A group whose commands are imported when they run; its help reads the catalogue alone."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        # Typer would draw it with rich, which takes five times as long to import as all the rest.
        typer.echo(root_help(), color=ctx.color)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = _ENTRIES.get(cmd_name)
        return None if entry is None else _placeholder(entry)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        command = _load(_ENTRIES[str(name)])
        began((str(name), *rest))
        request = read_request()
        if request is not None:
            ctx.default_map = {name: _defaults(command, request)}
        return name, command, rest


def _placeholder(entry: CommandEntry) -> typer.core.TyperCommand:
    return typer.core.TyperCommand(name=entry.name, help=entry.help, deprecated=entry.deprecated, callback=lambda: None)


def _load(entry: CommandEntry) -> Any:
    module = importlib.import_module(f"rae_jobctl.commands.{entry.module}")
    command = typer.main.get_command(module.app)
    command.name = entry.name
    return command


def _defaults(command: Any, request: Request) -> dict[str, Any]:
    """The request's fields as defaults of the command's options, so that a flag still wins."""
    options = {parameter.name for parameter in command.params}
    defaults = {}
    for name, value in request.spec.items():
        option = _OPTION_OF_FIELD.get(name) or re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        if option not in options:
            raise BadDataError(
                f"{command.name} knows no field {name!r} of a {request.kind}",
                hint="the custom resource is newer than this image; upgrade the image",
            )
        defaults[option] = value
    return defaults


_INTRODUCTION = """\
Usage: rae-jobctl COMMAND [OPTIONS]

The background work of RAE: one subcommand a task. Results go to standard output (--output json for scripts), logs to
standard error."""
_CLOSING = """\
Examples
  rae-jobctl decay --dry-run                                           what a decay would change
  rae-jobctl extract-graph --tenant demo-tenant --project ai-research  facts from the newest memories
  rae-jobctl runs list                                                 what has run, and how it ended

Exit codes: 0 done, 64 usage, 65 bad data, 78 configuration (not worth a retry), 75 try again, 1 unexpected.
A command's own options: rae-jobctl COMMAND --help"""


def root_help() -> str:
    """The text of `rae-jobctl --help`; its styles vanish where the output is no terminal."""
    width = max(map(len, _ENTRIES))
    parts = [_INTRODUCTION]
    for section in dict.fromkeys(entry.section for entry in CATALOG):
        rows = [f"  {typer.style(e.name.ljust(width), fg='cyan')}  {e.help}" for e in CATALOG if e.section == section]
        parts.append("\n".join([typer.style(section, bold=True), *rows]))
    options = "  --version   Print the version.\n  -h, --help  Show this message."
    return "\n\n".join([*parts, f"{typer.style('Options', bold=True)}\n{options}", _CLOSING])


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rae-jobctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def run(args: list[str] | None = None) -> int:
    """Run `rae-jobctl` with these arguments (the process's own by default) and return its exit code."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        app(args, prog_name="rae-jobctl")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        return int(ExitCode.USAGE) if code == _CLICK_USAGE else code
    except TaskError as error:
        return _refused(error)
    except Exception as error:
        return _refused(as_task_error(error))
    return int(ExitCode.DONE)


def _stop(number: int, frame: object) -> None:
    # The first process of a container has no default action for a signal: without this, only the kill would end it. A task that
    # can stop at a safe point sets its own handler.
    raise TransientError(f"stopped by {signal.Signals(number).name}", reason="Stopped")


def _refused(error: TaskError) -> int:
    """A request that no task has seen: the operator still gets its reason."""
    report_error(error)
    refused = Outcome(task="rae-jobctl", reason=error.reason, message=error.message, exit_code=error.exit_code)
    write_termination_message(refused.termination_message())
    return int(error.exit_code)
