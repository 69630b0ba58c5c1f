"""`rae-jobctl prune`, deprecated: episodic memories older than MEMORY_RETENTION_DAYS go."""

from __future__ import annotations

from typing import Annotated

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, TenantOption, WaitOption
from rae_jobctl.commands.tenants import show_tenants
from rae_jobctl.outcome import Outcome

app = typer.Typer(add_completion=False)


@app.command(deprecated=True, epilog="Example: MEMORY_RETENTION_DAYS=90 rae-jobctl prune --dry-run")
def prune(
    tenant: TenantOption = None,
    archive: Annotated[
        bool, typer.Option("--archive", help="Move the memories to rae_jobs.archived_memories instead of deleting them.")
    ] = False,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    slot: SlotOption = None,
    wait: WaitOption = False,
) -> None:
    """Delete episodic memories older than MEMORY_RETENTION_DAYS; 0, the default, deletes nothing. Other layers stay.

    cleanup-expired-data takes its place: retention by class of data and by tenant. Memories with a protected tag
    (RAE_PROTECTED_TAGS) stay.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.logs import get_logger
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.prune import TASK, PruneParams, retention_days
        from rae_jobctl.tasks.prune import prune as run
        from rae_jobctl.tasks.retention.policy import protected_tags

        get_logger().warning("deprecated", task=TASK, instead="cleanup-expired-data")
        days = retention_days()
        if not days:
            return Outcome(TASK, "Disabled", "MEMORY_RETENTION_DAYS is 0: nothing was deleted", dry_run=dry_run)
        params = PruneParams(days, invocation.slot, invocation.stop, invocation.wait, archive, protected_tags())
        async with open_pool(DatabaseSettings.from_env(), TASK) as pool:
            return await run(pool, params, tenant=tenant, dry_run=dry_run)

    execute("prune", work, output=output, render=show_tenants, slot=slot, dry_run=dry_run, wait=wait)
