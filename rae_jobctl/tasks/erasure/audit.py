"""The audit of an erasure: which rows of which table, and a keyed hash in place of the person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.tasks.erasure.subject import Subject

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection
    from rae_jobctl.tasks.erasure.catalogue import Table

REASON = "user_request"

_RECORD = """
INSERT INTO rae_jobs.deletion_audit (
    run_id, tenant_id, data_class, reason, table_name, deleted_count, deleted_ids, deleted_keys, subject_hash
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

# Also of runs before this one, which may have died after the deletion: what rests on those memories is looked for again.
_ERASED = """
SELECT DISTINCT unnest(deleted_ids) AS id
FROM rae_jobs.deletion_audit
WHERE tenant_id = $1
  AND reason = $2
  AND table_name IN ('memories', 'archived_memories', 'reflections')
  AND deleted_count > 0
  AND string_to_array(subject_hash, ',') && $3::text[]
"""


async def record(
    connection: Connection, run: Run, subject: Subject, table: str, data_class: str, keys: Sequence[Any], *, deleted: bool
) -> None:
    """Write the audit row of a batch; nothing for an empty one.

    Args:
        keys: of the rows: uuids, or any other key as text.
        deleted: False for rows that stay and were rewritten; the count of such a row is 0.
    """
    if not keys:
        return
    ids = [key for key in keys if isinstance(key, UUID)]
    texts = [subject.words.replaced(str(key)) for key in keys if not isinstance(key, UUID)] or None
    about = (run.id, subject.tenant_id, data_class, REASON, table, len(keys) if deleted else 0, ids, texts, subject.label)
    await connection.execute(_RECORD, *about)


async def erased_before(connection: Connection, subject: Subject) -> list[UUID]:
    """The memories and reflections that were deleted in the name of this person."""
    rows = await connection.fetch(_ERASED, subject.tenant_id, REASON, list(subject.hashes))
    return [row["id"] for row in rows]


def key_of(table: Table, row: Mapping[str, Any]) -> Any:
    """What names a row in the audit: its uuid, or its key as text; where there is none, where it was."""
    values = [row[column.name] for column in table.key]
    if len(values) == 1 and isinstance(values[0], UUID):
        return values[0]
    return "/".join(map(str, values)) if values else "?"
