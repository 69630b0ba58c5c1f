"""process-graph-queue: for what waits for extraction, requests that name tenant, project and shard, never ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.schema import require_schema
from rae_jobctl.logs import get_logger
from rae_jobctl.outcome import Outcome
from rae_jobctl.tasks.extraction.selection import count_waiting
from rae_jobctl.tasks.scheduling.board import GROUP_LABEL, ROUND_LABEL, SHARD_LABEL, Board, Known, Wanted, group_of

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

TASK = "process-graph-queue"
KIND = "GraphExtractionRequest"
#: Backlogs are counted up to this; beyond it the number of shards is the greatest anyway.
MOST_COUNTED = 10_000

_GROUPS = "SELECT tenant_id, project FROM rae_jobs.pending_groups(1) ORDER BY tenant_id, project"


@dataclass(frozen=True)
class QueuePolicy:
    """How much is asked for at once.

    Attributes:
        max_shards: of one project, reached at MOST_COUNTED memories.
        max_requests: made by one run.
        limit: memories of one request.
        tries: as the extraction's: a dead memory waits no more.
    """

    max_shards: int = 8
    max_requests: int = 20
    limit: int = 1000
    tries: int = 3


@dataclass(frozen=True)
class Backlog:
    """What waits in one project.

    Attributes:
        waiting: memories that an extraction would take now, counted up to MOST_COUNTED.
    """

    tenant_id: UUID
    project: str
    waiting: int


async def process_queue(pool: Pool, board: Board, policy: QueuePolicy, *, dry_run: bool) -> Outcome:
    """Make the requests that are due; a repeated run makes none while they live.

    A request is a wish to work on a shard, not a list of memories, so one that fails or ends early holds up nothing: what still
    waits is asked for by the next round.
    """
    backlogs = await read_backlogs(pool, policy.tries)
    known = await board.known(KIND)
    wanted = plan(backlogs, known, policy)
    due, now = wanted, wanted[: policy.max_requests]
    made = 0 if dry_run else sum([await board.create(one) for one in now])
    counters = {
        "memories": sum(backlog.waiting for backlog in backlogs),
        "projects": len(backlogs),
        "scheduled": len(now) if dry_run else made,
        "live": sum(not one.finished for one in known),
        "postponed": len(due) - len(now),
    }
    get_logger().info("graph_queue_processed", dry_run=dry_run, **counters)
    result = {"requests": [{"name": one.name, **dict(one.spec)} for one in now]}
    reason = "DryRun" if dry_run else "Done" if made else "NothingToDo"
    message = f"{counters['scheduled']} requests {'due' if dry_run else 'made'} for {counters['memories']} waiting memories"
    return Outcome(TASK, reason, message, counters, result, dry_run=dry_run)


async def read_backlogs(pool: Pool, tries: int) -> list[Backlog]:
    """Every project in which memories wait, in the order of tenant and project."""
    async with pool.acquire() as connection:
        async with connection.transaction(readonly=True):
            await require_schema(connection)
            groups = await connection.fetch(_GROUPS)
        backlogs = []
        for group in groups:
            tenant_id, project = group["tenant_id"], group["project"]
            async with tenant_transaction(connection, tenant_id, readonly=True):
                backlogs.append(
                    Backlog(tenant_id, project, await count_waiting(connection, tenant_id, project, tries, MOST_COUNTED))
                )
    return [backlog for backlog in backlogs if backlog.waiting]


def shards_for(waiting: int, most: int) -> int:
    """One for a small backlog, the most at MOST_COUNTED, in proportion between; none for none."""
    if not waiting:
        return 0
    return max(1, min(most, round(most * waiting / MOST_COUNTED)))


def plan(backlogs: Sequence[Backlog], known: Iterable[Known], policy: QueuePolicy) -> list[Wanted]:
    """The requests that are missing, one shard of every project before the second of any, so that none waits for a large one."""
    live, rounds = _places(known)
    wanted = []
    for shard in range(policy.max_shards):
        for backlog in backlogs:
            shards, group = shards_for(backlog.waiting, policy.max_shards), group_of(backlog.tenant_id, backlog.project)
            if shard < shards and (group, shard) not in live:
                wanted.append(_request(backlog, group, shard, shards, rounds.get((group, shard), 0) + 1, policy))
    return wanted


def _places(known: Iterable[Known]) -> tuple[set[tuple[str, int]], dict[tuple[str, int], int]]:
    """Which shards have a live request, and the last round of each shard."""
    live: set[tuple[str, int]] = set()
    rounds: dict[tuple[str, int], int] = {}
    for one in known:
        try:
            place = (one.labels[GROUP_LABEL], int(one.labels[SHARD_LABEL]))
            rounds[place] = max(rounds.get(place, 0), int(one.labels[ROUND_LABEL]))
        except (KeyError, ValueError):
            continue
        if not one.finished:
            live.add(place)
    return live, rounds


def _request(backlog: Backlog, group: str, shard: int, shards: int, number: int, policy: QueuePolicy) -> Wanted:
    labels = {GROUP_LABEL: group, SHARD_LABEL: str(shard), ROUND_LABEL: str(number)}
    spec = {
        "tenantId": str(backlog.tenant_id),
        "project": backlog.project,
        "pending": True,
        "shard": shard,
        "shards": shards,
        "limit": policy.limit,
    }
    return Wanted(KIND, f"queue-{group}-{shard}-{number}", labels, spec)
