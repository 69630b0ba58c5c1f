"""`rae-jobctl doctor`: what is amiss with an installation."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict

import typer

from rae_jobctl.commands.options import Output, OutputOption

app = typer.Typer(add_completion=False)
_SIGNS = {"ok": ("✓", "green"), "off": ("-", "bright_black"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


@app.command(epilog="Examples: rae-jobctl doctor; kubectl exec deploy/... -- rae-jobctl doctor -o json")
def doctor(output: OutputOption = Output.TABLE) -> None:
    """Look for what is amiss: settings, database, schema, rights, tenants' own settings, days that are missed, dead letters.

    Nothing is written. It leaves with 0 when nothing failed (warnings count as well), else with 78 or 65 when something must be
    mended, or with 75 when it may pass.
    """
    codes = asyncio.run(_examine(output))
    if codes:
        raise typer.Exit(max(codes, key=lambda code: (code != 75, code)))


async def _examine(output: Output) -> list[int]:
    from rae_jobctl.slots import resolve_slot
    from rae_jobctl.tasks.doctor import Check, Health, examine

    checks: list[Check] = []
    async for check in examine(resolve_slot()):
        checks.append(check)
        if output is Output.TABLE:
            _show(check.name, check.health, check.message, check.hint)
    if output is Output.JSON:
        typer.echo(json.dumps([{**asdict(check), "exit_code": int(check.exit_code)} for check in checks], ensure_ascii=False))
    return [int(check.exit_code) for check in checks if check.health is Health.FAILED]


def _show(name: str, health: str, message: str, hint: str | None) -> None:
    sign, colour = _SIGNS[health]
    styled = typer.style(sign, fg=colour, bold=True) if sys.stdout.isatty() else sign
    typer.echo(f"{styled} {name:<19} {message}")
    if hint and health in ("warning", "failed"):
        typer.echo(f"  {'':<19} {typer.style('mend it: ', dim=True) if sys.stdout.isatty() else 'mend it: '}{hint}")
