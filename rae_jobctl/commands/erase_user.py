"""`rae-jobctl erase-user`: all of one person's data of one tenant goes."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rae_jobctl.commands.execution import Invocation, execute
from rae_jobctl.commands.options import DryRunOption, Output, OutputOption, SlotOption, WaitOption
from rae_jobctl.errors import BadDataError, UsageError
from rae_jobctl.outcome import Outcome

if TYPE_CHECKING:
    from rae_jobctl.tasks.erasure.elsewhere import Requests

app = typer.Typer(add_completion=False)

_MAX_FILE = 64 * 1024


@app.command(epilog="Example: rae-jobctl erase-user --tenant demo-tenant --identifier-file - --dry-run")
def erase_user(
    tenant: Annotated[
        str,
        typer.Option(
            "--tenant", envvar="RAE_ERASE_TENANT", help="Whose data: tenant by UUID or by unique name.", show_default=False
        ),
    ],
    identifier: Annotated[
        list[str] | None,
        typer.Option("--identifier", help="Of the person: a name, an address, an id. Again for another one.", show_default=False),
    ] = None,
    identifier_file: Annotated[
        str | None,
        typer.Option(
            "--identifier-file",
            help="One identifier a line; - is standard input. So none stands in a process list. Or set RAE_ERASE_IDENTIFIER.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Delete the tenant's requests that name the person, with their Jobs and pods.")
    ] = False,
    output: OutputOption = Output.TABLE,
    dry_run: DryRunOption = False,
    slot: SlotOption = None,
    wait: WaitOption = False,
) -> None:
    """Erase one person of one tenant (GDPR, Article 17): memories and all that rests on them, graph, reflections, logs, cache.

    An identifier counts as a whole word or value, never as part of a longer one. RAE_ERASURE_KEY is the secret of the keyed hash
    that stands for the person in the audit.
    """
    from rae_jobctl.tasks.erasure.subject import checked_identifiers, erasure_key
    from rae_jobctl.tasks.erasure.task import TASK

    key = erasure_key()
    identifiers = checked_identifiers(_given(identifier, identifier_file))
    if not dry_run and not yes:
        _confirm(tenant, len(identifiers))

    async def work(invocation: Invocation) -> Outcome:
        from rae_jobctl.db.pool import open_pool
        from rae_jobctl.settings import DatabaseSettings
        from rae_jobctl.tasks.erasure.task import ErasureParams
        from rae_jobctl.tasks.erasure.task import erase_user as run

        async with open_pool(DatabaseSettings.from_env(), TASK) as pool, _requests(kubernetes) as requests:
            params = ErasureParams(tenant, identifiers, key, invocation.slot, invocation.stop, invocation.wait, requests)
            return await run(pool, params, dry_run=dry_run)

    execute(TASK, work, output=output, render=_show, slot=slot, dry_run=dry_run, wait=wait)


def _requests(wanted: bool) -> AbstractAsyncContextManager[Requests | None]:
    if not wanted:
        return nullcontext()
    from rae_jobctl.kube import KubeBoard

    return KubeBoard.from_env()


def _given(identifiers: list[str] | None, path: str | None) -> list[str]:
    from rae_jobctl.tasks.erasure.subject import IDENTIFIER_VARIABLE

    given = [*(identifiers or [])]
    if path is not None:
        given += _read(path).splitlines()
    return given or os.environ.get(IDENTIFIER_VARIABLE, "").splitlines()


def _read(path: str) -> str:
    try:
        raw = sys.stdin.buffer.read(_MAX_FILE + 1) if path == "-" else Path(path).read_bytes()[: _MAX_FILE + 1]
    except OSError as error:
        raise UsageError(f"cannot read --identifier-file {path!r}: {error.strerror}") from None
    if len(raw) > _MAX_FILE:
        raise BadDataError(f"--identifier-file has more than {_MAX_FILE} bytes: one run erases one person")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadDataError("--identifier-file is not in UTF-8") from None


def _confirm(tenant: str, identifiers: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError("erase-user deletes for good: give --yes where nobody can be asked", hint="look first with --dry-run")
    names = "one identifier" if identifiers == 1 else f"{identifiers} identifiers"
    if not typer.confirm(f"Erase the person with {names} from tenant {tenant!r}? There is no way back.", err=True):
        raise UsageError("nothing was erased")


def _show(outcome: Outcome) -> None:
    for table, counts in outcome.result.get("tables", {}).items():
        typer.echo(f"{typer.style(table, bold=True)}: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    for title, name in (("cache keys", "cacheKeys"), ("requests", "requests")):
        if name in outcome.result:
            typer.echo(f"{title}: {outcome.result[name]}")
    for table, count in {**outcome.result.get("remaining", {}), **outcome.result.get("notCovered", {})}.items():
        typer.echo(f"{typer.style(table, bold=True, fg='red')}: {count} rows left, not covered")
    for table in outcome.result.get("notReadable", []):
        typer.echo(f"{typer.style(table, bold=True, fg='red')}: not readable")
    if outcome.result.get("missingTables"):
        typer.echo(f"not in this installation: {', '.join(outcome.result['missingTables'])}")
    typer.echo(outcome.message)
    if outcome.result.get("hint"):
        typer.echo(f"hint: {outcome.result['hint']}")
