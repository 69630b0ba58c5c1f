"""`rae-jobctl runs watch`: one run to its end, or whatever runs now."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from rae_jobctl.commands.options import Output, OutputOption
from rae_jobctl.commands.runs.ledger import ledger, name_of
from rae_jobctl.errors import ExitCode, TransientError, UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from rae_jobctl.commands.runs.screens import Screen
    from rae_jobctl.db.history import RunRecord
    from rae_jobctl.db.pool import Connection
    from rae_jobctl.deadline import StopSignal

app = typer.Typer()
_POLL_SECONDS = 1.0
_MOST = 200


@app.command(
    epilog="Examples: rae-jobctl runs watch; rae-jobctl runs watch 1f0c2a9b --timeout 600; rae-jobctl runs watch --request weekly"
)
def watch(
    run: Annotated[str | None, typer.Argument(help="Id of a run, or how it begins.", show_default="all that run")] = None,
    request: Annotated[str | None, typer.Option("--request", help="The newest run of a request, by its uid or name.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds to watch.", show_default="no end")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Watch a run until it ends, and leave with its exit code: 0 finished, 75 died or to be continued.

    Without an id: watch whatever runs, until interrupted. In a pipe there is a
    line, with -o json an object, for each change.
    """
    if run is not None and request is not None:
        raise UsageError("runs watch takes the id of a run or --request, and not both")
    ended = asyncio.run(_watch(run, request, timeout, output))
    if ended is not None and exit_code(ended):
        raise typer.Exit(exit_code(ended))


async def _watch(run: str | None, request: str | None, seconds: float | None, output: Output) -> RunRecord | None:
    from rae_jobctl.deadline import StopSignal, stop_on_signals

    stop = StopSignal(seconds)
    async with ledger() as connection:
        with stop_on_signals(stop), _screen(output) as screen:
            if run is None and request is None:
                await _watch_all(connection, screen, stop)
                return None
            first = await _find(connection, run, request)
            return await _watch_one(connection, first, screen, stop)


async def _find(connection: Connection, run: str | None, request: str | None) -> RunRecord:
    from rae_jobctl.db.history import find_run, runs_of_request

    if request is not None:
        return (await runs_of_request(connection, request, 1))[0]
    return await find_run(connection, run or "")


async def _watch_one(connection: Connection, run: RunRecord, screen: Screen, stop: StopSignal) -> RunRecord:
    seen_dead = False
    while True:
        screen.show([run])
        # A run that has lost its connection has no lock for a moment, until it has recorded its failure.
        if run.status != "running" and (run.status != "died" or seen_dead):
            return run
        seen_dead = run.status == "died"
        if await stop.pause(_POLL_SECONDS):
            raise TransientError(
                f"stopped watching by {stop.cause if stop.cause != 'the soft limit' else '--timeout'}; {name_of(run)} goes on",
                reason="StillRunning",
                hint=f"rae-jobctl runs watch {str(run.id)[:8]}",
            )
        run = await _again(connection, run.id)


async def _watch_all(connection: Connection, screen: Screen, stop: StopSignal) -> None:
    from rae_jobctl.db.history import Filter, list_runs

    before: set[UUID] = set()
    while True:
        running = await list_runs(connection, Filter(status="running", limit=_MOST))
        now = {run.id for run in running}
        ended = [await _again(connection, gone) for gone in sorted(before - now)]
        screen.show([*running, *ended])
        before = now
        if await stop.pause(_POLL_SECONDS):
            return


async def _again(connection: Connection, run: UUID) -> RunRecord:
    from rae_jobctl.db.history import get_run

    return await get_run(connection, run)


@contextmanager
def _screen(output: Output) -> Iterator[Screen]:
    from rae_jobctl.commands.runs.screens import JsonLines, Lines, live_screen

    if output is Output.JSON:
        yield JsonLines()
    elif not sys.stdout.isatty():
        yield Lines()
    else:
        with live_screen() as screen:
            yield screen


def exit_code(run: RunRecord) -> int:
    """What `watch` leaves with once the run has ended."""
    if run.status == "finished":
        return int(ExitCode.DONE)
    if run.status == "died":
        return int(ExitCode.TRANSIENT)
    return run.exit_code or int(ExitCode.BAD_DATA if run.status == "cancelled" else ExitCode.TRANSIENT)
