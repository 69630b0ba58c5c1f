"""From a subcommand's arguments to its end: signals, soft limit, output, termination message, exit code."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import typer

from rae_jobctl.commands.options import Output
from rae_jobctl.commands.reporting import report_error
from rae_jobctl.deadline import StopSignal, stop_on_signals
from rae_jobctl.errors import TaskError, TransientError
from rae_jobctl.logs import as_task_error
from rae_jobctl.outcome import Outcome, write_termination_message
from rae_jobctl.request import Request, read_request
from rae_jobctl.settings import number
from rae_jobctl.slots import Slot, require_come, resolve_slot


@dataclass(frozen=True)
class Invocation:
    """What a task needs to know of the process that runs it.

    Attributes:
        slot: the occurrence.
        stop: asked between batches.
        request: the custom resource behind this process, if any.
        dry_run: read only.
        wait: wait for a lock rather than leave with 75.
    """

    slot: Slot
    stop: StopSignal
    request: Request | None = None
    dry_run: bool = False
    wait: bool = False


Work = Callable[[Invocation], Awaitable[Outcome]]
Render = Callable[[Outcome], None]
Summarise = Callable[[Outcome], Mapping[str, Any] | None]


def execute(
    task: str,
    work: Work,
    *,
    output: Output,
    render: Render,
    summarise: Summarise = lambda outcome: None,
    slot: str | None = None,
    dry_run: bool = False,
    wait: bool = False,
    sensitive: bool = False,
) -> None:
    """Run `work` to its end and leave with the exit code that the contract gives it.

    Args:
        task: subcommand name.
        work: the task; gets an Invocation.
        output: table or JSON.
        render: prints the outcome for a person.
        summarise: the part of the result that fits a custom resource's status.
        slot, dry_run, wait: as given on the command line.
        sensitive: the result quotes memories, so a pod's log gets the outcome without it; `runs show` has the whole.

    Raises:
        typer.Exit: always when the exit code is not 0.
    """
    try:
        outcome = asyncio.run(_run(work, slot, dry_run, wait))
    except TaskError as error:
        outcome = _failed(task, error, dry_run)
        _report(outcome, error, output)
    except Exception as error:
        told = as_task_error(error)
        outcome = _failed(task, told, dry_run)
        _report(outcome, told, output)
    else:
        _print(outcome, output, _render_in_pod if sensitive and os.environ.get("RAE_POD_NAME") else render)
    write_termination_message(outcome.termination_message(summarise(outcome)))
    if outcome.exit_code:
        raise typer.Exit(int(outcome.exit_code))


async def _run(work: Work, slot: str | None, dry_run: bool, wait: bool) -> Outcome:
    request = read_request()
    occurrence = resolve_slot(flag=slot, request_key=request.key if request else None)
    if not dry_run:
        require_come(occurrence)
    invocation = Invocation(
        slot=occurrence,
        stop=StopSignal(_soft_limit()),
        request=request,
        dry_run=dry_run,
        wait=wait,
    )
    with stop_on_signals(invocation.stop):
        return await work(invocation)


def _soft_limit() -> float | None:
    """RAE_SOFT_LIMIT_SECONDS; 0 or unset is no limit (the chart and the operator set it in every pod)."""
    return number(os.environ, "RAE_SOFT_LIMIT_SECONDS", 0, low=0) or None


def _failed(task: str, error: TaskError, dry_run: bool) -> Outcome:
    when = error.retry_after if isinstance(error, TransientError) else None
    return Outcome(
        task, error.reason, error.message, exit_code=error.exit_code, dry_run=dry_run, retry_after=when and when.astimezone(UTC)
    )


def _report(outcome: Outcome, error: TaskError, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(outcome.as_json(), ensure_ascii=False, default=str))
    report_error(error)


def _print(outcome: Outcome, output: Output, render: Render) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(outcome.as_json(), ensure_ascii=False, default=str))
        return
    render(outcome)


def _render_in_pod(outcome: Outcome) -> None:
    """What may stand in a log that others collect: no text of a memory."""
    told = {name: value for name, value in outcome.as_json().items() if name != "result"}
    typer.echo(json.dumps(told, ensure_ascii=False, default=str))
