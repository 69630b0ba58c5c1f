"""Where a comparison reads and how it remembers its place: in a run of the ledger, or nowhere for a dry run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.errors import SoftLimitReached

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool
    from rae_jobctl.deadline import StopSignal


class Session(Protocol):
    """What a step needs of a run; `Run` is one."""

    cursor: dict[str, Any] | None
    counters: dict[str, int]

    def reading(self) -> AbstractAsyncContextManager[Connection]:
        """A read-only transaction of the tenant."""

    def batch(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction that stores cursor and counters with what it writes."""

    def check_stop(self) -> None:
        """Leave when the soft limit or a signal came."""


@dataclass
class DryRun:
    """A session that writes nothing; a stop ends it without a trace."""

    pool: Pool
    tenant_id: UUID
    stop: StopSignal
    cursor: dict[str, Any] | None = None
    counters: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """See Session."""
        async with self.pool.acquire() as connection, tenant_transaction(connection, self.tenant_id, readonly=True):
            yield connection

    def batch(self) -> AbstractAsyncContextManager[Connection]:
        """See Session: read-only here, so that a write by mistake is an error."""
        return self.reading()

    def check_stop(self) -> None:
        """See Session.

        Raises:
            SoftLimitReached: always, since a dry run keeps nothing to go on from.
        """
        if self.stop.should_stop:
            raise SoftLimitReached(f"stopped by {self.stop.cause} during a dry run, which keeps nothing to go on from")
