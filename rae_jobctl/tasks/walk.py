"""How a task goes through a tenant's rows: by single places where they are few, by ranges of pages where they are many.

A tenant of a few thousand rows must not read a table of ten million; a tenant that fills the table must not ask the index for
each row. Either way a batch is one transaction of at most about TARGET_SECONDS, and nothing is held between two of them. A batch
is measured in rows, never in pages alone: after a stretch of pages without a due row there may come one that is full of them.

A full page has no room for the new versions of all its rows, so that each would go elsewhere and into every index. Therefore
an update changes a stretch of pages in stripes, every n-th row in a transaction: what the first stripe leaves dead, the
second finds as free space beside its own rows (a HOT update, which no index sees), and so on. It costs the first decay a tenth
of the index work, and the next ones hardly any: the room stays. A table with a fillfactor needs as few stripes as its room
allows, each being a pass over the pages; where the room is not there (the table was not rewritten), they become more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

import asyncpg

from rae_jobctl.deadline import StopSignal

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
#: Line pointers of a page of 8 kB.
_MOST_IN_PAGE = 291
STRIPES = 10
_MOST_STRIPES = 20
#: Fewer new versions beside the old ones than this, and there is too little room.
_HOT_SHARE = 0.9
#: Far fewer, and PostgreSQL may not reclaim at all: somebody's snapshot, an autovacuum's ANALYZE for one, is older than what we
#: left dead. That passes mostly, and costs less to wait for than a table that grows; in all at most so long.
_HELD_SHARE, _HELD_PAUSE, _HELD_SECONDS = 0.5, 0.5, 20.0
#: A look for due rows goes through at most so many pages (32 MB).
LOOK_PAGES = 4096
TARGET_SECONDS = 0.25
#: Looks in a row that change nothing although rows are due: RAE moves them faster than we follow. Tomorrow makes it good.
_FRUITLESS_LOOKS = 5
#: A row that RAE keeps locked must not keep our other rows of the batch locked with it.
_LOCK_TIMEOUT_MS = 500
_LOCK_TRIES = 20
#: Transactions that no RAE need have made: statistics that autovacuum writes.
_FEW_STRANGERS = 2
_PAGE, _FOUND = "page", "found"
#: Page, and number within it.
Place = tuple[int, int]
#: Changes the rows at these places within the open batch; returns how many there were.
Change = Callable[["Connection", list[Place]], Awaitable[int]]

# Goes through pages and wants nothing of them.
_TIDY_PAGES = "SELECT count(*) FROM {table} WHERE ctid >= $1::tid AND ctid < $2::tid"
_ROOM = """
SELECT coalesce((SELECT option_value::integer FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), 100)
FROM pg_class AS c
WHERE c.oid = to_regclass($1)
"""
# Rows that this transaction has updated, and those of them whose new version is beside the old one.
_HOT = """
SELECT pg_stat_get_xact_tuples_updated(c.oid) AS updated, pg_stat_get_xact_tuples_hot_updated(c.oid) AS hot
FROM pg_class AS c
WHERE c.oid = to_regclass($1)
"""
_NEXT_XID = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
_TABLE_SIZE = "SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint"
# Whether the tenant has more than $2 rows and more than the share $3 of the table; counted in its index no further than needed.
# A partitioned table has no pages of its own: it is walked by places, however large the tenant is.
_FILLS_TABLE = """
WITH bound AS (
    SELECT greatest($2::bigint, ($3::float8 * greatest(c.reltuples, 0))::bigint) AS most, c.relkind
    FROM pg_class AS c
    WHERE c.oid = to_regclass($4)
)
SELECT b.relkind = 'r' AND (SELECT count(*) FROM (SELECT FROM {table} AS m WHERE {tenant} LIMIT b.most + 1) AS counted) > b.most
FROM bound AS b
"""


@dataclass(frozen=True)
class Due:
    """Which rows are to be changed. The texts are ours, never a user's.

    Attributes:
        condition: SQL about the row `m`, whose parameters are $2 and following.
        arguments: for those parameters.
        table: its name; quoted where it needs to be.
        tenant: SQL that tells the tenant's rows, whose id is $1.
    """

    condition: str
    arguments: tuple[object, ...]
    table: str = "memories"
    tenant: str = "m.tenant_id = $1"

    @property
    def where(self) -> str:
        """Both conditions."""
        return f"{self.tenant} AND {self.condition}"

    def parameter(self, number: int) -> str:
        """The placeholder of the n-th argument after ours, counted from 1."""
        return f"${1 + len(self.arguments) + number}"

    @property
    def places(self) -> str:
        """Places of due rows through an index; one more argument, the most rows."""
        return f"SELECT m.ctid FROM {self.table} AS m WHERE {self.where} LIMIT {self.parameter(1)}"  # noqa: S608

    @property
    def places_of_pages(self) -> str:
        """Places of due rows in the order of pages; three more arguments, the first place, the end, the most rows.

        Sorted, because the planner may take an index of the table's times instead of the pages, and what the limit cuts off must
        come after all that was found.
        """
        bounds = f"m.ctid >= {self.parameter(1)}::tid AND m.ctid < {self.parameter(2)}::tid"
        order = f"ORDER BY m.ctid LIMIT {self.parameter(3)}"
        return f"SELECT m.ctid FROM {self.table} AS m WHERE {self.where} AND {bounds} {order}"  # noqa: S608


class Again(Enum):
    """When to look for due rows once more after a look over all of them, until nothing is found.

    NEVER: what is left waits for the next run. ALWAYS: one change makes other rows due. WHEN_MOVED: an update of RAE puts a row's
    new version where the look has been already; so when others have written meanwhile. (Any reading reclaims what we left dead,
    which somebody has to do one day, but where nobody wrote it would be the only reason to write the pages once more.)
    """

    NEVER = auto()
    ALWAYS = auto()
    WHEN_MOVED = auto()


@dataclass(frozen=True)
class Manner:
    """How to walk.

    Attributes:
        striped: an update, whose new versions need room.
        sparse: due rows are few and an index finds them, however large the tenant is.
        again: whether one look over all may leave rows behind.
    """

    striped: bool = False
    sparse: bool = False
    again: Again = Again.NEVER


@dataclass
class Walk:
    """One tenant's rows of one table.

    Attributes:
        run: the ledger's run, whose batches are committed one by one; its cursor keeps `page` and `found` meanwhile.
        due: which rows.
        change: what to do with them.
        manner: how to walk.
        progress: told the rows of each batch.
        stop: asked while waiting for a row.
    """

    run: Run
    due: Due
    change: Change
    manner: Manner
    progress: Progress
    stop: StopSignal
    changed: int = 0
    _batches: int = 0
    _missed: bool = False
    _stripes: int = 1
    _hot: float = 1.0
    _held: float = 0.0

    async def all(self) -> int:
        """Change every due row of the tenant; returns the number of rows that this attempt changed.

        Raises:
            TimeSliced, SoftLimitReached: the soft limit came between two batches.
            asyncpg.LockNotAvailableError: a row stayed locked.
        """
        fills = await self._fills_table()
        fruitless = 0
        while fruitless < _FRUITLESS_LOOKS:
            before, alone, self._missed = self.changed, await self._strangers(), False
            found, whole = await (self._by_pages() if fills else self._by_places())
            if not found or (whole and not await self._look_again(alone)):
                break
            fruitless = 0 if self.changed > before else fruitless + 1
        return self.changed

    async def _look_again(self, before: int | None) -> bool:
        """Whether another look is worth its reading of the table: not when nobody else wrote anything meanwhile."""
        if self.manner.again is not Again.WHEN_MOVED or before is None:
            return self.manner.again is not Again.NEVER
        now = await self._strangers()
        return self._missed or now is None or now - before > _FEW_STRANGERS

    async def _strangers(self) -> int | None:
        """A count of the transactions of others that grows as they write; None in the middle of a look, begun who knows when."""
        if _PAGE in (self.run.cursor or {}):
            return None
        async with self.run.reading() as connection:
            return int(await connection.fetchval(_NEXT_XID)) - self._batches

    async def _fills_table(self) -> bool:
        async with self.run.reading() as connection:
            await connection.execute("SELECT set_config('lock_timeout', $1, false)", str(_LOCK_TIMEOUT_MS))
            if self.manner.sparse:
                return False
            statement = _FILLS_TABLE.format(table=self.due.table, tenant=self.due.tenant)
            return bool(await connection.fetchval(statement, self.run.key.tenant_id, FEW_ROWS, SMALL_SHARE, self.due.table))

    async def _by_places(self) -> tuple[bool, bool]:
        """Whether rows were due, and whether that were all."""
        async with self.run.reading() as connection:
            rows = await connection.fetch(self.due.places, self.run.key.tenant_id, *self.due.arguments, FEW_ROWS)
        places = [row["ctid"] for row in rows]
        self.run.done, self.run.total = 0, len(places)
        begin, size = 0, BATCH_ROWS
        while begin < len(places):
            began = time.monotonic()
            await self._batch(partial(self._change_places, places[begin : begin + size]))
            begin += size
            size = paced(size, time.monotonic() - began)
        return bool(places), len(places) < FEW_ROWS

    async def _change_places(self, places: list[Place], connection: Connection) -> int:
        self.run.done = (self.run.done or 0) + len(places)
        return await self._change(connection, places)

    async def _by_pages(self) -> tuple[bool, bool]:
        """As `_by_places`. A look may take many attempts: the cursor says how far it is and what it has found."""
        async with self.run.reading() as connection:
            pages = await connection.fetchval(_TABLE_SIZE, self.due.table)
            if self.manner.striped:
                self._stripes = stripes_for(await connection.fetchval(_ROOM, self.due.table))
        self.run.total, size, look = pages, BATCH_ROWS, LOOK_PAGES
        while self._page < pages:
            first, end = self._page, self._page + look
            most = max(size * self._stripes, _MOST_IN_PAGE)
            async with self.run.reading() as connection:
                about = (*self.due.arguments, (first, 0), (end, 0), most)
                rows = await connection.fetch(self.due.places_of_pages, self.run.key.tenant_id, *about)
            places = [row["ctid"] for row in rows]
            full = len(places) == most
            if full:
                # The last page may hold more due rows than were asked for: it comes next time, unless it is the only one.
                end = max(places[-1][0], first + 1)
                places = [place for place in places if place[0] < end]
            # To sort, the whole stretch is read: hardly more of it than a look has room for.
            look = min(2 * (end - first) if full else 2 * look, LOOK_PAGES)
            size = await self._striped(places, (first, end), size, full)
        found = self._found
        self.run.cursor = {name: value for name, value in (self.run.cursor or {}).items() if name not in (_PAGE, _FOUND)} or None
        return found > 0, True

    @property
    def _page(self) -> int:
        return int((self.run.cursor or {}).get(_PAGE, 0))

    @property
    def _found(self) -> int:
        """The rows found so far; a look that began elsewhere without saying may have found some."""
        cursor = self.run.cursor or {}
        return int(cursor.get(_FOUND, _PAGE in cursor))

    async def _striped(self, places: list[Place], pages: tuple[int, int], size: int, full: bool) -> int:
        """Change these rows of the pages from the first to before the second; returns the number of rows for the next batches."""
        first, end = pages
        stripes = max(1, min(self._stripes, len(places) // _LEAST_ROWS))
        for stripe in range(stripes):
            mine = places[stripe::stripes]
            following = end if stripe == stripes - 1 else first
            began = time.monotonic()
            tidy = (first, end) if stripe else None
            await self._batch(partial(self._change_stripe, mine, tidy, following))
            seconds = time.monotonic() - began
            # What a smaller batch took says nothing of a full one, unless it took too long already.
            if full or seconds > TARGET_SECONDS:
                size = paced(size, seconds)
            await self._await_room(stripe)
        if full and self._hot < _HOT_SHARE:
            self._stripes = min(2 * self._stripes, _MOST_STRIPES)
        return size

    async def _await_room(self, stripe: int) -> None:
        """Give a passing snapshot time to pass. The first stripe tells nothing: full pages have no room for it either."""
        if not stripe or self._hot >= _HELD_SHARE or self._held >= _HELD_SECONDS:
            return
        self._held += _HELD_PAUSE
        await self.stop.pause(_HELD_PAUSE)

    async def _change_stripe(
        self, places: list[Place], tidy: tuple[int, int] | None, following: int, connection: Connection
    ) -> int:
        found = self._found
        if tidy is not None:
            # Going through pages makes PostgreSQL reclaim what the stripe before has left dead; reading single places would not.
            await connection.execute(_TIDY_PAGES.format(table=self.due.table), (tidy[0], 0), (tidy[1], 0))
        count = await self._change(connection, places) if places else 0
        if self.manner.striped:
            row = await connection.fetchrow(_HOT, self.due.table)
            self._hot = row["hot"] / row["updated"] if row and row["updated"] else 1.0
        self.run.cursor = {**(self.run.cursor or {}), _PAGE: following, _FOUND: found + count}
        self.run.done = following
        return count

    async def _change(self, connection: Connection, places: list[Place]) -> int:
        count = await self.change(connection, places)
        # One of them has moved since it was looked for.
        self._missed = self._missed or count < len(places)
        return count

    async def _batch(self, change: Callable[[Connection], Awaitable[int]]) -> None:
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
        self._batches += 1
        self.changed += count
        self.progress.advance(count)


def stripes_for(fillfactor: int) -> int:
    """How many stripes find room in pages that are filled so far, in percent."""
    return STRIPES if fillfactor >= 100 else min(math.ceil(fillfactor / (100 - fillfactor)), _MOST_STRIPES)


def paced(rows: int, seconds: float) -> int:
    """The number of rows for the next batch: towards TARGET_SECONDS, at most half or double of this one."""
    wanted = rows * TARGET_SECONDS / max(seconds, 1e-6)
    return int(min(max(wanted, rows / 2, _LEAST_ROWS), rows * 2, _MOST_ROWS))
