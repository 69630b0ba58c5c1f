"""What `pause` and `resume` share: whose requests are meant, and how that is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer

from rae_jobctl.errors import BadDataError, UsageError

if TYPE_CHECKING:
    from rae_jobctl.db.pauses import Pause
    from rae_jobctl.db.pool import Connection

T = TypeVar("T")
ProjectOption = Annotated[str | None, typer.Option("--project", help="One project of the tenant.", show_default="all")]
_LONGEST = 255


@dataclass(frozen=True)
class Reach:
    """Whose requests are meant.

    Attributes:
        tenant_id: all tenants when it is tenants.ALL_TENANTS.
        project: empty for all of the tenant's.
        words: the same for a person.
    """

    tenant_id: UUID
    project: str
    words: str


@asynccontextmanager
async def _connection(command: str) -> AsyncIterator[Connection]:
    from rae_jobctl.db.pool import connect
    from rae_jobctl.db.schema import require_schema
    from rae_jobctl.settings import DatabaseSettings

    async with connect(DatabaseSettings.from_env(), command) as connection:
        await require_schema(connection)
        yield connection


def with_connection(command: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    """What `work` returns; its transactions are its own."""

    async def working() -> T:
        async with _connection(command) as connection:
            return await work(connection)

    return asyncio.run(working())


def check_reach(tenant: str | None, project: str | None) -> None:
    """Refuse a project without its tenant, and names that no project has.

    Raises:
        UsageError: before anything is connected to.
    """
    if project is not None and tenant is None:
        raise UsageError("--project needs --tenant: projects of two tenants may have the same name")
    if project is not None and not (project.strip() and len(project) <= _LONGEST):
        raise UsageError(f"--project must have 1 to {_LONGEST} characters, not {len(project)}")


async def reach_of(connection: Connection, tenant: str | None, project: str | None, *, gone: bool = False) -> Reach:
    """Whom the options mean.

    Args:
        gone: also a tenant of which nothing is kept any more, by its UUID.

    Raises:
        BadDataError: no tenant, or more than one.
    """
    from rae_jobctl.db.tenants import ALL_TENANTS, resolve_tenant

    if tenant is None:
        return Reach(ALL_TENANTS, "", "all tenants")
    try:
        found = await resolve_tenant(connection, tenant)
        tenant_id, name = found.id, found.name
    except BadDataError:
        if not (gone and _is_uuid(tenant)):
            raise
        tenant_id, name = UUID(tenant.strip()), tenant.strip()
    return Reach(tenant_id, project or "", f"tenant {name}" + (f", project {project!r}" if project else ""))


def _is_uuid(text: str) -> bool:
    try:
        UUID(text.strip())
    except ValueError:
        return False
    return True


def pause_as_json(pause: Pause) -> dict[str, Any]:
    """A pause for `-o json`; null stands for all."""
    from rae_jobctl.db.tenants import ALL_TENANTS

    return {
        "what": str(pause.what),
        "tenantId": None if pause.tenant_id == ALL_TENANTS else str(pause.tenant_id),
        "project": pause.project or None,
        "reason": pause.reason,
        "pausedAt": pause.paused_at.isoformat(),
    }


def since(pause: Pause) -> str:
    """Since when, and why, in words."""
    return f"since {pause.paused_at:%Y-%m-%d %H:%M} UTC" + (f" ({pause.reason})" if pause.reason else "")
