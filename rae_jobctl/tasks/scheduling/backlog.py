"""What waits for extraction, project by project, and what it would cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.llm.types import Estimate, Memory
from rae_jobctl.tasks.extraction.gate import has_content

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

#: Backlogs are counted up to this; beyond it the number of shards is the greatest anyway.
MOST_COUNTED = 10_000
#: To count all of them, for a person who wants to know.
UNBOUNDED = 2**40
#: Memories read of a project to estimate what its others would cost.
SAMPLE = 100
#: Cost of memories, without a call: Provider.estimate_extraction.
Estimator = Callable[[Sequence[Memory]], Estimate]

_BACKLOGS = "SELECT tenant_id, project, waiting, held FROM rae_jobs.queue_backlogs($1, $2) ORDER BY tenant_id, project"

_SAMPLE = """
SELECT id, content
FROM memories
WHERE tenant_id = $1
  AND project = $2
  AND layer = 'episodic'
  AND NOT graph_extracted
ORDER BY created_at, id
LIMIT $3
"""


@dataclass(frozen=True)
class Backlog:
    """What waits in one project.

    Attributes:
        waiting: memories that an extraction would take now, up to what was counted.
        held: those that are leased, wait after a failure, or are dead.
    """

    tenant_id: UUID
    project: str
    waiting: int
    held: int = 0


async def read_backlogs(connection: Connection, tries: int, most: int = MOST_COUNTED) -> list[Backlog]:
    """Every project with a memory whose graph was not extracted, in the order of tenant and project.

    Args:
        connection: in a transaction.
        tries: as the extraction's: a memory that failed so often waits no more.
        most: counted of each project.
    """
    return [Backlog(*row) for row in await connection.fetch(_BACKLOGS, most, tries)]


async def estimate(connection: Connection, backlog: Backlog, estimator: Estimator) -> Callable[[int], Estimate]:
    """What so many memories of a project would cost, by the length of its oldest.

    Args:
        connection: free.

    Returns:
        A function of the number of memories.
    """
    async with tenant_transaction(connection, backlog.tenant_id, readonly=True):
        rows = await connection.fetch(_SAMPLE, backlog.tenant_id, backlog.project, SAMPLE)
    sample = [Memory(row["id"], row["content"]) for row in rows]
    found = estimator([memory for memory in sample if has_content(memory.content)])
    return lambda memories: _scaled(found, memories / len(sample) if sample else 0.0)


def _scaled(found: Estimate, factor: float) -> Estimate:
    return Estimate(
        calls=math.ceil(found.calls * factor),
        prompt_tokens=round(found.prompt_tokens * factor),
        completion_tokens=round(found.completion_tokens * factor),
        cost_usd=None if found.cost_usd is None else found.cost_usd * factor,
    )
