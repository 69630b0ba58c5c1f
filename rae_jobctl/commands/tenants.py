"""How the outcome of a task over many tenants is shown to a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer

from rae_jobctl.outcome import Outcome

Detail = Callable[[Mapping[str, Any]], None]


def show_tenants(outcome: Outcome, detail: Detail | None = None) -> None:
    """A line for each tenant, what failed in red, and the sum where there is more than one.

    Args:
        outcome: of `for_each_tenant`.
        detail: shows more of one tenant, below its line.
    """
    done = outcome.result.get("tenants", [])
    for one in done:
        typer.echo(f"{typer.style(one['tenant'], bold=True)}: {one['message']}")
        if detail is not None:
            detail(one)
    for failure in outcome.failures:
        typer.echo(f"{typer.style(failure['tenant'], bold=True, fg='red')}: failed, {failure['reason']}: {failure['message']}")
    if len(done) != 1 or outcome.failures:
        typer.echo(outcome.message)
