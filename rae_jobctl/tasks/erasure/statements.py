"""The SQL that looks a table through, made from its columns in the catalogue: names are quoted, values are parameters."""
# ruff: noqa: S608 - nothing but quoted names of the catalogue and constants of this module is put into the text

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rae_jobctl.tasks.erasure.catalogue import Column, Table
from rae_jobctl.tasks.erasure.rules import Action
from rae_jobctl.tasks.erasure.subject import Subject

#: Columns of a row that are none of its own.
NAMED, PLACE = "rae_jobs named", "rae_jobs place"
#: Never part of an identifier, and no part of a word: nothing matches from one column into the next.
_BETWEEN = r"E'\x01'"
# The pattern is a bitmap of characters to PostgreSQL, the ids a hash table; either is made once a statement only where the plan
# knows the parameter's value.
SESSION = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"
TABLE_PAGES = "SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint"


@dataclass(frozen=True)
class Query:
    """A statement and its parameters."""

    sql: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Search:
    """How the rows of a table that concern a person are found.

    Attributes:
        table: where.
        subject: whom.
        erased: ids of memories and reflections that have been erased.
    """

    table: Table
    subject: Subject
    erased: Sequence[UUID] = ()

    def places(self, first: int, end: int) -> Query:
        """Where such rows are, in the pages from `first` to before `end`."""
        arguments = [*self._arguments, (first, 0), (end, 0)]
        number = len(arguments)
        return Query(
            f"""
            SELECT ctid
            FROM ONLY {self.table.relation}
            WHERE ctid >= ${number - 1}::tid
              AND ctid < ${number}::tid
              AND {self._condition}
            """,
            tuple(arguments),
        )

    def rows(self, places: Sequence[tuple[int, int]], *, lock: bool) -> Query:
        """The rows at these places, if they still concern the person; one that RAE holds is left out when they are locked."""
        arguments = [*self._arguments, list(places)]
        columns = ", ".join(column.quoted for column in self._wanted)
        return Query(
            f"""
            SELECT ctid AS "{PLACE}", coalesce({self._named}, false) AS "{NAMED}"{", " + columns if columns else ""}
            FROM ONLY {self.table.relation}
            WHERE ctid = ANY (${len(arguments)}::tid[])
              AND {self._condition}
            {"FOR UPDATE SKIP LOCKED" if lock else ""}
            """,
            tuple(arguments),
        )

    @property
    def _wanted(self) -> list[Column]:
        names = {*self.table.searched, *self.table.key, *self._links}
        personal = (*self.table.rule.person, *self.table.rule.private) if self.table.rule else ()
        extra = ("id", "memory_id", "source_node_id", "target_node_id", *personal)
        return [column for column in self.table.columns if column in names or column.name in extra]

    @property
    def _links(self) -> list[Column]:
        if self.table.rule is None or not self.table.rule.linked:
            return []
        kinds = ("json", "uuids")
        return [c for c in self.table.columns if c.kind in kinds or (c.kind == "uuid" and c.name == "memory_id")]

    @property
    def _arguments(self) -> list[Any]:
        tenant = self.subject.tenant_id
        words = self.subject.words
        arguments: list[Any] = [tenant if self.table.tenant.kind == "uuid" else str(tenant), words.pattern, words.hint]
        if self._node:
            arguments.append(list(self.subject.names))
        if self._links and self.erased:
            arguments += [list(self.erased), [str(one) for one in self.erased]]
        return arguments

    @property
    def _node(self) -> bool:
        return self.table.rule is not None and self.table.rule.action is Action.NODE

    @property
    def _condition(self) -> str:
        ways = [self._named]
        if self._links and self.erased:
            ways += [_link(column, 5 if self._node else 4) for column in self._links]
        return f"{self.table.owned(1)} AND ({' OR '.join(ways)})"

    @property
    def _named(self) -> str:
        columns = self.table.searched
        if not columns:
            # The patterns are parameters all the same, and their types must be known.
            return "($2::text || $3::text) IS NULL"
        text = f"concat_ws({_BETWEEN}, {', '.join(map(self._text, columns))})"
        if not self.subject.words.ascii:
            text = f"normalize({text}, NFC)"
        named = f"({text} ~ $2::text AND $3::text IS NOT NULL)"
        if self._node:
            named = f"({named} OR lower(node_id) = ANY ($4::text[]) OR lower(label) = ANY ($4::text[]))"
        return named

    def _text(self, column: Column) -> str:
        """All text of a column as one; of JSON the keys, the texts and the numbers.

        To take JSON apart is ten times the work of all the rest, so that a glance at it as text comes first.
        """
        if column.kind in ("text", "uuid"):
            return f"{column.quoted}::text"
        if column.kind == "texts":
            return f"array_to_string({column.quoted}, {_BETWEEN})"
        whole = f"{_json(column)}::text"
        glance = whole if self.subject.words.ascii else f"normalize({whole}, NFC)"
        return f"""CASE WHEN {glance} ~ $3::text THEN (
            SELECT string_agg(x.v #>> '{{}}', {_BETWEEN})
            FROM (
                SELECT jsonb_path_query({_json(column)}, 'strict $.** ? (@.type() == "string" || @.type() == "number")') AS v
                UNION ALL
                SELECT jsonb_path_query({_json(column)}, 'strict $.** ? (@.type() == "object").keyvalue().key')
            ) AS x
        ) END"""


def _json(column: Column) -> str:
    # The type json keeps what was written, and jsonb has no place for the character NUL.
    if column.type == "json":
        return f"replace({column.quoted}::text, '\\u0000', '\\ufffd')::jsonb"
    return column.quoted


def _link(column: Column, number: int) -> str:
    """Whether a column holds one of the erased ids, which are parameters `number` (uuid) and the next (text)."""
    if column.kind == "uuid":
        return f"{column.quoted} = ANY (${number}::uuid[]) OR ${number + 1}::text[] IS NULL"
    if column.kind == "uuids":
        return f"EXISTS (SELECT FROM unnest({column.quoted}) AS u WHERE u = ANY (${number}::uuid[]))"
    return f"""CASE WHEN {_json(column)}::text ~ '"[0-9a-f]{{8}}-[0-9a-f]{{4}}-' THEN EXISTS (
        SELECT FROM jsonb_path_query({_json(column)}, 'strict $.** ? (@.type() == "string")') AS v
        WHERE v #>> '{{}}' = ANY (${number + 1}::text[]) OR ${number}::uuid[] IS NULL
    ) ELSE false END"""


def delete_rows(table: Table) -> str:
    """Deletes the rows at places ($1) of a tenant ($2)."""
    return f"DELETE FROM ONLY {table.relation} WHERE ctid = ANY ($1::tid[]) AND {table.owned(2)}"


def update_row(table: Table, names: Sequence[str]) -> str:
    """Sets columns ($3 and on) of the row at a place ($1) of a tenant ($2)."""
    columns = [column for name in names if (column := table.column(name)) is not None]
    sets = ", ".join(f"{column.quoted} = ${number}::{column.type}" for number, column in enumerate(columns, 3))
    return f"UPDATE ONLY {table.relation} SET {sets} WHERE ctid = $1::tid AND {table.owned(2)}"
