"""`rae-jobctl backfill`: what was missed beyond what a run makes good by itself, on purpose."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, TenantOption, WaitOption
from rae_jobctl.commands.tenants import show_tenants
from rae_jobctl.errors import UsageError
from rae_jobctl.outcome import Outcome

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Make good on purpose what was missed.")


@app.callback()
def group() -> None:
    """Make good on purpose what was missed."""


@app.command(epilog="Example: rae-jobctl backfill decay --from 2026-10-01 --to 2026-10-09 --dry-run")
def decay(
    first: Annotated[str, typer.Option("--from", help="The first day, in UTC (YYYY-MM-DD).")],
    last: Annotated[str, typer.Option("--to", help="The last day, included; before today.")],
    tenant: TenantOption = None,
    allow_steep_rate: Annotated[bool, typer.Option("--allow-steep-rate", help="Accept a rate below 0.5.")] = False,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    wait: WaitOption = False,
) -> None:
    """Let strength decay for days that came too late for a run of decay to make good.

    Only days count that a run of decay recorded as further behind than it makes good (`runs show` has them as lostDays), and each
    only once; a memory has the days after its own. Importance has no backfill.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.decay.backfill import TASK, Range, backfill
        from rae_jobctl.tasks.decay.params import STRENGTH_RATE, DecayParams, switched_off

        wanted = Range(_day("--from", first), _day("--to", last))
        _check(wanted.first, wanted.last)
        if off := switched_off(STRENGTH_RATE):
            return Outcome(TASK, reason="Disabled", message=f"{off} is false: nothing was done", dry_run=dry_run)
        params = DecayParams.from_env(invocation.slot.at, allow_steep=allow_steep_rate)
        async with open_pool(DatabaseSettings.from_env(), TASK) as pool:
            stop = invocation.stop
            return await backfill(pool, params, wanted, tenant=tenant, dry_run=dry_run, stop=stop, wait=invocation.wait)

    execute("backfill decay", work, output=output, render=show_tenants, dry_run=dry_run, wait=wait)


def _day(flag: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{flag} {text[:40]!r} is no day", hint="e.g. 2026-10-01") from None


def _check(first: date, last: date) -> None:
    if first > last:
        raise UsageError(f"--from {first} is after --to {last}", hint="exchange them")
    if last >= datetime.now(UTC).date():
        raise UsageError(f"--to {last} is not over yet", hint="decay itself does the days that are not missed")
    if (last - first).days >= 3650:
        raise UsageError("the days from --from to --to are more than ten years", hint="give a shorter range")
