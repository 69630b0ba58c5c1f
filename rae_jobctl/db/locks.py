"""Session locks: on a run's own key, which says that it lives, and on the resource that it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import RunLocked, SoftLimitReached

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Resource:
    """What a run changes, within its tenant and project; a run without a project changes all of the tenant's.

    Attributes:
        kind: "graph", "memories", "cache", or "queue" (of all tenants).
        mode: "shared" with others of its kind, or "exclusive".
    """

    kind: Literal["graph", "memories", "cache", "queue"]
    mode: Literal["shared", "exclusive"]


@dataclass(frozen=True)
class Lock:
    """An advisory lock by name; `holder` says in a message what it protects."""

    name: str
    shared: bool
    holder: str


def resource_locks(resource: Resource, tenant_id: UUID, project: str) -> list[Lock]:
    """The locks of a resource: of the tenant as a whole, then of the project.

    A run over all projects takes the first exclusively, so that it and the runs of single projects exclude each other.
    """
    about = f"{resource.kind} of tenant {tenant_id}"
    whole = f"rae_jobs.{resource.kind}:{tenant_id}:*"
    if not project:
        return [Lock(whole, False, about)]
    one = f"rae_jobs.{resource.kind}:{tenant_id}:={project}"
    return [Lock(whole, True, about), Lock(one, resource.mode == "shared", f"{about}, project {project!r}")]


async def lock_key(connection: Connection, name: str) -> int:
    """The 64-bit key of a lock's name."""
    return int(await connection.fetchval("SELECT hashtextextended($1, 0)", name))


async def take(connection: Connection, lock: Lock, *, wait: bool, stop: StopSignal | None) -> None:
    """Take a session lock, at once or, with `wait`, as soon as it is free.

    Raises:
        RunLocked: another session holds it.
        SoftLimitReached: asked to stop while waiting.
    """
    function = "pg_try_advisory_lock_shared" if lock.shared else "pg_try_advisory_lock"
    # Polled, not blocked: a session that blocks holds a snapshot, which keeps dead rows and index builds of others waiting.
    while not await connection.fetchval(f"SELECT {function}(hashtextextended($1, 0))", lock.name):
        if not wait:
            raise RunLocked(
                f"another run is at work on {lock.holder}",
                hint="see `rae-jobctl runs list --status running`; with --wait this run waits for its turn",
            )
        if await _stopped(stop):
            raise SoftLimitReached(f"stopped by {stop.cause if stop else 'a signal'} while waiting for {lock.holder}")


async def _stopped(stop: StopSignal | None) -> bool:
    return await (stop or StopSignal()).pause(_POLL_SECONDS)
