"""`rae-jobctl check-consistency`: memories without vectors and vectors without memories, reported or mended."""

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
_SHOWN = 10


@app.command(epilog="Examples: rae-jobctl check-consistency; rae-jobctl check-consistency --repair --dry-run")
def check_consistency(
    tenant: TenantOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Delete vectors without a memory; write vectors from PostgreSQL's embeddings.")
    ] = False,
    unknown_tenants: Annotated[
        bool,
        typer.Option("--unknown-tenants", help="With --repair: delete those of tenants that PostgreSQL does not know, too."),
    ] = False,
    fail_on_findings: Annotated[
        bool, typer.Option("--fail-on-findings", help="Leave with 65 when something is found and not mended.")
    ] = False,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    slot: SlotOption = None,
    wait: WaitOption = False,
) -> None:
    """Compare PostgreSQL's memories with Qdrant's vectors, and report what one side has and the other has not.

    Deletions of vectors that are still queued are made up for. With --repair, vectors without a memory are deleted, and memories
    without a vector get one where PostgreSQL holds an embedding that fits; the others are for RAE to embed.
    Where no Qdrant is configured (QDRANT_URL, or QDRANT_HOST), it says so and does nothing.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.errors import UsageError
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.vectors.consistency import TASK, skipped
        from rae_jobctl.tasks.vectors.consistency import check_consistency as run
        from rae_jobctl.tasks.vectors.params import ConsistencyParams, grace_seconds
        from rae_jobctl.vectors.settings import QdrantSettings

        if unknown_tenants and (not repair or tenant):
            raise UsageError("--unknown-tenants goes with --repair and without --tenant", hint="without it, they are reported")
        settings = QdrantSettings.from_env()
        if settings is None:
            return skipped(dry_run=dry_run)
        params = ConsistencyParams(
            invocation.slot, invocation.stop, invocation.wait, repair, unknown_tenants, dry_run, grace_seconds()
        )
        async with open_pool(DatabaseSettings.from_env(), TASK) as pool:
            return await run(pool, settings, params, tenant=tenant, fail_on_findings=fail_on_findings)

    execute("check-consistency", work, output=output, render=_render, slot=slot, dry_run=dry_run, wait=wait)


def _render(outcome: Outcome) -> None:
    if "tenants" not in outcome.result:
        typer.echo(outcome.message)
        return
    show_tenants(outcome, _ids)
    for one in outcome.result.get("unknownTenants", []):
        typer.echo(f"  unknown tenant {one['tenantId']}: {one['points']} vectors")
    if outcome.result.get("pointsWithoutTenant"):
        typer.echo(f"  without a tenant: {outcome.result['pointsWithoutTenant']} vectors")


def _ids(one: Mapping[str, object]) -> None:
    kinds = one.get("ids")
    assert isinstance(kinds, dict | None)
    for kind, ids in (kinds or {}).items():
        more = ", ..." if len(ids) > _SHOWN else ""
        typer.echo(f"  {kind}: {', '.join(map(str, ids[:_SHOWN]))}{more}")
