"""`rae-jobctl schedule-reflections`: reflection requests for projects with activity."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, WaitOption
from rae_jobctl.settings import number

if TYPE_CHECKING:
    from rae_jobctl.outcome import Outcome
    from rae_jobctl.tasks.scheduling.reflections import ReflectionPolicy

app = typer.Typer(add_completion=False)


@app.command()
def schedule_reflections(
    output: OutputOption = Output.TABLE, dry_run: DryRunOption = False, slot: SlotOption = None, wait: WaitOption = False
) -> None:
    """Make a ReflectionRequest for every project with new episodic memories since the last finished run.

    Not for one with fewer than RAE_REFLECTION_MIN_MEMORIES (3) in RAE_REFLECTION_WINDOW_HOURS (24), nor within
    RAE_REFLECTION_COOL_DOWN_MINUTES (60) of its last reflection. What is skipped is listed with the reason.
    Notifications that reflections left behind are delivered (docs/webhooks.md).
    """

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.kube import KubeBoard
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.scheduling.reflections import TASK, schedule_reflections
        from rae_jobctl.webhooks.settings import WebhookSettings

        policy, webhook = _policy(), WebhookSettings.from_env()
        async with KubeBoard.from_env() as board, open_pool(DatabaseSettings.from_env(), TASK) as pool:
            slot, stop, wait = invocation.slot, invocation.stop, invocation.wait
            return await schedule_reflections(
                pool, board, policy, slot=slot, stop=stop, dry_run=invocation.dry_run, wait=wait, webhook=webhook
            )

    execute("schedule-reflections", work, output=output, render=_render, slot=slot, dry_run=dry_run, wait=wait)


def _policy() -> ReflectionPolicy:
    from rae_jobctl.tasks.scheduling.reflections import ReflectionPolicy

    env = os.environ
    return ReflectionPolicy(
        window=timedelta(hours=number(env, "RAE_REFLECTION_WINDOW_HOURS", 24, low=1, high=168)),
        cool_down=timedelta(minutes=number(env, "RAE_REFLECTION_COOL_DOWN_MINUTES", 60, low=0, high=10_080)),
        min_memories=int(number(env, "RAE_REFLECTION_MIN_MEMORIES", 3, low=1, high=50)),
        max_memories=int(number(env, "RAE_REFLECTION_MAX_MEMORIES", 50, low=1, high=1000)),
        max_requests=int(number(env, "RAE_REFLECTION_MAX_REQUESTS", 100, low=1, high=10_000)),
    )


def _render(outcome: Outcome) -> None:
    typer.echo(outcome.message)
    for request in outcome.result.get("requests", []):
        typer.echo(f"  {request['name']}  {request['project']}")
    for entry in outcome.result.get("skipped", []):
        typer.echo(f"  skipped {entry['project']} of {entry['tenantId']}: {entry['reason']}")
    for name, value in outcome.counters.items():
        typer.echo(f"{name:>20}  {value}")
