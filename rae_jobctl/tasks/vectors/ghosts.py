"""Ghosts: vectors whose memory is not there. They cost space and answer searches with ids that lead nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.tasks.deletion import Audit, record_deletion
from rae_jobctl.tasks.vectors import findings as count
from rae_jobctl.tasks.vectors.findings import Findings
from rae_jobctl.tasks.vectors.outbox import enqueue, work_off
from rae_jobctl.vectors.types import Page, Point, PointId

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection, Pool
    from rae_jobctl.progress import Progress
    from rae_jobctl.tasks.vectors.params import ConsistencyParams
    from rae_jobctl.tasks.vectors.session import Session
    from rae_jobctl.vectors.client import QdrantClient

PAGE = 1000
#: Ghosts of one deletion and its audit row.
BATCH = 500
STEP = "ghosts"
_DONE = "done"
#: When RAE says that it has written a point.
_TIMES = ("created_at", "timestamp")
#: A time further ahead is no clock that runs fast, but nonsense.
_AHEAD = timedelta(days=1)
_MILLISECONDS = 1e11

_THERE = """
SELECT id
FROM memories
WHERE tenant_id = $1
  AND id = ANY ($2)
"""

_WHY = Audit("vectors", "orphaned")


@dataclass(frozen=True)
class GhostStep:
    """The search for ghosts among one tenant's points.

    Attributes:
        tenant_id: whose.
        session: where the place is kept.
        run: the ledger's run when ghosts are to be deleted, else None.
        pool: for the outbox.
    """

    tenant_id: UUID
    qdrant: QdrantClient
    params: ConsistencyParams
    session: Session
    run: Run | None
    pool: Pool
    progress: Progress

    async def all(self) -> None:
        """Go through every point from where an earlier attempt stopped.

        Raises:
            TimeSliced, SoftLimitReached: the soft limit came between two pages.
            TransientError, ConfigError: of the database or of Qdrant.
        """
        place = Findings(self.session).place
        if place.get("step", STEP) != STEP:
            return
        offset: PointId | None = place.get("offset")
        while True:
            self.session.check_stop()
            page = await self.qdrant.scroll(self.tenant_id, offset, PAGE, _TIMES)
            await self._page(page)
            offset = page.next
            if offset is None:
                return

    async def _page(self, page: Page) -> None:
        async with self.session.reading() as connection:
            lost = await self._without_memory(connection, page.points)
        now = datetime.now(UTC)
        old = [point for point in lost if not is_fresh(point, now, self.params.grace)]
        place = {"step": STEP, "offset": page.next} if page.next is not None else {"step": _DONE}
        if self.run is not None:
            for begin in range(0, len(old), BATCH):
                self.run.check_stop()
                await self._delete(self.run, old[begin : begin + BATCH])
        async with self.session.batch():
            found = Findings(self.session)
            found.move(**place)
            found.add(count.POINTS, len(page.points))
            found.add(count.GHOSTS_FRESH, len(lost) - len(old))
            if self.run is None:
                self._found(old, deleted=self.params.repair)
        self.progress.advance(len(page.points))

    def _found(self, ghosts: Sequence[Point], *, deleted: bool) -> None:
        found = Findings(self.session)
        found.add(count.GHOSTS, len(ghosts))
        if deleted:
            found.add(count.GHOSTS_DELETED, len(ghosts))
        found.note(count.GHOSTS, [ghost.id for ghost in ghosts])

    async def _delete(self, run: Run, ghosts: Sequence[Point]) -> None:
        """The second look, the audit row and the outbox in one transaction; then Qdrant."""
        async with run.batch() as connection:
            gone = await self._without_memory(connection, ghosts)
            ids = [ghost.uuid for ghost in gone if ghost.uuid is not None]
            numbers = [ghost.id for ghost in gone if ghost.uuid is None]
            await enqueue(connection, self.tenant_id, ids)
            keys = [str(one) for one in numbers]
            await record_deletion(connection, run, ids, _WHY, table=f"qdrant:{self.qdrant.collection}", keys=keys)
            self._found(gone, deleted=True)
        await work_off(self.pool, self.qdrant, self.tenant_id)
        # A number has no place in the outbox: after a crash here the next run finds the point again.
        await self.qdrant.delete(self.tenant_id, numbers)

    async def _without_memory(self, connection: Connection, points: Sequence[Point]) -> list[Point]:
        ids = [point.uuid for point in points if point.uuid is not None]
        rows = await connection.fetch(_THERE, self.tenant_id, ids)
        there = {row["id"] for row in rows}
        return [point for point in points if point.uuid not in there]


def is_fresh(point: Point, now: datetime, grace: float) -> bool:
    """Whether a point was written within the last `grace` seconds, so that its row may be on its way.

    A point that does not say when is not fresh: RAE writes the row first.
    """
    written = next((moment for name in _TIMES if (moment := _moment(point.payload.get(name))) is not None), None)
    return written is not None and now - timedelta(seconds=grace) < written < now + _AHEAD


def _moment(value: Any) -> datetime | None:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > _MILLISECONDS else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
