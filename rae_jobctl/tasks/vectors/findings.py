"""What a comparison has found so far, in counters, and in ids of which the first hundred of each kind are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rae_jobctl.vectors.types import PointId

if TYPE_CHECKING:
    from rae_jobctl.tasks.vectors.session import Session

#: Ids listed of each kind; the counters are exact whatever their number.
MAX_IDS = 100

POINTS = "pointsChecked"
MEMORIES = "memoriesChecked"
GHOSTS = "ghosts"
GHOSTS_DELETED = "ghostsDeleted"
GHOSTS_FRESH = "ghostsFresh"
MISSING = "missing"
MENDED = "missingMended"
UNMENDABLE = "missingUnmendable"
QUEUED = "queuedDeleted"
UNKNOWN = "pointsOfUnknownTenants"

_SAMPLES = "samples"


@dataclass(frozen=True)
class Findings:
    """Counters and ids in the session's own state, so that they are stored with each batch and go back with it."""

    session: Session

    def add(self, counter: str, count: int) -> None:
        """Count; call it within the batch that stores it."""
        self.session.counters[counter] = self.session.counters.get(counter, 0) + count

    def note(self, kind: str, ids: Iterable[PointId]) -> None:
        """Keep ids of a kind while there is room, after `move` within the same batch."""
        cursor = dict(self.session.cursor or {})
        samples = {name: list(kept) for name, kept in cursor.get(_SAMPLES, {}).items()}
        kept = samples.setdefault(kind, [])
        kept += list(ids)[: MAX_IDS - len(kept)]
        self.session.cursor = {**cursor, _SAMPLES: samples}

    def move(self, **place: Any) -> None:
        """Set the place to go on from."""
        cursor = self.session.cursor or {}
        self.session.cursor = {**place, _SAMPLES: cursor.get(_SAMPLES, {})}

    @property
    def place(self) -> Mapping[str, Any]:
        """Where to go on from; empty at the beginning."""
        return {name: value for name, value in (self.session.cursor or {}).items() if name != _SAMPLES}

    def ids(self) -> dict[str, list[PointId]]:
        """The ids kept, by kind; kinds without any are left out."""
        return {kind: ids for kind, ids in (self.session.cursor or {}).get(_SAMPLES, {}).items() if ids}


def left_over(counters: Mapping[str, int]) -> int:
    """Findings that were not mended."""
    found = counters.get(GHOSTS, 0) + counters.get(MISSING, 0) + counters.get(UNKNOWN, 0)
    return found - counters.get(GHOSTS_DELETED, 0) - counters.get(MENDED, 0)


def told(counters: Mapping[str, int], *, mended: bool) -> str:
    """One sentence of what was compared and found.

    Args:
        counters: of one tenant or the sum of all.
        mended: False words what was mended as what would be.
    """
    would = "" if mended else "would be "
    get = counters.get
    parts = [f"{get(POINTS, 0)} vectors and {get(MEMORIES, 0)} memories compared"]
    if get(GHOSTS, 0):
        deleted = f", {get(GHOSTS_DELETED, 0)} {would}deleted" if get(GHOSTS_DELETED, 0) else ""
        parts.append(f"{get(GHOSTS, 0)} vectors without a memory{deleted}")
    if get(MISSING, 0):
        written = f", {get(MENDED, 0)} {would}written from PostgreSQL" if get(MENDED, 0) else ""
        embed = f", {get(UNMENDABLE, 0)} to be embedded by RAE" if get(UNMENDABLE, 0) else ""
        parts.append(f"{get(MISSING, 0)} memories without a vector{written}{embed}")
    if get(QUEUED, 0):
        parts.append(f"{get(QUEUED, 0)} queued deletions {'made up for' if mended else 'waiting'}")
    if get(UNKNOWN, 0):
        parts.append(f"{get(UNKNOWN, 0)} vectors of tenants that PostgreSQL does not know")
    return "; ".join(parts) if len(parts) > 1 else f"{parts[0]}: consistent"
