"""`rae-jobctl budget`: what the language model may cost, and what it has."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import typer

from rae_jobctl.commands.options import Output, OutputOption, TenantOption

if TYPE_CHECKING:
    from rich.text import Text

    from rae_jobctl.tasks.metering.report import Budget

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show what the language model may cost, and what it has.")


@app.callback()
def _budget() -> None:
    # With a callback, a single subcommand keeps its name.
    pass


@app.command(epilog="Examples: rae-jobctl budget show; rae-jobctl budget show --tenant demo-tenant -o json")
def show(tenant: TenantOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show limits, spent and reserved money of tenants and projects, of this day and this month (UTC).

    A limit is the smallest of RAE_LLM_DAILY_BUDGET_USD or RAE_LLM_MONTHLY_BUDGET_USD, `llm_budget` in tenants.config, and RAE's
    table `budgets`. What a pod had reserved when it died stays reserved, and counts as spent.
    """
    budgets = asyncio.run(_read(tenant))
    if output is Output.JSON:
        typer.echo(json.dumps([_as_json(budget) for budget in budgets], ensure_ascii=False))
    elif budgets:
        _print(budgets)
    else:
        typer.echo("no budget is set, and nothing has been spent this month")


async def _read(tenant: str | None) -> list[Budget]:
    from rae_jobctl.db.pool import open_pool
    from rae_jobctl.settings import DatabaseSettings
    from rae_jobctl.tasks.metering.report import read_budgets
    from rae_jobctl.tasks.metering.settings import LimitSettings

    limits = LimitSettings.from_env()
    async with open_pool(DatabaseSettings.from_env(), "budget show") as pool:
        return await read_budgets(pool, tenant, limits)


def _as_json(budget: Budget) -> dict[str, Any]:
    limit, left = budget.limit, budget.left
    return {
        "tenant": budget.tenant.name,
        "tenantId": str(budget.tenant.id),
        "project": budget.project or None,
        "period": str(budget.period),
        "startsOn": budget.starts_on.isoformat(),
        "limitUsd": None if limit is None else float(limit.usd),
        "limitSource": None if limit is None else limit.source,
        "spentUsd": float(budget.spent),
        "reservedUsd": float(budget.reserved),
        "leftUsd": None if left is None else float(left),
    }


def _print(budgets: list[Budget]) -> None:
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TENANT", "PROJECT", "PERIOD"):
        made.add_column(title, overflow="fold")
    for title in ("LIMIT USD", "SPENT", "RESERVED", "LEFT"):
        made.add_column(title, justify="right", no_wrap=True)
    made.add_column("SET BY", overflow="fold")
    for budget in budgets:
        made.add_row(*_cells(budget))
    console = Console()
    # A pipe has no width: nothing may be cut off there.
    Console(width=None if console.is_terminal else 240).print(made)


def _cells(budget: Budget) -> tuple[str | Text, ...]:
    from rich.text import Text

    limit, left = budget.limit, budget.left
    period = budget.starts_on.isoformat()[: 10 if budget.period == "day" else 7]
    sums = (_usd(limit.usd if limit else None), _usd(budget.spent), _usd(budget.reserved))
    rest = Text(_usd(left), style="red" if left == 0 else "")
    return (budget.tenant.name, budget.project or "(all)", period, *sums, rest, limit.source if limit else "-")


def _usd(value: Decimal | None) -> str:
    return "-" if value is None else f"{value:.4f}"
