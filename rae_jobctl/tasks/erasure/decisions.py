"""What becomes of one row that concerns the person: it goes, or some of its columns get other values. No database here."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from rae_jobctl.tasks.erasure.catalogue import Column, Table
from rae_jobctl.tasks.erasure.rules import Action
from rae_jobctl.tasks.erasure.subject import Subject

ANONYMOUS = "erased"
_GONE: Any = object()
_IDS = ("memory_id", "memoryId", "reflection_id", "reflectionId")
_SOURCES = ("source_memory_ids", "source_reflection_ids")


@dataclass(frozen=True)
class Decision:
    """The end of a row.

    Attributes:
        delete: it goes.
        values: else, the new values by column; empty when nothing need change.
        anonymised: counted as such.
    """

    delete: bool = False
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    anonymised: bool = False


_DELETE = Decision(delete=True)


@dataclass(frozen=True)
class Judge:
    """Decides for the rows of one table.

    Attributes:
        table: theirs.
        subject: whom to erase.
        erased: ids of erased memories and reflections, as text.
    """

    table: Table
    subject: Subject
    erased: Container[str]

    def decide(self, row: Mapping[str, Any], named: bool) -> Decision:
        """What becomes of a row.

        Args:
            row: the columns of `Search.rows`.
            named: whether PostgreSQL found the person in it.
        """
        assert self.table.rule is not None
        return _DECIDE[self.table.rule.action](self, row, named)

    def cleaned(self, value: Any) -> Any:
        """A JSON value without the person, and without the entries that rest on erased memories alone."""
        result = self._cleaned(value)
        return None if result is _GONE else result

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            return _GONE if value in self.erased else self.subject.words.replaced(value)
        if isinstance(value, list):
            return [item for item in map(self._cleaned, value) if item is not _GONE]
        if isinstance(value, dict):
            return self._cleaned_object(value)
        # A number may be an identifier too, of a customer for one.
        return None if self.subject.words.found_within(value) else value

    def _cleaned_object(self, value: dict[str, Any]) -> Any:
        if any(str(value.get(name)) in self.erased for name in _IDS):
            return _GONE
        evidence = value.get("evidence")
        if isinstance(evidence, list) and evidence and all(isinstance(one, str) and one in self.erased for one in evidence):
            return _GONE
        items = {self.subject.words.replaced(key): self._cleaned(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item is not _GONE}

    def scrubbed(self, row: Mapping[str, Any], skip: Container[str] = ()) -> dict[str, Any]:
        """New values of the columns that hold the person, or what quotes an erased memory."""
        found = {}
        for column in self.table.columns:
            if column.name in skip or column.generated or row.get(column.name) is None:
                continue
            value = self._value(column, row[column.name])
            if value != row[column.name]:
                found[column.name] = f"{value} {row['id']}" if self._unique(column) else value
        return found

    def _unique(self, column: Column) -> bool:
        return self.table.rule is not None and column.name in self.table.rule.unique

    def _value(self, column: Column, value: Any) -> Any:
        if column.kind == "text":
            return self.subject.words.replaced(value)
        if column.kind == "texts":
            return [self.subject.words.replaced(one) if one else one for one in value]
        if column.kind == "json":
            cleaned = self._cleaned(value)
            return ([] if isinstance(value, list) else {}) if cleaned is _GONE else cleaned
        if column.kind == "uuids":
            return [one for one in value if str(one) not in self.erased]
        return value

    def _delete(self, row: Mapping[str, Any], named: bool) -> Decision:
        return _DELETE

    def _scrub(self, row: Mapping[str, Any], named: bool) -> Decision:
        return _DELETE if str(row.get("memory_id")) in self.erased else Decision(values=self.scrubbed(row))

    def _anonymise(self, row: Mapping[str, Any], named: bool) -> Decision:
        assert self.table.rule is not None
        values = self.scrubbed(row)
        people = [name for name in self.table.rule.person if row.get(name) and self.subject.words.found(str(row[name]))]
        values.update({c.name: _nobody(c) for c in self.table.columns if c.name in people})
        if people:
            values.update({c.name: _empty(c) for c in self.table.columns if c.name in self.table.rule.private})
        return Decision(values=values, anonymised=True)

    def _archived(self, row: Mapping[str, Any], named: bool) -> Decision:
        """An archived memory is a whole row of `memories` as JSON."""
        kept = row.get("memory")
        before = self._memory(kept if isinstance(kept, dict) else {}, named)
        return before if before.delete else Decision(values=self.scrubbed(row))

    def _memory(self, row: Mapping[str, Any], named: bool) -> Decision:
        """A memory of the person goes, and so does one that was derived from erased memories alone."""
        metadata = row.get("metadata")
        if named or (
            isinstance(metadata, dict) and (self._derived(metadata) or str(metadata.get("reflection_id")) in self.erased)
        ):
            return _DELETE
        return Decision(values=self.scrubbed(row))

    def _derived(self, metadata: Mapping[str, Any]) -> bool:
        return self._without_sources([metadata.get(name) for name in _SOURCES])

    def _without_sources(self, lists: list[Any]) -> bool:
        """Whether there were sources, and all have been erased."""
        sources = [str(one) for some in lists if isinstance(some, list) for one in some]
        return bool(sources) and all(one in self.erased for one in sources)

    def _reflection(self, row: Mapping[str, Any], named: bool) -> Decision:
        if named or self._without_sources([row.get(name) for name in _SOURCES]):
            return _DELETE
        values = self.scrubbed(row)
        lost = _lost_insights(row.get("metadata"), values.get("metadata"))
        for name in ("content", "summary"):
            if lost and row.get(name):
                values[name] = without_insights(row[name], lost)
        return Decision(values=values)

    def _node(self, row: Mapping[str, Any], named: bool) -> Decision:
        words = self.subject.words
        names = [row["node_id"], row["label"], row.get("project") or ""]
        if any(map(words.found, names)) or any(name.lower() in self.subject.names for name in names[:2]):
            return _DELETE
        return Decision(values=self.scrubbed(row))

    def _edge(self, row: Mapping[str, Any], named: bool) -> Decision:
        words, properties = self.subject.words, row.get("properties")
        if words.found(row["relation"]) or words.found(row.get("project") or ""):
            return _DELETE
        if isinstance(properties, dict) and self._without_sources([properties.get("source_memory_ids")]):
            return _DELETE
        return Decision(values=self.scrubbed(row))


_DECIDE: dict[Action, Callable[[Judge, Mapping[str, Any], bool], Decision]] = {
    Action.DELETE: Judge._delete,
    Action.MEMORY: Judge._memory,
    Action.ARCHIVED: Judge._archived,
    Action.REFLECTION: Judge._reflection,
    Action.NODE: Judge._node,
    Action.EDGE: Judge._edge,
    Action.ANONYMISE: Judge._anonymise,
    Action.SCRUB: Judge._scrub,
}


def _nobody(column: Column) -> Any:
    return _empty(column) if column.kind == "uuid" else ANONYMOUS


def _empty(column: Column) -> Any:
    if not column.required:
        return None
    if column.kind == "uuid":
        return UUID(int=0)
    return {} if column.kind == "json" else ANONYMOUS


def _lost_insights(before: Any, after: Any) -> list[str]:
    """The texts of insights that a reflection's metadata had, and has no more."""
    kept = _insights(after)
    return [text for text in _insights(before) if text not in kept] if isinstance(after, dict) else []


def _insights(metadata: Any) -> list[str]:
    found = metadata.get("key_insights") if isinstance(metadata, dict) else None
    texts = [one.get("text") for one in found or () if isinstance(one, dict)] if isinstance(found, list) else []
    return [text for text in texts if isinstance(text, str)]


def without_insights(text: str, lost: list[str]) -> str:
    """The text of a reflection without the lines of some insights."""
    lines = {f"- {one}" for one in lost}
    return "\n".join(line for line in text.split("\n") if line not in lines)
