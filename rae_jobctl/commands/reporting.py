"""How an error is told to a person, on standard error."""

from __future__ import annotations

import sys

import typer

from rae_jobctl.errors import TaskError


def report_error(error: TaskError) -> None:
    """Say what is wrong and how to mend it, a line each."""
    colour = sys.stderr.isatty()
    typer.echo(f"{typer.style('error:', fg='red', bold=True) if colour else 'error:'} {error.message}", err=True)
    if error.hint:
        typer.echo(f"{typer.style('hint:', fg='cyan') if colour else 'hint:'} {error.hint}", err=True)
