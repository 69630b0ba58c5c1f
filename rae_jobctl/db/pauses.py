"""What somebody has paused: the queue of extraction or the scheduling of reflections, for all, a tenant or one of its projects.

A pause keeps new requests from being made. Those that were made before go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.db.tenants import ALL_TENANTS

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Record

_LIST = """
SELECT what, tenant_id, project, reason, paused_at
FROM rae_jobs.pauses
WHERE $1::text IS NULL OR what = $1
ORDER BY what, tenant_id, project
"""

# The first pause counts from when it began; a later one may give another reason.
_PAUSE = """
INSERT INTO rae_jobs.pauses AS p (what, tenant_id, project, reason)
VALUES ($1, $2, $3, $4)
ON CONFLICT (what, tenant_id, project) DO UPDATE
SET reason = coalesce(excluded.reason, p.reason)
RETURNING what, tenant_id, project, reason, paused_at, xmax = 0 AS made
"""

_RESUME = """
DELETE FROM rae_jobs.pauses
WHERE what = $1 AND tenant_id = $2 AND project = $3
RETURNING what, tenant_id, project, reason, paused_at
"""


class Pausable(StrEnum):
    """What can be paused."""

    QUEUE = "queue"
    REFLECTIONS = "reflections"


@dataclass(frozen=True)
class Pause:
    """One pause.

    Attributes:
        tenant_id: ALL_TENANTS for all.
        project: empty for all of the tenant's.
        reason: a person's words, None when none was given.
    """

    what: Pausable
    tenant_id: UUID
    project: str
    reason: str | None
    paused_at: datetime

    def covers(self, tenant_id: UUID, project: str) -> bool:
        """Whether nothing is asked for in this project."""
        return self.tenant_id == ALL_TENANTS or (self.tenant_id == tenant_id and self.project in ("", project))


def paused_by(pauses: Sequence[Pause], tenant_id: UUID, project: str) -> Pause | None:
    """The pause that covers a project, the widest first; None when it goes on."""
    return next((pause for pause in pauses if pause.covers(tenant_id, project)), None)


async def list_pauses(connection: Connection, what: Pausable | None = None) -> list[Pause]:
    """All pauses, or those of one kind; wider ones before narrower ones."""
    return [_pause(row) for row in await connection.fetch(_LIST, what)]


async def pause(connection: Connection, what: Pausable, tenant_id: UUID, project: str, reason: str | None) -> tuple[Pause, bool]:
    """Pause; returns the pause, and whether it was not there before."""
    row = await connection.fetchrow(_PAUSE, what, tenant_id, project, reason)
    assert row is not None
    return _pause(row), bool(row["made"])


async def resume(connection: Connection, what: Pausable, tenant_id: UUID, project: str) -> Pause | None:
    """Take back exactly this pause, not those of narrower or wider reach; None when there was none."""
    row = await connection.fetchrow(_RESUME, what, tenant_id, project)
    return None if row is None else _pause(row)


def _pause(row: Record) -> Pause:
    return Pause(Pausable(row["what"]), row["tenant_id"], row["project"], row["reason"], row["paused_at"])
