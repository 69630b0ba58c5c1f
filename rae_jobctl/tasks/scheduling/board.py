"""Requests, as the scheduling tasks see them: asked for by a name that says what they are for, so that twice is once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

GROUP_LABEL = "tasks.rae.dev/group"
SHARD_LABEL = "tasks.rae.dev/shard"
ROUND_LABEL = "tasks.rae.dev/round"


@dataclass(frozen=True)
class Wanted:
    """A request to make.

    Attributes:
        kind: of the custom resource.
        name: the same for the same work.
        labels: to find it again.
        spec: camelCase, as in the resource.
    """

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """A request that is there.

    Attributes:
        finished: in an end state; it holds nothing up any more.
        suspended: somebody holds it back; it is not at work.
    """

    name: str
    finished: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    suspended: bool = False

    @property
    def shard(self) -> int | None:
        """Which share it works on; None where its label is no number."""
        return _number(self.labels.get(SHARD_LABEL))

    @property
    def round(self) -> int:
        """The round that made it; 0 where its label is no number."""
        return _number(self.labels.get(ROUND_LABEL)) or 0


class Board(Protocol):
    """Where requests are made."""

    async def known(self, kind: str) -> list[Known]:
        """The requests of a kind that a scheduling task made."""

    async def create(self, wanted: Wanted) -> bool:
        """Make a request; False when one of this name is there."""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def group_of(tenant_id: UUID, project: str) -> str:
    """A short name of a tenant's project that fits a label and a resource's name; projects may hold any character."""
    return hashlib.sha256(f"{tenant_id}/{project}".encode()).hexdigest()[:16]
