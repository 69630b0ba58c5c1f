"""How an error is told to a person, on standard error."""

from __future__ import annotations

import sys

import typer

from rae_jobctl.errors import TaskError, frames
from rae_jobctl.logs import get_logger


def report_error(error: TaskError) -> None:
    """Say what is wrong and how to mend it, a line each."""
    colour = sys.stderr.isatty()
    typer.echo(f"{typer.style('error:', fg='red', bold=True) if colour else 'error:'} {error.message}", err=True)
    if error.hint:
        typer.echo(f"{typer.style('hint:', fg='cyan') if colour else 'hint:'} {error.hint}", err=True)


def unexpected(error: Exception) -> TaskError:
    """What may be told of an exception that nobody foresaw: its text may quote a row, so only its class and the frames are."""
    get_logger().error("unexpected_error", error_class=type(error).__name__, frames=frames(error))
    return TaskError(f"unexpected {type(error).__name__}; the log line above has the place")
