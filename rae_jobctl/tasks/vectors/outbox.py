"""The outbox of vectors to be deleted: written with the deletion of their memories, emptied once Qdrant has answered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.settings import text

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

_QUEUE = """
INSERT INTO rae_jobs.vector_deletions (tenant_id, memory_id)
SELECT $1, m
FROM unnest($2::uuid[]) AS m
ON CONFLICT DO NOTHING
"""


async def queue_vector_deletions(connection: Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    """Ask for the deletion of memories' vectors; nothing where no Qdrant is configured.

    Args:
        connection: in the transaction that deletes the memories.
        tenant_id: whose they are.
        ids: of the memories.
    """
    if ids and (text(os.environ, "QDRANT_URL") or text(os.environ, "QDRANT_HOST")):
        await connection.execute(_QUEUE, tenant_id, list(ids))
