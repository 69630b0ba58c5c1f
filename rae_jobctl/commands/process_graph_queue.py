"""`rae-jobctl process-graph-queue`: requests for what waits for extraction."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, WaitOption
from rae_jobctl.errors import ConfigError
from rae_jobctl.settings import number

if TYPE_CHECKING:
    from rae_jobctl.deadline import StopSignal
    from rae_jobctl.outcome import Outcome
    from rae_jobctl.tasks.scheduling.backlog import Estimator
    from rae_jobctl.tasks.scheduling.queue import QueuePolicy

app = typer.Typer(add_completion=False)


@app.command()
def process_graph_queue(
    output: OutputOption = Output.TABLE, dry_run: DryRunOption = False, slot: SlotOption = None, wait: WaitOption = False
) -> None:
    """Make a GraphExtractionRequest for every share of the queue that has none at work.

    RAE_QUEUE_MAX_SHARDS (8) of one project at 10,000 waiting memories, fewer below; RAE_QUEUE_MAX_REQUESTS (20) a run. Not where
    `rae-jobctl pause queue` says so. With --dry-run all that waits is counted, with what it would cost.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.kube import KubeBoard
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.scheduling.queue import TASK, preview, process_queue

        policy = _policy()
        async with KubeBoard.from_env() as board, open_pool(DatabaseSettings.from_env(), TASK) as pool:
            if invocation.dry_run:
                async with _estimator(invocation.stop) as (estimator, told):
                    return (await preview(pool, board, policy, estimator)).with_result(**told)
            slot, stop, wait = invocation.slot, invocation.stop, invocation.wait
            return await process_queue(pool, board, policy, slot=slot, stop=stop, wait=wait)

    execute("process-graph-queue", work, output=output, render=_render, slot=slot, dry_run=dry_run, wait=wait)


@asynccontextmanager
async def _estimator(stop: StopSignal) -> AsyncIterator[tuple[Estimator | None, dict[str, str]]]:
    """The cost of memories by the provider that is configured here, and its name; none where it is not configured."""
    from rae_jobctl.llm.factory import open_provider
    from rae_jobctl.llm.settings import LlmSettings

    try:
        provider = open_provider(LlmSettings.from_env(), stop)
    except ConfigError as error:
        yield None, {"noEstimate": error.message}
        return
    try:
        yield provider.estimate_extraction, {"provider": provider.name, "model": provider.model}
    finally:
        await provider.aclose()


def _policy() -> QueuePolicy:
    from rae_jobctl.tasks.scheduling.queue import QueuePolicy

    return QueuePolicy(
        max_shards=int(number(os.environ, "RAE_QUEUE_MAX_SHARDS", 8, low=1, high=1000)),
        max_requests=int(number(os.environ, "RAE_QUEUE_MAX_REQUESTS", 20, low=1, high=10_000)),
        limit=int(number(os.environ, "RAE_QUEUE_REQUEST_LIMIT", 1000, low=1, high=1000)),
        tries=int(number(os.environ, "RAE_EXTRACTION_TRIES", 3, low=1, high=100)),
    )


def _render(outcome: Outcome) -> None:
    typer.echo(outcome.message)
    for request in outcome.result.get("requests", []):
        typer.echo(f"  {request['name']}  {request['project']}  share {request['shard'] + 1} of {request['shards']}")
    for entry in outcome.result.get("skipped", []):
        left = f"{entry['waiting']} waiting, {entry['held']} held back"
        typer.echo(f"  skipped {entry['project']} of {entry['tenantId']}: {entry['reason']} ({left})")
    if "noEstimate" in outcome.result:
        typer.echo(f"  no estimate of the cost: {outcome.result['noEstimate']}")
    for entry in outcome.result.get("estimates", []):
        now, backlog = (_cost(entry[name]) for name in ("now", "backlog"))
        typer.echo(f"  {entry['project']} of {entry['tenantId']} with {outcome.result['provider']}: now {now}; in all {backlog}")
    for name, value in outcome.counters.items():
        typer.echo(f"{name:>20}  {value}")


def _cost(estimate: Mapping[str, Any]) -> str:
    tokens = estimate["promptTokens"] + estimate["completionTokens"]
    usd = "price unknown" if estimate["costUsd"] is None else f"{estimate['costUsd']:.4f} USD"
    return f"{estimate['memories']} memories, about {tokens} tokens, {usd}"
