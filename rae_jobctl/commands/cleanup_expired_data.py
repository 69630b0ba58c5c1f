"""`rae-jobctl cleanup-expired-data`: what is older than its class may be kept goes."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, TenantOption, WaitOption
from rae_jobctl.commands.tenants import show_tenants
from rae_jobctl.outcome import Outcome

app = typer.Typer(add_completion=False)


@app.command(epilog="Examples: rae-jobctl cleanup-expired-data --dry-run; rae-jobctl cleanup-expired-data --tenant demo-tenant")
def cleanup_expired_data(
    tenant: TenantOption = None,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    slot: SlotOption = None,
    wait: WaitOption = False,
) -> None:
    """Delete what is older than its class of data may be kept, tenant by tenant, with an audit row for each batch.

    Days by class: episodic memories 365, embeddings 365, cost logs 1095, audit logs 2555, delivered notifications 30; semantic
    and reflective memories, the graph and the archive for ever. RAE_RETENTION_<CLASS>_DAYS changes that for all, retention_days
    in a tenant's config for one; 0 or -1 keeps for ever. Memories with a protected tag (RAE_PROTECTED_TAGS: protected,
    legal-hold) stay.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.retention.policy import Defaults
        from rae_jobctl.tasks.retention.task import TASK, CleanupParams
        from rae_jobctl.tasks.retention.task import cleanup as run

        params = CleanupParams(Defaults.from_env(), invocation.slot, invocation.stop, invocation.wait)
        async with open_pool(DatabaseSettings.from_env(), TASK) as pool:
            return await run(pool, params, tenant=tenant, dry_run=dry_run)

    execute("cleanup-expired-data", work, output=output, render=_render, slot=slot, dry_run=dry_run, wait=wait)


def _render(outcome: Outcome) -> None:
    show_tenants(outcome, _tables)
    skipped = outcome.result.get("skippedTables", [])
    if skipped:
        typer.echo(typer.style(f"not in this database: {', '.join(skipped)}", dim=True))


def _tables(one: Mapping[str, object]) -> None:
    classes = one.get("classes", [])
    assert isinstance(classes, list)
    for kept in classes:
        for table, count in kept["tables"].items():
            if count:
                typer.echo(f"  {kept['class']:<11} {count:>9}  {table}, before {kept['cutoff'][:10]}")
