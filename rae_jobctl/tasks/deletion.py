"""Deleting memories in batches, each with its audit row in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection

#: A deletion cascades to embeddings and feeds every index, so its batches are smaller than those of an update.
BATCH = 1000

_AUDIT = """
INSERT INTO rae_jobs.deletion_audit (run_id, tenant_id, data_class, reason, deleted_count, deleted_ids)
VALUES ($1, $2, $3, $4, cardinality($5::uuid[]), $5)
"""


async def record_deletion(connection: Connection, run: Run, ids: Sequence[UUID], *, data_class: str, reason: str) -> None:
    """Write the audit row of a batch; nothing for an empty one.

    Args:
        connection: of the open batch that deleted the rows.
        run: that did it.
        ids: of the deleted rows.
        data_class: e.g. "memories".
        reason: "expired" or "retention".
    """
    if ids:
        await connection.execute(_AUDIT, run.id, run.key.tenant_id, data_class, reason, list(ids))
