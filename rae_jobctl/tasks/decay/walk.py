"""How a decay goes through a tenant's rows: by single places where they are few, by ranges of pages where they are many.

A tenant of a few thousand rows must not read a table of ten million; a tenant that fills the table must not ask the index for
each row. Either way a batch is one transaction of about TARGET_SECONDS, and nothing is held between two of them.
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
BATCH_ROWS = 10_000
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
        for begin in range(0, len(places), BATCH_ROWS):
            batch = places[begin : begin + BATCH_ROWS]
            await self._batch(partial(self._change_rows, batch))
        return bool(places)

    async def _change_rows(self, places: list[str], connection: Connection) -> int:
        return await self._change(connection, DECAY_ROWS, LOST_ROWS, places)

    async def _by_pages(self) -> bool:
        """Whether rows were due in this look, which an earlier attempt may have begun."""
        async with self.run.reading() as connection:
            size = await connection.fetchrow(TABLE_SIZE)
        assert size is not None
        step = max(1, int(BATCH_ROWS / max(1.0, size["rows_a_page"])))
        page = int((self.run.cursor or {}).get(_PAGE, 0))
        while page < size["pages"]:
            began = time.monotonic()
            await self._batch(partial(self._change_pages, page, page + step))
            page += step
            step = paced(step, time.monotonic() - began)
        found = self._found()
        self.run.cursor = None
        return found

    async def _change_pages(self, first: int, end: int, connection: Connection) -> int:
        count = await self._change(connection, DECAY_PAGES, LOST_PAGES, (first, 0), (end, 0))
        self.run.cursor = {_PAGE: end, _FOUND: count > 0 or self._found()}
        return count

    def _found(self) -> bool:
        """Whether this look has found a row so far; one that began elsewhere without saying may have."""
        cursor = self.run.cursor or {}
        return bool(cursor.get(_FOUND, _PAGE in cursor))

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


def paced(step: int, seconds: float) -> int:
    """The number of pages for the next batch: towards TARGET_SECONDS, at most half or double of this one."""
    wanted = step * TARGET_SECONDS / max(seconds, 1e-6)
    return max(1, int(min(max(wanted, step / 2), step * 2)))
