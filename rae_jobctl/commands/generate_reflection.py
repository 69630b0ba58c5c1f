"""`rae-jobctl generate-reflection`: one reflection upon a project's recent memories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.model import pool_and_provider
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, WaitOption
from rae_jobctl.errors import UsageError

if TYPE_CHECKING:
    from rae_jobctl.outcome import Outcome
    from rae_jobctl.tasks.reflection.params import ReflectionParams

app = typer.Typer(add_completion=False)
_MAX_MEMORIES = 1000
_MAX_CLUSTER = 50


@app.command()
def generate_reflection(
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Tenant, by UUID or by unique name.", show_default="required")
    ] = None,
    project: Annotated[str | None, typer.Option("--project", help="Project within the tenant.", show_default="required")] = None,
    since: Annotated[str, typer.Option("--since", help="How far back: 90m, 24h, 7d, 2w.")] = "24h",
    max_memories: Annotated[int, typer.Option("--max-memories", min=1, max=_MAX_MEMORIES, help="The newest so many.")] = 50,
    min_cluster_size: Annotated[
        int, typer.Option("--min-cluster-size", min=1, max=_MAX_CLUSTER, help="Memories a theme needs.")
    ] = 3,
    kind: Annotated[str, typer.Option("--kind", help="insight, analysis, pattern, meta or synthesis.")] = "insight",
    model: Annotated[str | None, typer.Option("--model", help="Language model.", show_default="MINI_MODEL")] = None,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    slot: SlotOption = None,
    wait: WaitOption = False,
) -> None:
    """Reflect upon a project's recent episodic memories and store the reflection, once for the same memories.

    Every insight names the memories that it rests on. The provider is RAE_LLM_PROVIDER, as for extract-graph. With
    RAE_WEBHOOK_URL and RAE_WEBHOOK_SECRET a stored reflection is notified (docs/webhooks.md).
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.llm.types import ReflectionKind
        from rae_jobctl.tasks.reflection.params import ReflectionParams, parse_since

        if not tenant or not project:
            raise UsageError(
                "generate-reflection needs --tenant and --project", hint="e.g. --tenant demo-tenant --project ai-research"
            )
        if kind not in list(ReflectionKind):
            raise UsageError(f"--kind {kind[:40]!r} is unknown", hint=f"use {', '.join(ReflectionKind)}")
        span = parse_since(since)
        params = ReflectionParams(tenant, project, span, max_memories, min_cluster_size, ReflectionKind(kind))
        return await _run(invocation, params, model)

    execute(
        "generate-reflection",
        work,
        output=output,
        render=_render,
        summarise=_summarise,
        slot=slot,
        dry_run=dry_run,
        wait=wait,
        sensitive=True,
    )


async def _run(invocation: Invocation, params: ReflectionParams, model: str | None) -> Outcome:
    from rae_jobctl.llm.settings import LlmSettings
    from rae_jobctl.tasks.metering.settings import LimitSettings
    from rae_jobctl.tasks.reflection.task import TASK, generate_reflection, preview
    from rae_jobctl.webhooks.settings import WebhookSettings

    # Both before anything is paid for.
    settings, webhook = LlmSettings.from_env(model=model), WebhookSettings.from_env()
    async with pool_and_provider(settings, TASK, invocation.stop) as (pool, provider):
        if invocation.dry_run:
            return await preview(pool, provider, params, slot=invocation.slot)
        slot, stop, wait = invocation.slot, invocation.stop, invocation.wait
        return await generate_reflection(
            pool,
            provider,
            params,
            slot=slot,
            stop=stop,
            wait=wait,
            price=settings.price,
            limits=LimitSettings.from_env(),
            webhook=webhook,
        )


def _summarise(outcome: Outcome) -> dict[str, object] | None:
    from rae_jobctl.tasks.reflection.task import summarise

    return summarise(outcome)


def _render(outcome: Outcome) -> None:
    typer.echo(outcome.message)
    reflection = outcome.result.get("reflection")
    if reflection:
        typer.echo(f"\n{reflection['summary']}\n")
        evidence = outcome.result.get("insight_evidence", [])
        for text, proof in zip(reflection["key_insights"], evidence, strict=False):
            typer.echo(f"  * {text}")
            typer.echo(f"    from {len(proof['memoryIds'])} memories: {', '.join(proof['memoryIds'][:3])}")
        for action in reflection["suggested_actions"]:
            typer.echo(f"  > {action}")
    for name, value in outcome.counters.items():
        typer.echo(f"{name:>20}  {value}")
    for name, value in outcome.result.get("estimate", {}).items():
        typer.echo(f"{name:>20}  {value}")
