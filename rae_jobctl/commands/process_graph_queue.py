"""`rae-jobctl process-graph-queue`: requests for what waits for extraction."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption
from rae_jobctl.settings import number

if TYPE_CHECKING:
    from rae_jobctl.outcome import Outcome
    from rae_jobctl.tasks.scheduling.queue import QueuePolicy

app = typer.Typer(add_completion=False)


@app.command()
def process_graph_queue(output: OutputOption = Output.TABLE, dry_run: DryRunOption = False, slot: SlotOption = None) -> None:
    """Make a GraphExtractionRequest for every share of the queue that has none at work.

    RAE_QUEUE_MAX_SHARDS (8) of one project at 10,000 waiting memories, fewer below; RAE_QUEUE_MAX_REQUESTS (20) a run.
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.kube import KubeBoard
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.scheduling.queue import TASK, process_queue

        policy = _policy()
        async with KubeBoard.from_env() as board, open_pool(DatabaseSettings.from_env(), TASK) as pool:
            return await process_queue(pool, board, policy, dry_run=invocation.dry_run)

    execute("process-graph-queue", work, output=output, render=_render, slot=slot, dry_run=dry_run)


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
    for name, value in outcome.counters.items():
        typer.echo(f"{name:>20}  {value}")
