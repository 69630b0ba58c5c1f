"""Deleting a tenant's rows in batches, each with its audit rows in the same transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.tasks.vectors.outbox import queue_vector_deletions
from rae_jobctl.tasks.walk import Due, Manner, Place, Walk

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection, Record
    from rae_jobctl.deadline import StopSignal
    from rae_jobctl.progress import Progress

_AUDIT = """
INSERT INTO rae_jobs.deletion_audit (run_id, tenant_id, data_class, reason, table_name, deleted_count, deleted_ids, deleted_keys)
VALUES ($1, $2, $3, $4, $5, cardinality($6::uuid[]) + coalesce(cardinality($7::text[]), 0), $6, $7)
"""
# Within the server: a number of metadata may have more digits than ours have. A memory that was put back and goes once more is
# kept as it is now.
_ARCHIVED = """
WITH gone AS ({deletion}),
kept AS (
    INSERT INTO rae_jobs.archived_memories AS a (memory_id, tenant_id, run_id, memory)
    SELECT key, $1, {run}, row
    FROM gone
    ON CONFLICT (memory_id) DO UPDATE
    SET tenant_id = excluded.tenant_id, run_id = excluded.run_id, archived_at = excluded.archived_at, memory = excluded.memory
)
SELECT key, layer FROM gone
"""
#: What this project keeps of a memory goes with it.
_FORGET = "DELETE FROM rae_jobs.extraction_state WHERE tenant_id = $1 AND memory_id = ANY($2)"


@dataclass(frozen=True)
class Audit:
    """Why rows go.

    Attributes:
        data_class: of the retention policy, e.g. "episodic"; empty to take a memory's own layer.
        reason: "expired", "retention" or "user_request".
    """

    data_class: str
    reason: str


async def record_deletion(
    connection: Connection, run: Run, ids: Sequence[UUID], audit: Audit, *, table: str = "memories", keys: Sequence[str] = ()
) -> None:
    """Write the audit row of a batch; nothing for an empty one.

    Args:
        connection: of the open batch that deleted the rows.
        run: that did it.
        ids: of the deleted rows.
        audit: class and reason.
        table: where they were.
        keys: of deleted rows whose key is no uuid.
    """
    if ids or keys:
        about = (audit.data_class, audit.reason, table, list(ids), list(keys) or None)
        await connection.execute(_AUDIT, run.id, run.key.tenant_id, *about)


@dataclass(frozen=True)
class Deletion:
    """Rows of one table that are to go.

    Attributes:
        due: which.
        audit: why.
        manner: how the table is walked.
        counter: the run's counter that they are added to.
        key: SQL of the row's key in `m`, for the audit.
        key_is_uuid: whether that is a uuid.
        hung_on: rows of RAE hang on these, so that whether one goes is asked once more when nothing can be hung on it.
        archive: memories are kept in rae_jobs.archived_memories, with everything but their embeddings.
    """

    due: Due
    audit: Audit
    counter: str
    manner: Manner = field(default_factory=Manner)
    key: str = "m.id"
    key_is_uuid: bool = True
    archive: bool = False
    hung_on: bool = False

    @property
    def of_memories(self) -> bool:
        """Whether the table is that of the memories, so that what hangs on them goes as well."""
        return self.due.table == "memories"

    @property
    def _at(self) -> str:
        """The condition again: a row may have changed since the look."""
        return f"{self.due.where} AND m.ctid = ANY({self.due.parameter(1)}::tid[])"

    @property
    def at_once(self) -> str:
        """Lock and delete the rows at certain places by one statement, where nothing but the row itself says whether it goes."""
        held = f"m.ctid = ANY(ARRAY({self.hold}))"
        return self._deletion(f"{self.due.where} AND {held}")

    @property
    def hold(self) -> str:
        """Lock the rows at certain places, the last parameter. One that RAE holds is left for the next run, not waited for."""
        return f"SELECT m.ctid FROM {self.due.table} AS m WHERE {self._at} FOR UPDATE SKIP LOCKED"  # noqa: S608

    @property
    def statement(self) -> str:
        """Delete the rows at places that are held, the last parameter but the run's id where they are archived.

        A statement of its own, which sees what came until the lock: nothing can be hung on a row any more that is held, and what
        was before, a younger reflection or an edge, must not go with it.
        """
        return self._deletion(self._at)

    def _deletion(self, where: str) -> str:
        due = self.due
        layer = "coalesce(m.layer, '')" if self.of_memories else "''"
        key = self.key if self.key_is_uuid else f"({self.key})::text"
        row = ", to_jsonb(m) AS row" if self.archive else ""
        deletion = (
            f"DELETE FROM {due.table} AS m WHERE {where} "  # noqa: S608
            f"RETURNING {key} AS key, {layer} AS layer{row}"
        )
        return _ARCHIVED.format(deletion=deletion, run=f"{due.parameter(2)}::uuid") if self.archive else deletion


async def delete_due(run: Run, deletion: Deletion, progress: Progress, stop: StopSignal) -> int:
    """Delete what is due, batch by batch; returns how many rows this attempt deleted.

    Raises:
        TimeSliced, SoftLimitReached: the soft limit came between two batches.
    """
    change = partial(_delete, run, deletion)
    return await Walk(run, deletion.due, change, deletion.manner, progress, stop).all()


async def _delete(run: Run, deletion: Deletion, connection: Connection, places: list[Place]) -> int:
    if deletion.hung_on:
        held = await connection.fetch(deletion.hold, run.key.tenant_id, *deletion.due.arguments, places)
        places = [row["ctid"] for row in held]
    statement = deletion.statement if deletion.hung_on else deletion.at_once
    arguments = (*deletion.due.arguments, places, *([run.id] if deletion.archive else []))
    rows = await connection.fetch(statement, run.key.tenant_id, *arguments)
    if deletion.of_memories:
        await forget_memories(connection, run.key.tenant_id, [row["key"] for row in rows])
    await _audit(connection, run, deletion, rows)
    run.counters[deletion.counter] = run.counters.get(deletion.counter, 0) + len(rows)
    return len(rows)


async def forget_memories(connection: Connection, tenant: UUID, ids: Sequence[UUID]) -> None:
    """Take away what hangs on memories that are deleted in this transaction; their vectors follow once it is committed."""
    if ids:
        await connection.execute(_FORGET, tenant, ids)
        await queue_vector_deletions(connection, tenant, ids)


async def _audit(connection: Connection, run: Run, deletion: Deletion, rows: Sequence[Record]) -> None:
    for data_class, keys in _by_class(deletion.audit.data_class, rows).items():
        audit = Audit(data_class, deletion.audit.reason)
        ids = [key for key in keys if isinstance(key, UUID)]
        others = [key for key in keys if isinstance(key, str)]
        await record_deletion(connection, run, ids, audit, table=deletion.due.table, keys=others)


def _by_class(data_class: str, rows: Sequence[Record]) -> Mapping[str, list[UUID | str]]:
    classes: dict[str, list[UUID | str]] = defaultdict(list)
    for row in rows:
        classes[data_class or row["layer"] or "memories"].append(row["key"])
    return classes
