"""Opening the history for extraction, on purpose: the migration leaves what is there as done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.db.pool import tenant_transaction

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

#: Rows of one transaction: well under a second, whatever the size of the table.
BATCH = 2000

# By creation, the newest first: what a person remembers best is worth the money first. Keyset, so that each batch begins where
# the last one ended.
_CANDIDATES = """
SELECT id, created_at, char_length(content) AS characters
FROM memories
WHERE tenant_id = $1
  AND layer = 'episodic'
  AND graph_extracted
  AND NOT coalesce(metadata ? 'graph_extracted_at', false)
  AND project IS NOT NULL
  AND ($2::text IS NULL OR project = $2)
  AND created_at >= $3
  AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5))
ORDER BY created_at DESC, id DESC
LIMIT $6
"""

_OPEN = """
UPDATE memories
SET graph_extracted = false
WHERE tenant_id = $1 AND id = ANY($2) AND graph_extracted
"""


@dataclass
class Opened:
    """Memories opened (or, in a dry run, those that would be), their characters, and whether money ended it."""

    memories: int = 0
    characters: int = 0
    stopped_by_cost: bool = False


@dataclass(frozen=True)
class Selection:
    """Whose history, from when on.

    Attributes:
        tenant_id: the tenant.
        project: one project, or None for all.
        since: the oldest creation.
        characters: at most so many characters of text in all, or None for no bound.
    """

    tenant_id: UUID
    project: str | None
    since: datetime
    characters: int | None


async def open_history(connection: Connection, selection: Selection, *, dry_run: bool) -> Opened:
    """Set `graph_extracted` to false for episodic memories that were never extracted, batch by batch, the newest first.

    It is safe to stop and to run again: what is open is not counted twice.
    """
    opened = Opened()
    after: tuple[datetime | None, UUID | None] = (None, None)
    while not opened.stopped_by_cost:
        async with tenant_transaction(connection, selection.tenant_id, readonly=dry_run):
            rows = await connection.fetch(
                _CANDIDATES, selection.tenant_id, selection.project, selection.since, after[0], after[1], BATCH
            )
            chosen = []
            for row in rows:
                if selection.characters is not None and opened.characters + row["characters"] > selection.characters:
                    opened.stopped_by_cost = True
                    break
                opened.memories += 1
                opened.characters += row["characters"]
                chosen.append(row["id"])
            if chosen and not dry_run:
                await connection.execute(_OPEN, selection.tenant_id, chosen)
        if len(rows) < BATCH:
            break
        after = (rows[-1]["created_at"], rows[-1]["id"])
    return opened
