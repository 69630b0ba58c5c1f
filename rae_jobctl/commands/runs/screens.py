"""How a watched run is shown: live at a terminal, a line or an object for each change elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import typer

from rae_jobctl.commands.runs.ledger import COLOURS
from rae_jobctl.commands.runs.reading import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rae_jobctl.db.history import RunRecord

_BAR = 40


class Screen(Protocol):
    """Where watched runs are shown."""

    def show(self, runs: Sequence[RunRecord]) -> None:
        """Show the runs as they are now."""


class _Changes:
    """What has changed since the last look."""

    def __init__(self) -> None:
        self._last: dict[UUID, object] = {}

    def of(self, runs: Sequence[RunRecord]) -> Iterator[RunRecord]:
        for run in runs:
            state = (run.status, run.attempt, run.progress_done, run.progress_total, run.counters, run.cancel_requested_at)
            if self._last.get(run.id) != state:
                self._last[run.id] = state
                yield run


class Lines:
    """A line for each change."""

    def __init__(self) -> None:
        self._changes = _Changes()

    def show(self, runs: Sequence[RunRecord]) -> None:
        for run in self._changes.of(runs):
            typer.echo(f"{datetime.now(UTC):%H:%M:%S} {str(run.id)[:8]} {run.task} {run.tenant} {_words(run)}".rstrip())


class JsonLines:
    """An object for each change."""

    def __init__(self) -> None:
        self._changes = _Changes()

    def show(self, runs: Sequence[RunRecord]) -> None:
        for run in self._changes.of(runs):
            typer.echo(json.dumps(_object(run), ensure_ascii=False, default=str))


class _Live:
    def __init__(self, update: Any) -> None:
        self._update = update

    def show(self, runs: Sequence[RunRecord]) -> None:
        self._update(_picture(runs), refresh=True)


@contextmanager
def live_screen() -> Iterator[Screen]:
    """A picture that is drawn anew in place; the last one stays."""
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield _Live(live.update)


def _words(run: RunRecord) -> str:
    parts = [run.status, f"attempt {run.attempt}", _done(run), *(f"{name}={value}" for name, value in run.counters.items())]
    if run.cancel_requested_at and run.status == "running":
        parts.append("asked to stop")
    if run.status != "running":
        parts += [run.reason or "", run.message or ""]
    return " ".join(part for part in parts if part)


def _done(run: RunRecord) -> str:
    if run.progress_done is None:
        return ""
    return f"{run.progress_done}/{run.progress_total}" if run.progress_total else str(run.progress_done)


def _object(run: RunRecord) -> dict[str, Any]:
    names = ("id", "task", "tenant_id", "tenant", "project", "slot", "status", "attempt", "progress_done", "progress_total")
    about = {name: getattr(run, name) for name in (*names, "counters", "reason", "message", "exit_code", "cancel_requested_at")}
    return {"at": datetime.now(UTC).isoformat(), "elapsed_seconds": round(_elapsed(run).total_seconds(), 1), **about}


def _elapsed(run: RunRecord) -> timedelta:
    return (run.finished_at or datetime.now(UTC)) - run.started_at


def _picture(runs: Sequence[RunRecord]) -> RenderableType:
    if not runs:
        return "nothing runs; Ctrl-C ends the watch"
    return _one(runs[0]) if len(runs) == 1 else table(list(runs))


def _one(run: RunRecord) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    head = Text.assemble((f"{run.task} ", "bold"), f"{run.tenant} ", (run.status, COLOURS.get(run.status, "")))
    head.append(f"  attempt {run.attempt}, {str(_elapsed(run)).split('.')[0]}  {str(run.id)[:8]}")
    if run.cancel_requested_at and run.status == "running":
        head.append("  asked to stop", style="yellow")
    lines: list[RenderableType] = [head]
    if run.progress_total:
        lines.append(ProgressBar(total=run.progress_total, completed=run.progress_done or 0, width=_BAR))
    if run.progress_done is not None:
        lines.append(Text(_done(run)))
    if run.counters:
        lines.append(Text("  ".join(f"{name} {value}" for name, value in run.counters.items())))
    if run.status != "running":
        lines.append(Text(f"{run.reason or ''} {run.message or ''}".strip()))
    return Group(*lines)
