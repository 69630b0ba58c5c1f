"""How a decay goes through a tenant's rows: by single places where they are few, by ranges of pages where they are many.

A tenant of a few thousand rows must not read a table of ten million; a tenant that fills the table must not ask the index for
each row. Either way a batch is one transaction of about TARGET_SECONDS, and nothing is held between two of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from rae_jobctl.tasks.decay.params import Factors
from rae_jobctl.tasks.decay.statements import COUNT_UP_TO, DECAY_PAGES, DECAY_ROWS, DUE_ROWS, TABLE_SIZE

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection
    from rae_jobctl.progress import Progress

#: A tenant of up to so many rows is walked by their places.
FEW_ROWS = 50_000
BATCH_ROWS = 10_000
TARGET_SECONDS = 0.25
#: Looks for rows that moved while we walked; each finds fewer.
_LOOKS = 20
_PAGE = "page"


@dataclass
class Walk:
    """One tenant's decay.

    Attributes:
        run: the ledger's run, whose batches are committed one by one.
        day: up to which to decay.
        factors: by missed days.
        progress: told the rows of each batch.
    """

    run: Run
    day: date
    factors: Factors
    progress: Progress

    async def all(self) -> None:
        """Decay every due row of the tenant.

        A row that RAE writes at the same moment may move out of sight, so it is looked for until nothing is found.

        Raises:
            TimeSliced, SoftLimitReached: the soft limit came between two batches.
        """
        look = self._by_pages if await self._is_large() else self._by_places
        for _ in range(_LOOKS):
            if not await look():
                return

    async def _is_large(self) -> bool:
        async with self.run.reading() as connection:
            return bool(await connection.fetchval(COUNT_UP_TO, self.run.key.tenant_id, FEW_ROWS + 1) > FEW_ROWS)

    async def _by_places(self) -> int:
        async with self.run.reading() as connection:
            rows = await connection.fetch(DUE_ROWS, self.run.key.tenant_id, self.day, FEW_ROWS)
        places = [row["ctid"] for row in rows]
        for begin in range(0, len(places), BATCH_ROWS):
            self.run.check_stop()
            async with self.run.batch() as connection:
                await self._update(connection, DECAY_ROWS, places[begin : begin + BATCH_ROWS])
        return len(places)

    async def _by_pages(self) -> int:
        async with self.run.reading() as connection:
            size = await connection.fetchrow(TABLE_SIZE)
        assert size is not None
        step = max(1, int(BATCH_ROWS / max(1.0, size["rows_a_page"])))
        page = int((self.run.cursor or {}).get(_PAGE, 0))
        found = 0
        while page < size["pages"]:
            self.run.check_stop()
            began = time.monotonic()
            async with self.run.batch() as connection:
                found += await self._update(connection, DECAY_PAGES, f"({page},0)", f"({page + step},0)")
                page += step
                self.run.cursor = {_PAGE: page}
            step = paced(step, time.monotonic() - began)
        self.run.cursor = None
        return found

    async def _update(self, connection: Connection, statement: str, *where: object) -> int:
        tenant, factors = self.run.key.tenant_id, self.factors
        tag = await connection.execute(statement, tenant, self.day, factors.factors, factors.floors, *where)
        count = int(tag.rsplit(" ", 1)[-1])
        self.run.counters["decayed"] = self.run.counters.get("decayed", 0) + count
        self.progress.advance(count)
        return count


def paced(step: int, seconds: float) -> int:
    """The number of pages for the next batch: towards TARGET_SECONDS, at most half or double of this one."""
    wanted = step * TARGET_SECONDS / max(seconds, 1e-6)
    return max(1, int(min(max(wanted, step / 2), step * 2)))
