"""How a decay goes through a tenant's rows: by single places where they are few, by ranges of pages where they are many.

A tenant of a few thousand rows must not read a table of ten million; a tenant that fills the table must not ask the index for
each row. Either way a batch is one transaction of at most about TARGET_SECONDS, and nothing is held between two of them. A batch
is measured in rows, never in pages alone: after a stretch of pages without a due row there may come one that is full of them.

A full page has no room for the new versions of all its rows, so that each would go elsewhere and into every index. Therefore a
stretch of pages is changed in stripes, every STRIPES-th row in a transaction: what the first stripe leaves dead, the second
finds as free space beside its own rows (a HOT update, which no index sees), and so on. It costs the first decay a tenth of the
index work, and the next ones hardly any: the room stays.
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
    DECAY_ROWS,
    DUE_PAGES,
    DUE_ROWS,
    FILLS_TABLE,
    LOST_ROWS,
    TABLE_SIZE,
    TIDY_PAGES,
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
_LEAST_ROWS, _MOST_ROWS = 100, 5000
STRIPES = 10
#: A look for due rows goes through at most so many pages (32 MB).
LOOK_PAGES = 4096
TARGET_SECONDS = 0.25
#: Looks in a row that change nothing although rows are due: RAE moves them faster than we follow. Tomorrow makes it good.
_FRUITLESS_LOOKS = 5
#: A row that RAE keeps locked must not keep our other rows of the batch locked with it.
_LOCK_TIMEOUT_MS = 500
_LOCK_TRIES = 20
_PAGE, _FOUND = "page", "found"
#: Page, and number within it.
Place = tuple[int, int]


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
            await self._batch(partial(self._change, places[begin : begin + size]))
            begin += size
            size = paced(size, time.monotonic() - began)
        return bool(places)

    async def _by_pages(self) -> bool:
        """Whether rows were due. A look may take many attempts: the cursor says how far it is and what it has found."""
        async with self.run.reading() as connection:
            pages = await connection.fetchval(TABLE_SIZE)
        size = BATCH_ROWS
        while self._cursor[_PAGE] < pages:
            async with self.run.reading() as connection:
                first, end = self._cursor[_PAGE], self._cursor[_PAGE] + LOOK_PAGES
                about = (self.run.key.tenant_id, self.day, (first, 0), (end, 0), size * STRIPES)
                places = [row["ctid"] for row in await connection.fetch(DUE_PAGES, *about)]
            if len(places) == size * STRIPES:
                # The last page may hold more due rows than were asked for: it comes next time, unless it is the only one.
                end = max(places[-1][0], first + 1)
                places = [place for place in places if place[0] < end]
            size = await self._striped(places, first, end, size)
        found = self._cursor[_FOUND]
        self.run.cursor = None
        return found > 0

    @property
    def _cursor(self) -> dict[str, int]:
        """The page to go on from, and the rows found so far; a look that began elsewhere without saying may have found some."""
        cursor = self.run.cursor or {}
        return {_PAGE: int(cursor.get(_PAGE, 0)), _FOUND: int(cursor.get(_FOUND, _PAGE in cursor))}

    async def _striped(self, places: list[Place], first: int, end: int, size: int) -> int:
        """Change these rows of the pages from `first` to before `end`; returns the number of rows for the next batches."""
        stripes = max(1, min(STRIPES, len(places) // _LEAST_ROWS))
        for stripe in range(stripes):
            mine = places[stripe::stripes]
            following = end if stripe == stripes - 1 else first
            began = time.monotonic()
            tidy = (first, end) if stripe else None
            await self._batch(partial(self._change_stripe, mine, tidy, following))
            seconds = time.monotonic() - began
            # What a smaller batch took says nothing of a full one, unless it took too long already.
            if len(mine) >= size or seconds > TARGET_SECONDS:
                size = paced(size, seconds)
        return size

    async def _change_stripe(
        self, places: list[Place], tidy: tuple[int, int] | None, following: int, connection: Connection
    ) -> int:
        found = self._cursor[_FOUND]
        if tidy is not None:
            # Going through pages makes PostgreSQL reclaim what the stripe before has left dead; reading single places would not.
            await connection.execute(TIDY_PAGES, (tidy[0], 0), (tidy[1], 0))
        count = await self._change(places, connection)
        self.run.cursor = {_PAGE: following, _FOUND: found + count}
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

    async def _change(self, places: list[Place], connection: Connection) -> int:
        tenant, factors, counters = self.run.key.tenant_id, self.factors, self.run.counters
        if self.behind:
            row = await connection.fetchrow(LOST_ROWS, tenant, self.day, len(factors.factors), places)
            assert row is not None
            counters["lostMemories"] = counters.get("lostMemories", 0) + row["memories"]
            counters["lostDays"] = max(counters.get("lostDays", 0), row["days"])
        tag = await connection.execute(DECAY_ROWS, tenant, self.day, factors.factors, factors.floors, places)
        count = int(tag.rsplit(" ", 1)[-1])
        counters["decayed"] = counters.get("decayed", 0) + count
        return count


def paced(rows: int, seconds: float) -> int:
    """The number of rows for the next batch: towards TARGET_SECONDS, at most half or double of this one."""
    wanted = rows * TARGET_SECONDS / max(seconds, 1e-6)
    return int(min(max(wanted, rows / 2, _LEAST_ROWS), rows * 2, _MOST_ROWS))
