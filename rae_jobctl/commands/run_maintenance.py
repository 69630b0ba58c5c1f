"""`rae-jobctl run-maintenance`: the daily chain in one run."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, TenantOption, WaitOption
from rae_jobctl.outcome import Outcome

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool
    from rae_jobctl.tasks.maintenance import Step

app = typer.Typer(add_completion=False)


@app.command(epilog="Examples: rae-jobctl run-maintenance --dry-run; rae-jobctl run-maintenance --tenant demo-tenant")
def run_maintenance(
    tenant: TenantOption = None,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    slot: SlotOption = None,
    wait: WaitOption = False,
) -> None:
    """Run decay, decay --importance, cleanup-expired-data and check-consistency one after the other.

    Each has its own entries in `runs list`, and a step that fails does not stop those after it. In the chart it takes the place
    of the CronJobs of its parts.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.maintenance import TASK, run_steps

        async with open_pool(DatabaseSettings.from_env(), TASK) as pool:
            return await run_steps(_steps(pool, invocation, tenant, dry_run), invocation.stop)

    execute("run-maintenance", work, output=output, render=_render, slot=slot, dry_run=dry_run, wait=wait)


def _steps(pool: Pool, invocation: Invocation, tenant: str | None, dry_run: bool) -> list[Step]:
    from rae_jobctl.tasks.decay.params import IMPORTANCE_RATE, STRENGTH_RATE, RateRule
    from rae_jobctl.tasks.maintenance import Step

    def decaying(rule: RateRule) -> Callable[[], Awaitable[Outcome]]:
        async def work() -> Outcome:
            from rae_jobctl.tasks.decay.params import DecayParams, switched_off
            from rae_jobctl.tasks.decay.task import TASK, Occurrence, decay

            if off := switched_off(rule):
                return Outcome(TASK, "Disabled", f"{off} is false: nothing was done", dry_run=dry_run)
            params = DecayParams.from_env(invocation.slot.at, rule=rule)
            occurrence = Occurrence(invocation.slot, invocation.stop, invocation.wait)
            return await decay(pool, params, occurrence, tenant=tenant, dry_run=dry_run)

        return work

    async def cleaning() -> Outcome:
        from rae_jobctl.tasks.retention.policy import Defaults
        from rae_jobctl.tasks.retention.task import CleanupParams, cleanup

        params = CleanupParams(Defaults.from_env(), invocation.slot, invocation.stop, invocation.wait)
        return await cleanup(pool, params, tenant=tenant, dry_run=dry_run)

    async def comparing() -> Outcome:
        from rae_jobctl.tasks.vectors.consistency import check_consistency, skipped
        from rae_jobctl.tasks.vectors.params import ConsistencyParams, grace_seconds
        from rae_jobctl.vectors.settings import QdrantSettings

        settings = QdrantSettings.from_env()
        if settings is None:
            return skipped(dry_run=dry_run)
        params = ConsistencyParams(
            invocation.slot,
            invocation.stop,
            invocation.wait,
            repair=False,
            unknown_tenants=False,
            dry_run=dry_run,
            grace=grace_seconds(),
        )
        return await check_consistency(pool, settings, params, tenant=tenant, fail_on_findings=False)

    return [
        Step("decay", decaying(STRENGTH_RATE)),
        Step("decay --importance", decaying(IMPORTANCE_RATE)),
        Step("cleanup-expired-data", cleaning),
        Step("check-consistency", comparing),
    ]


def _render(outcome: Outcome) -> None:
    colour = sys.stdout.isatty()
    for one in outcome.result["steps"]:
        name = f"{one['step']:<21}"
        shown = typer.style(name, bold=True, fg="red" if one["exitCode"] else "green") if colour else name
        typer.echo(f"{shown} {one['reason']:<12} {one['message']}")
    typer.echo(outcome.message)
