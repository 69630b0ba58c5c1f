"""How a decay goes through a tenant's rows: by single places where they are few, by ranges of pages where they are many.

A tenant of a few thousand rows must not read a table of ten million; a tenant that fills the table must not ask the index for
each row. Either way a batch is one transaction of about TARGET_SECONDS, and nothing is held between two of them. A batch is
measured in rows, never in pages alone: after a stretch of pages without a due row there may come one that is full of them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import asyncpg

from rae_jobctl.deadline import StopSignal
from rae_jobctl.tasks.decay.params import Factors
from rae_jobctl.tasks.decay.statements import (
    BATCH_END,
    DECAY_PAGES,
    DECAY_ROWS,
    DUE_ROWS,
    FILLS_TABLE,
    LOST_PAGES,
    LOST_ROWS,
    TABLE_SIZE,
)

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection
    from rae_jobctl.progress import Progress

#: A tenant of up to so many rows, or with up to this share of the table, is walked by the places of its rows.
FEW_ROWS = 50_000
SMALL_SHARE = 0.05
#: The first batch; from then on `paced` says.
BATCH_ROWS = 2000
_LEAST_ROWS, _MOST_ROWS = 100, 50_000
#: A batch looks through at most so many pages (32 MB), due rows or none.
BATCH_PAGES = 4096
TARGET_SECONDS = 0.25
#: Looks in a row that change nothing although rows are due: RAE moves them faster than we follow. Tomorrow makes it good.
_FRUITLESS_LOOKS = 5
#: A row that RAE keeps locked must not keep our other rows of the batch locked with it.
_LOCK_TIMEOUT_MS = 500
_LOCK_TRIES = 20
_PAGE, _FOUND = "page", "found"


@dataclass
class Walk:
    """One tenant's decay.

    Attributes:
        run: the ledger's run, whose batches are committed one by one.
        day: up to which to decay.
        factors: by missed days.
        progress: told the rows of each batch.
        behind: count what is behind by more days than are made good.
        stop: asked while waiting for a row.
    """

    run: Run
    day: date
    factors: Factors
    progress: Progress
    behind: bool
    stop: StopSignal

    async def all(self) -> None:
        """Decay every due row of the tenant.

        A row that RAE writes at the same moment may move out of sight, so it is looked for until nothing is found.

        Raises:
            TimeSliced, SoftLimitReached: the soft limit came between two batches.
        """
        look = self._by_pages if await self._fills_table() else self._by_places
        fruitless = 0
        while fruitless < _FRUITLESS_LOOKS:
            before = self.run.counters.get("decayed", 0)
            if not await look():
                return
            fruitless = 0 if self.run.counters.get("decayed", 0) > before else fruitless + 1

    async def _fills_table(self) -> bool:
        async with self.run.reading() as connection:
            await connection.execute("SELECT set_config('lock_timeout', $1, false)", str(_LOCK_TIMEOUT_MS))
            return bool(await connection.fetchval(FILLS_TABLE, self.run.key.tenant_id, FEW_ROWS, SMALL_SHARE))

    async def _by_places(self) -> bool:
        """Whether rows were due."""
        async with self.run.reading() as connection:
            rows = await connection.fetch(DUE_ROWS, self.run.key.tenant_id, self.day, FEW_ROWS)
        places = [row["ctid"] for row in rows]
        begin, size = 0, BATCH_ROWS
        while begin < len(places):
            began = time.monotonic()
            await self._batch(partial(self._change_rows, places[begin : begin + size]))
            begin += size
            size = paced(size, time.monotonic() - began)
        return bool(places)

    async def _change_rows(self, places: list[str], connection: Connection) -> int:
        return await self._change(connection, DECAY_ROWS, LOST_ROWS, places)

    async def _by_pages(self) -> bool:
        """Whether rows were due. A look may take many attempts: the cursor says how far it is and what it has found."""
        async with self.run.reading() as connection:
            pages = await connection.fetchval(TABLE_SIZE)
        rows = BATCH_ROWS
        while self._cursor[_PAGE] < pages:
            began = time.monotonic()
            count = await self._batch(partial(self._change_pages, rows))
            seconds = time.monotonic() - began
            # What an emptier batch took says nothing of a full one, unless it took too long already.
            if count >= rows or seconds > TARGET_SECONDS:
                rows = paced(rows, seconds)
        found = self._cursor[_FOUND]
        self.run.cursor = None
        return found > 0

    @property
    def _cursor(self) -> dict[str, int]:
        return self.run.cursor or {_PAGE: 0, _FOUND: 0}

    async def _change_pages(self, rows: int, connection: Connection) -> int:
        """Change the due rows of the next pages: as many pages as hold about so many of them."""
        first, found = self._cursor[_PAGE], self._cursor[_FOUND]
        end = first + BATCH_PAGES
        due = await connection.fetchrow(BATCH_END, self.run.key.tenant_id, self.day, (first, 0), (end, 0), rows)
        assert due is not None
        if due["memories"] >= rows:
            end = due["place"][0] + 1
        count = await self._change(connection, DECAY_PAGES, LOST_PAGES, (first, 0), (end, 0)) if due["memories"] else 0
        self.run.cursor = {_PAGE: end, _FOUND: found + count}
        return count

    async def _batch(self, change: Callable[[Connection], Awaitable[int]]) -> int:
        """One transaction; tried again when a row in it is locked.

        Raises:
            asyncpg.LockNotAvailableError: it still was after _LOCK_TRIES.
        """
        for tries in range(1, _LOCK_TRIES + 1):
            self.run.check_stop()
            try:
                async with self.run.batch() as connection:
                    count = await change(connection)
                break
            except asyncpg.LockNotAvailableError:
                if tries == _LOCK_TRIES:
                    raise
                await self.stop.pause(0.1 * tries)
        self.progress.advance(count)
        return count

    async def _change(self, connection: Connection, update: str, lost: str, *where: object) -> int:
        tenant, factors, counters = self.run.key.tenant_id, self.factors, self.run.counters
        if self.behind:
            row = await connection.fetchrow(lost, tenant, self.day, len(factors.factors), *where)
            assert row is not None
            counters["lostMemories"] = counters.get("lostMemories", 0) + row["memories"]
            counters["lostDays"] = max(counters.get("lostDays", 0), row["days"])
        tag = await connection.execute(update, tenant, self.day, factors.factors, factors.floors, *where)
        count = int(tag.rsplit(" ", 1)[-1])
        counters["decayed"] = counters.get("decayed", 0) + count
        return count


def paced(rows: int, seconds: float) -> int:
    """The number of rows for the next batch: towards TARGET_SECONDS, at most half or double of this one."""
    wanted = rows * TARGET_SECONDS / max(seconds, 1e-6)
    return int(min(max(wanted, rows / 2, _LEAST_ROWS), rows * 2, _MOST_ROWS))
