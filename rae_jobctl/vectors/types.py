"""What is exchanged with the vector store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

#: A UUID's text or a number, the two kinds of id that Qdrant knows.
PointId = str | int


@dataclass(frozen=True)
class Point:
    """A point as it was read: its id and the asked-for part of its payload."""

    id: PointId
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def uuid(self) -> UUID | None:
        """The id as a memory's id; None for a number."""
        if isinstance(self.id, int):
            return None
        try:
            return UUID(self.id)
        except ValueError:
            return None


@dataclass(frozen=True)
class Page:
    """Points in the order of ids; `next` is where the next page begins, None after the last."""

    points: tuple[Point, ...]
    next: PointId | None


@dataclass(frozen=True)
class NewPoint:
    """A point to be written.

    Attributes:
        id: the memory's.
        vectors: by the vector's name within the collection; the name is empty in a collection of one nameless vector.
        payload: what RAE finds the point by.
    """

    id: UUID
    vectors: Mapping[str, list[float]] = field(repr=False)
    payload: Mapping[str, Any] = field(repr=False)
