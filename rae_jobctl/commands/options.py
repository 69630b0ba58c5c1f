"""Options that several subcommands share, so that they read and mean the same everywhere."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Output(StrEnum):
    """How the result is printed on standard output."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="A table for a person or one JSON object for a script.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; write nothing and pay for nothing.")]
SlotOption = Annotated[
    str | None,
    typer.Option(
        "--slot",
        help="Which occurrence this is, e.g. 2026-11-24T02:00Z; a finished one is not run again.",
        show_default="a new one",
    ),
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for a run that holds the lock instead of leaving with 75.")]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="Tenant, by UUID or by unique name.", show_default="all")]
