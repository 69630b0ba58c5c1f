"""`rae-jobctl runs retry`: a run once more, from the command line and the request that the ledger keeps."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from rae_jobctl.commands.options import Output
from rae_jobctl.commands.runs.ledger import RunArgument, name_of, read
from rae_jobctl.errors import BadDataError, ExitCode
from rae_jobctl.provenance import HIDDEN, PRIVATE, reopening
from rae_jobctl.request import VARIABLE
from rae_jobctl.slots import resolve_slot

if TYPE_CHECKING:
    from rae_jobctl.db.history import RunRecord
    from rae_jobctl.db.pool import Connection

app = typer.Typer()
_ALL_TENANTS = UUID(int=0)
_WHY_NOT = {"running": "is running: `rae-jobctl runs cancel` stops it", "finished": "has finished, and is done only once"}


@dataclass(frozen=True)
class Again:
    """What runs a run again.

    Attributes:
        command: subcommand and options.
        request: for RAE_REQUEST, or None.
    """

    command: tuple[str, ...]
    request: Mapping[str, Any] | None

    def __str__(self) -> str:
        variable = f"{VARIABLE}={shlex.quote(_json(self.request))} " if self.request else ""
        return f"{variable}rae-jobctl {shlex.join(self.command)}"


@app.command(epilog="Examples: rae-jobctl runs retry 1f0c2a9b --dry-run; rae-jobctl runs retry 1f0c2a9b -o json")
def retry(
    context: typer.Context,
    run: RunArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command line that it would run.")] = False,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="How the task prints its result.", show_default="as then")
    ] = None,
) -> None:
    """Run a failed, died, cancelled or dismissed run again, here and now; it goes on where it committed.

    It is the same run: same task, tenant, project and slot, from the command
    line and the request that it had. Output and exit code are those of the task.
    What else it needs (database, model) comes from this process's environment.
    """
    found = _find(run)
    again = compose(found, lambda command: _accepted(context, command, found.request), output)
    if dry_run:
        typer.echo(str(again))
        return
    code = _run(context, again, found.id)
    if code == ExitCode.DONE:
        _prove(found)
    raise typer.Exit(code)


def compose(run: RunRecord, accepted: Callable[[Sequence[str]], set[str]], output: Output | None = None) -> Again:
    """The command line of a run, made exact: its own tenant, project and slot, where it takes them.

    Args:
        run: of the ledger.
        accepted: the options that a command line's subcommand knows.
        output: instead of the one that it had.

    Raises:
        BadDataError: it runs or has finished, or the ledger does not hold what it takes.
    """
    if run.status in ("running", "finished"):
        raise BadDataError(f"{name_of(run)} {_WHY_NOT[run.status]}", reason=f"Run{run.status.capitalize()}")
    if not run.command or run.task in PRIVATE or any(HIDDEN in word for word in run.command):
        why = "its arguments are kept nowhere" if run.task in PRIVATE else "the ledger does not hold its whole command line"
        raise BadDataError(f"{name_of(run)} cannot be run again from here: {why}", reason="CommandUnknown", hint=_by_hand(run))
    spec = (run.request or {}).get("spec", {})
    if run.shard and "--shard" not in _options(run.command) and not spec.get("shard"):
        raise BadDataError(
            f"{name_of(run)} is shard {run.shard} of a run whose command line does not choose one",
            reason="ShardOnly",
            hint="run its request or its Job again: the shards that are done are left alone",
        )
    return Again(_exact(run, spec, accepted(run.command), output), run.request)


def _exact(run: RunRecord, spec: Mapping[str, Any], accepted: set[str], output: Output | None) -> tuple[str, ...]:
    command = tuple(run.command or ())
    if run.tenant_id != _ALL_TENANTS and "--tenant" in accepted:
        command = _with(command, "--tenant", str(run.tenant_id))
    if run.project and "project" not in spec and "--project" in accepted:
        command = _with(command, "--project", run.project)
    request = run.request or {}
    own_key = request.get("idempotencyKey") or request.get("uid")
    # Some have no slot to choose: what they are asked for is their slot.
    if "--slot" in accepted and ("--slot" in _options(command) or run.slot != own_key):
        command = _with(command, "--slot", _slot_flag(run.slot))
    return _with(_without(command, "-o"), "--output", output.value) if output else command


def _slot_flag(key: str) -> str:
    """What `--slot` takes for this key: a time where there is one, since a person reads it."""
    at = key.removeprefix("cron:")
    return at if resolve_slot(flag=at).key == key else key


def _options(command: Sequence[str]) -> set[str]:
    return {word.partition("=")[0] for word in command if word.startswith("-")}


def _with(command: Sequence[str], option: str, value: str) -> tuple[str, ...]:
    return (*_without(command, option), option, value)


def _without(command: Sequence[str], option: str) -> tuple[str, ...]:
    kept: list[str] = []
    words = iter(command)
    for word in words:
        if word == option:
            next(words, None)
        elif not word.startswith(f"{option}=") and not (len(option) == 2 and word.startswith(option)):
            kept.append(word)
    return tuple(kept)


def _by_hand(run: RunRecord) -> str:
    if run.task in PRIVATE:
        return f"run `rae-jobctl {run.task}` again with its arguments: what is done is found to be done"
    words = ["rae-jobctl", run.task]
    if run.tenant_id != _ALL_TENANTS:
        words += ["--tenant", str(run.tenant_id)]
    words += ["--project", run.project] if run.project else []
    return f"by hand: {shlex.join([*words, '--slot', _slot_flag(run.slot)])}, with the options that `runs show` has as arguments"


def _accepted(context: typer.Context, command: Sequence[str], request: Mapping[str, Any] | None) -> set[str]:
    """The options that the subcommand of a command line knows."""
    found: Any = context.find_root().command
    words = list(command)
    with _requested(request):
        while hasattr(found, "resolve_command"):
            _, found, words = found.resolve_command(typer.Context(found), words)
    return {option for parameter in found.params for option in parameter.opts}


def _find(text: str) -> RunRecord:
    async def look(connection: Connection) -> RunRecord:
        from rae_jobctl.db.history import find_run

        return await find_run(connection, text)

    return read(look)


def _run(context: typer.Context, again: Again, run: UUID) -> int:
    """The command line, in this process, by the way that every command line goes."""
    with reopening(run), _requested(again.request):
        try:
            context.find_root().command.main(args=list(again.command), prog_name="rae-jobctl")
        except SystemExit as leaving:
            return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return int(ExitCode.DONE)


@contextmanager
def _requested(request: Mapping[str, Any] | None) -> Iterator[None]:
    before = os.environ.pop(VARIABLE, None)
    if request:
        os.environ[VARIABLE] = _json(request)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def _prove(run: RunRecord) -> None:
    """A task that ends well without having touched the run has done something else than was asked."""
    after = _find(str(run.id))
    if after.status != "finished":
        raise BadDataError(
            f"the command ended well, but {name_of(run)} is still {after.status}: it is not what this command line runs",
            reason="RunNotTaken",
            hint=_by_hand(run),
        )


def _json(request: Mapping[str, Any] | None) -> str:
    return json.dumps(request, separators=(",", ":"), ensure_ascii=False)
