"""What an extraction is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

#: As many as a request may name.
MAX_MEMORIES = 1000
DEFAULT_LIMIT = 50


@dataclass(frozen=True)
class ExtractionParams:
    """Parameters of one extraction.

    Attributes:
        tenant: UUID or unique name.
        project: within the tenant.
        memory_ids: these and no others, of any layer; empty for a selection.
        limit: at most so many of a selection.
        pending: take what the queue has (`graph_extracted = false`), with leases, beside other runs that do the same.
        shard, shards: with `pending`, only the memories of this share of the ids.
        min_confidence: triples below it are left out, 0 to 1.
        store: write the graph and mark the memories; else only report the triples.
        tries: a memory that failed so often is dead.
        lease_seconds: how long a claim of `pending` holds without its run.
    """

    tenant: str
    project: str
    memory_ids: tuple[UUID, ...] = ()
    limit: int = DEFAULT_LIMIT
    pending: bool = False
    shard: int = 0
    shards: int = 1
    min_confidence: float = 0.7
    store: bool = True
    tries: int = 3
    lease_seconds: float = 900.0
