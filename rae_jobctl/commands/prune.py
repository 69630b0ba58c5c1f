"""`rae-jobctl prune`, deprecated: episodic memories older than MEMORY_RETENTION_DAYS go."""

from __future__ import annotations

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, TenantOption, WaitOption
from rae_jobctl.commands.tenants import show_tenants
from rae_jobctl.outcome import Outcome

app = typer.Typer(add_completion=False)


@app.command(deprecated=True, epilog="Example: MEMORY_RETENTION_DAYS=90 rae-jobctl prune --dry-run")
def prune(
    tenant: TenantOption = None,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    slot: SlotOption = None,
    wait: WaitOption = False,
) -> None:
    """Delete episodic memories older than MEMORY_RETENTION_DAYS; 0, the default, deletes nothing. Other layers stay.

    Retention by class and tenant is to take its place.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.logs import get_logger
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.prune import TASK, PruneParams, retention_days
        from rae_jobctl.tasks.prune import prune as run

        get_logger().warning("deprecated", task=TASK, instead="retention by class and tenant")
        days = retention_days()
        if not days:
            return Outcome(TASK, "Disabled", "MEMORY_RETENTION_DAYS is 0: nothing was deleted", dry_run=dry_run)
        params = PruneParams(days, invocation.slot, invocation.stop, invocation.wait)
        async with open_pool(DatabaseSettings.from_env(), TASK) as pool:
            return await run(pool, params, tenant=tenant, dry_run=dry_run)

    execute("prune", work, output=output, render=show_tenants, slot=slot, dry_run=dry_run, wait=wait)
