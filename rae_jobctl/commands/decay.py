"""`rae-jobctl decay`: the strength of memories fades, once for each day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, TenantOption, WaitOption
from rae_jobctl.commands.tenants import show_tenants
from rae_jobctl.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(add_completion=False)
_BAR = 24


@app.command(epilog="Examples: rae-jobctl decay --dry-run; rae-jobctl decay --importance --tenant demo-tenant --output json")
def decay(
    tenant: TenantOption = None,
    importance: Annotated[
        bool, typer.Option("--importance", help="Decay the importance of memories, not their strength.")
    ] = False,
    allow_steep_rate: Annotated[
        bool, typer.Option("--allow-steep-rate", help="Accept a rate that forgets most within days: below 0.5, or above 0.2.")
    ] = False,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    slot: SlotOption = None,
    wait: WaitOption = False,
) -> None:
    """Decay the strength of memories, once for each day, then delete those whose expires_at has passed.

    Strength is multiplied by MEMORY_DECAY_RATE (0.95, or the tenant's own memory_decay_rate) for each day that a memory has not
    had yet, at most RAE_DECAY_MAX_CATCHUP_DAYS (7). A second run of a day changes nothing.
    ENABLE_MEMORY_DECAY=false switches it off.

    With --importance, importance loses MEMORY_IMPORTANCE_DECAY_RATE (0.01) each day instead: half of that within 7 days of the
    last access, more and more of it after 30, and never below 0.01. Nothing is deleted then.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.decay.params import IMPORTANCE_RATE, STRENGTH_RATE, DecayParams, switched_off
        from rae_jobctl.tasks.decay.task import TASK, Occurrence
        from rae_jobctl.tasks.decay.task import decay as run

        rule = IMPORTANCE_RATE if importance else STRENGTH_RATE
        if off := switched_off(rule):
            return Outcome(TASK, reason="Disabled", message=f"{off} is false: nothing was done", dry_run=dry_run)
        params = DecayParams.from_env(invocation.slot.at, allow_steep=allow_steep_rate, rule=rule)
        occurrence = Occurrence(invocation.slot, invocation.stop, invocation.wait)
        async with open_pool(DatabaseSettings.from_env(), TASK) as pool:
            return await run(pool, params, occurrence, tenant=tenant, dry_run=dry_run)

    execute("decay", work, output=output, render=_render, slot=slot, dry_run=dry_run, wait=wait)


def _render(outcome: Outcome) -> None:
    show_tenants(outcome, _draw if outcome.dry_run else None)


def _draw(one: Mapping[str, object]) -> None:
    """Strength or importance by tenth, before and after, as bars."""
    rows = one["strengths"]
    assert isinstance(rows, list)
    if not any(row["before"] for row in rows):
        return
    most = max(max(row["before"], row["after"]) for row in rows)
    typer.echo(f"  {one['of']:<10}{'before':<{_BAR + 9}}after, at {one['rate']} a day")
    for row in rows:
        if row["before"] or row["after"]:
            before, after = (_bar(row[name], most) for name in ("before", "after"))
            typer.echo(f"  {row['from']:>8}  {row['before']:>7} {before:<{_BAR}} {row['after']:>7} {after}".rstrip())


def _bar(count: int, most: int) -> str:
    return "█" * max(1, round(_BAR * count / most)) if count else ""
