"""Going through the tables: a look at a stretch of pages without a lock, then what it found in small transactions."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from rae_jobctl.progress import Progress
from rae_jobctl.tasks.erasure.audit import key_of, record
from rae_jobctl.tasks.erasure.catalogue import Catalogue, Table
from rae_jobctl.tasks.erasure.decisions import Decision, Judge
from rae_jobctl.tasks.erasure.dependents import Dependents
from rae_jobctl.tasks.erasure.rules import Action
from rae_jobctl.tasks.erasure.statements import NAMED, PLACE, SESSION, TABLE_PAGES, Search, delete_rows, update_row

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection
    from rae_jobctl.tasks.erasure.subject import Subject

#: Rows of a transaction: a deletion cascades and feeds every index; a rewriting moves whole values to this process and back.
DELETE_BATCH, REWRITE_BATCH = 1000, 100
_FIRST_PAGES, _LEAST_PAGES, _MOST_PAGES = 256, 8, 16_384
_LOOK_SECONDS = 0.25
#: A look that finds nothing is remembered so often, that a stopped run need not look again.
_REMEMBER_SECONDS = 5.0
#: Tables whose rows others rest on, by id.
SOURCES = ("archived_memories", "memories", "reflections")
DELETED, REWRITTEN, ANONYMISED = "deleted", "rewritten", "anonymised"
Place = tuple[int, int]


class Session(Protocol):
    """Where the sweep reads: a run, or a connection that only reads."""

    def reading(self) -> AbstractAsyncContextManager[Connection]:
        """A read-only transaction of the tenant."""

    def check_stop(self) -> None:
        """Leave when asked to stop."""


@dataclass
class Erased:
    """The memories and reflections that are gone, in both forms in which they are referred to."""

    ids: dict[UUID, None] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)

    def add(self, ids: Sequence[UUID]) -> None:
        """Remember more of them."""
        self.ids.update(dict.fromkeys(ids))
        self.texts.update(map(str, ids))


@dataclass
class Sweep:
    """One pass over tables.

    Attributes:
        session: to read with.
        subject: whom.
        catalogue: where.
        erased: what has gone so far.
        progress: told the pages that were looked through.
    """

    session: Session
    subject: Subject
    catalogue: Catalogue
    erased: Erased
    progress: Progress

    async def places(self, table: Table, first_page: int = 0) -> AsyncIterator[tuple[int, list[Place]]]:
        """Yields (end, places) of each stretch of pages that was looked through, from `first_page` on."""
        async with self.session.reading() as connection:
            pages = await connection.fetchval(TABLE_PAGES, table.relation)
        page, size = first_page, _FIRST_PAGES
        while page < pages:
            self.session.check_stop()
            began = time.monotonic()
            async with self.session.reading() as connection:
                await connection.execute(SESSION)
                query = self._search(table).places(page, page + size)
                found = [row["ctid"] for row in await connection.fetch(query.sql, *query.arguments)]
            seconds = time.monotonic() - began
            self.progress.advance(min(size, pages - page))
            page += size
            yield page, found
            size = int(min(max(size * _LOOK_SECONDS / max(seconds, 1e-6), size / 4, _LEAST_PAGES), size * 2, _MOST_PAGES))

    async def count(self, table: Table) -> int:
        """How many rows of a table concern the person."""
        return sum([len(found) async for _, found in self.places(table)])

    async def preview(self, table: Table, gone: dict[str, set[UUID]]) -> dict[str, int]:
        """What would become of the rows of a table, by kind.

        Args:
            gone: by table, the ids of rows that would be deleted; those of memories and reflections count as erased from here on.
        """
        counts: dict[str, int] = {}
        async for _, found in self.places(table):
            for batch in batches(found, DELETE_BATCH):
                async with self.session.reading() as connection:
                    for row, decision in await self._decided(connection, table, batch, lock=False):
                        kind = _kind(decision)
                        if kind:
                            counts[kind] = counts.get(kind, 0) + 1
                        id_ = row.get("id") or row.get("memory_id")
                        if decision.delete and isinstance(id_, UUID):
                            gone.setdefault(table.name, set()).add(id_)
        if table.name in SOURCES:
            self.erased.add(list(gone.get(table.name, ())))
        return counts

    def _search(self, table: Table) -> Search:
        return Search(table, self.subject, list(self.erased.ids))

    async def _decided(
        self, connection: Connection, table: Table, places: Sequence[Place], *, lock: bool
    ) -> list[tuple[Mapping[str, Any], Decision]]:
        await connection.execute(SESSION)
        query = self._search(table).rows(places, lock=lock)
        judge = Judge(table, self.subject, self.erased.texts)
        rows = [dict(row) for row in await connection.fetch(query.sql, *query.arguments)]
        return [(row, judge.decide(row, row[NAMED])) for row in rows]


@dataclass
class Erasing(Sweep):
    """A pass that changes what it finds, a batch a transaction of the run, each with its audit."""

    run: Run = field(kw_only=True)

    async def erase(self, table: Table, first_page: int) -> None:
        """Erase the person from a table, from a page on; the run's cursor says where it is."""
        remembered = time.monotonic()
        self.run.cursor = {"table": table.relation, "page": first_page}
        async for end, found in self.places(table, first_page):
            for batch in batches(found, _batch_size(table)):
                self.run.check_stop()
                await self._batch(table, batch)
            # Stored with the next batch, whichever that is.
            self.run.cursor = {"table": table.relation, "page": end}
            if time.monotonic() - remembered > _REMEMBER_SECONDS:
                async with self.run.batch():
                    pass
                remembered = time.monotonic()

    async def _batch(self, table: Table, places: Sequence[Place]) -> None:
        if table.rule is not None and table.rule.action is Action.NODE:
            await self._edges_first(table, places)
        async with self.run.batch() as connection:
            dependents = Dependents(connection, self.run, self.subject, self.catalogue)
            decided = await self._decided(connection, table, places, lock=True)
            await self._delete(dependents, table, [row for row, decision in decided if decision.delete])
            await self._rewrite(connection, table, [(row, decision) for row, decision in decided if not decision.delete])
            for name, count in dependents.gone.rows.items():
                self._count(name, DELETED, count)
        # Only once they are gone: a batch that failed has erased nothing.
        self.erased.add(dependents.gone.erased)

    async def _edges_first(self, table: Table, places: Sequence[Place]) -> None:
        async with self.run.reading() as connection:
            decided = await self._decided(connection, table, places, lock=False)
        nodes = [row["id"] for row, decision in decided if decision.delete]
        more = bool(nodes)
        while more:
            self.run.check_stop()
            async with self.run.batch() as connection:
                dependents = Dependents(connection, self.run, self.subject, self.catalogue)
                more = await dependents.edges_of(nodes, DELETE_BATCH) == DELETE_BATCH
                for name, count in dependents.gone.rows.items():
                    self._count(name, DELETED, count)

    async def _delete(self, dependents: Dependents, table: Table, rows: list[Mapping[str, Any]]) -> None:
        if not rows or table.rule is None:
            return
        await dependents.before(table.rule.action, rows)
        places = [row[PLACE] for row in rows]
        await dependents.connection.execute(delete_rows(table), places, self._tenant(table))
        await self._record(dependents.connection, table, rows, deleted=True)
        self._count(table.name, DELETED, len(rows))
        await dependents.after(table.rule.action, rows)

    async def _rewrite(self, connection: Connection, table: Table, decided: list[tuple[Mapping[str, Any], Decision]]) -> None:
        changed = [(row, decision) for row, decision in decided if decision.values]
        for row, decision in changed:
            sql = update_row(table, list(decision.values))
            ordered = [decision.values[c.name] for name in decision.values if (c := table.column(name)) is not None]
            await connection.execute(sql, row[PLACE], self._tenant(table), *ordered)
            self._count(table.name, ANONYMISED if decision.anonymised else REWRITTEN, 1)
        if table.name != "deletion_audit":
            await self._record(connection, table, [row for row, _ in changed], deleted=False)

    async def _record(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, deleted: bool) -> None:
        assert table.rule is not None
        keys = [key_of(table, row) for row in rows]
        await record(connection, self.run, self.subject, table.name, table.rule.data_class, keys, deleted=deleted)

    def _tenant(self, table: Table) -> Any:
        return self.subject.tenant_id if table.tenant.kind == "uuid" else str(self.subject.tenant_id)

    def _count(self, table: str, kind: str, number: int) -> None:
        name = f"{table}.{kind}"
        self.run.counters[name] = self.run.counters.get(name, 0) + number


def batches(places: Sequence[Place], size: int) -> Iterator[Sequence[Place]]:
    """The places in so many at a time."""
    return (places[begin : begin + size] for begin in range(0, len(places), size))


def _batch_size(table: Table) -> int:
    deleting = (Action.DELETE, Action.MEMORY, Action.ARCHIVED, Action.REFLECTION, Action.NODE, Action.EDGE)
    return DELETE_BATCH if table.rule is not None and table.rule.action in deleting else REWRITE_BATCH


def _kind(decision: Decision) -> str | None:
    if decision.delete:
        return DELETED
    return (ANONYMISED if decision.anonymised else REWRITTEN) if decision.values else None
