"""`rae-jobctl extract-graph`: graph triples from memories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.model import pool_and_provider
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, WaitOption
from rae_jobctl.errors import BadDataError, UsageError
from rae_jobctl.settings import number

if TYPE_CHECKING:
    from rae_jobctl.outcome import Outcome
    from rae_jobctl.tasks.extraction.params import ExtractionParams

app = typer.Typer(add_completion=False)
_SHOWN = 40


@app.command()
def extract_graph(
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Tenant, by UUID or by unique name.", show_default="required")
    ] = None,
    project: Annotated[str | None, typer.Option("--project", help="Project within the tenant.", show_default="required")] = None,
    memory_id: Annotated[
        list[str] | None,
        typer.Option("--memory-id", help="These memories, of any layer; may be given again.", show_default="newest"),
    ] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Take what waits in the queue, beside other runs.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many memories, where no ids are given.")] = 50,
    shard: Annotated[int, typer.Option("--shard", min=0, help="With --pending: which share of the queue, from 0.")] = 0,
    shards: Annotated[int, typer.Option("--shards", min=1, max=1000, help="With --pending: how many shares there are.")] = 1,
    min_confidence: Annotated[
        float, typer.Option("--min-confidence", min=0, max=1, help="Leave out less certain triples.")
    ] = 0.7,
    model: Annotated[str | None, typer.Option("--model", help="Language model.", show_default="MINI_MODEL")] = None,
    auto_store: Annotated[bool, typer.Option("--store/--no-store", help="Write the graph, or only show the triples.")] = True,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    slot: SlotOption = None,
    wait: WaitOption = False,
) -> None:
    """Extract graph triples from memories, each with its evidence.

    Without ids it takes the newest episodic memories of the project that have not been extracted yet. The provider is
    RAE_LLM_PROVIDER: openai (any compatible endpoint), ml-service, or local, which needs neither key nor network.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.tasks.extraction.params import MAX_MEMORIES, ExtractionParams

        if not tenant or not project:
            raise UsageError("extract-graph needs --tenant and --project", hint="e.g. --tenant demo-tenant --project ai-research")
        if pending and memory_id:
            raise UsageError("--pending and --memory-id exclude each other")
        if shard >= shards:
            raise UsageError(f"--shard {shard} is not below --shards {shards}")
        if not pending and limit > MAX_MEMORIES:
            raise UsageError(f"--limit {limit} is more than {MAX_MEMORIES}", hint="with --pending there is no upper bound")
        ids = parse_ids(memory_id or [], MAX_MEMORIES)
        tries, lease = _patience()
        params = ExtractionParams(
            tenant, project, ids, limit, pending, shard, shards, min_confidence, auto_store, tries=tries, lease_seconds=lease
        )
        return await _run(invocation, params, model)

    execute(
        "extract-graph",
        work,
        output=output,
        render=_render,
        summarise=_summarise,
        slot=slot,
        dry_run=dry_run,
        wait=wait,
        sensitive=True,
    )


def parse_ids(texts: list[str], most: int) -> tuple[UUID, ...]:
    """Memory ids as UUIDs.

    Raises:
        BadDataError: one is none, or there are more than `most`.
    """
    if len(texts) > most:
        raise BadDataError(f"{len(texts)} memory ids are more than {most}", hint="name tenant, project and limit instead")
    try:
        return tuple(dict.fromkeys(UUID(text) for text in texts))
    except ValueError:
        wrong = next(text for text in texts if not _is_uuid(text))
        raise BadDataError(
            f"memory id {wrong[:60]!r} is no UUID", reason="MemoryIdInvalid", hint="ids are those of the column memories.id"
        ) from None


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _patience() -> tuple[int, float]:
    """Tries of a memory before it is dead, and seconds that a lease holds."""
    tries = number(os.environ, "RAE_EXTRACTION_TRIES", 3, low=1, high=100)
    return int(tries), number(os.environ, "RAE_EXTRACTION_LEASE_SECONDS", 900, low=1, high=86400)


async def _run(invocation: Invocation, params: ExtractionParams, model: str | None) -> Outcome:
    from rae_jobctl.llm.settings import LlmSettings
    from rae_jobctl.tasks.extraction.task import TASK, extract_graph, preview
    from rae_jobctl.tasks.metering.settings import LimitSettings

    settings = LlmSettings.from_env(model=model)
    async with pool_and_provider(settings, TASK, invocation.stop) as (pool, provider):
        if invocation.dry_run:
            return await preview(pool, provider, params)
        slot, stop, wait = invocation.slot, invocation.stop, invocation.wait
        limits = LimitSettings.from_env()
        return await extract_graph(pool, provider, params, slot=slot, stop=stop, wait=wait, price=settings.price, limits=limits)


def _summarise(outcome: Outcome) -> dict[str, object] | None:
    from rae_jobctl.tasks.extraction.task import summarise

    return summarise(outcome)


def _render(outcome: Outcome) -> None:
    typer.echo(outcome.message)
    triples = outcome.result.get("triples", [])
    for triple in triples[:_SHOWN]:
        fact = f"{triple['subject']} --{triple['predicate']}--> {triple['object']}"
        typer.echo(f"  {triple['confidence']:.2f}  {fact}")
        typer.echo(f'        "{triple["evidence"]}"')
    if len(triples) > _SHOWN:
        typer.echo(f"  … {len(triples) - _SHOWN} more with --output json")
    for name, value in outcome.counters.items():
        typer.echo(f"{name:>20}  {value}")
    for name, value in outcome.result.get("estimate", {}).items():
        typer.echo(f"{name:>20}  {value}")
