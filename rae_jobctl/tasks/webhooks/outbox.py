"""The outbox of notifications, written in the transaction of what it tells of and delivered after its commit.

A crash in between, or a receiver that is away, leaves the message for the next run of `schedule-reflections`. A message keeps its
id, so that a receiver knows a second delivery from a second event: it may come twice, when we die between the receiver's answer
and our note of it, but it is never lost before it is given up.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from rae_jobctl.llm.retry import retry_after
from rae_jobctl.logs import get_logger
from rae_jobctl.webhooks.settings import WebhookSettings

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection, Pool, Record
    from rae_jobctl.deadline import StopSignal
    from rae_jobctl.webhooks.client import Answer

REFLECTION_CREATED = "reflection.created"
#: How long a delivery under way has the message to itself: longer than it can last.
_LEASE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS, _FACTOR, _LONGEST_PAUSE_SECONDS = 60.0, 4, 86_400.0
#: There is one receiver: after so many failures in a row it is left alone until the next run.
_FAILURES_IN_A_ROW = 3

_ENQUEUE = """
INSERT INTO rae_jobs.webhook_outbox (tenant_id, project, run_id, event_type, payload)
VALUES ($1, $2, $3, $4, $5)
"""

# Of all tenants: each row that comes back is then worked with its tenant's id.
_CLAIM = """
UPDATE rae_jobs.webhook_outbox
SET attempts = attempts + 1, not_before = now() + make_interval(secs => $2::float8)
WHERE id = (
    SELECT id
    FROM rae_jobs.webhook_outbox
    WHERE delivered_at IS NULL
      AND dead_at IS NULL
      AND not_before <= now()
      AND ($1::uuid IS NULL OR run_id = $1)
    ORDER BY not_before, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING id, tenant_id, payload, attempts
"""

_DELIVERED = """
UPDATE rae_jobs.webhook_outbox
SET delivered_at = now(), dead_at = NULL, last_error = NULL
WHERE id = $1
  AND tenant_id = $2
"""

# Not when another delivery has taken it up meanwhile.
_POSTPONED = """
UPDATE rae_jobs.webhook_outbox
SET last_error = $4,
    not_before = now() + make_interval(secs => $5::float8),
    dead_at = CASE WHEN $6 THEN now() END
WHERE id = $1
  AND tenant_id = $2
  AND attempts = $3
  AND delivered_at IS NULL
"""

_COUNT = """
SELECT count(*) FILTER (WHERE dead_at IS NULL) AS waiting,
       count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead
FROM rae_jobs.webhook_outbox
WHERE delivered_at IS NULL
"""


@dataclass(frozen=True)
class Delivered:
    """What became of the messages of one run: delivered, to be tried again, given up."""

    delivered: int = 0
    postponed: int = 0
    dead: int = 0

    @property
    def counters(self) -> dict[str, int]:
        """Those that are not 0, for an outcome."""
        named = {"webhooksDelivered": self.delivered, "webhooksPostponed": self.postponed, "webhooksDead": self.dead}
        return {name: count for name, count in named.items() if count}

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(self.delivered + other.delivered, self.postponed + other.postponed, self.dead + other.dead)


async def enqueue(connection: Connection, run: Run, event_type: str, data: Mapping[str, Any]) -> None:
    """Put an event into the outbox.

    Args:
        connection: of the run's open batch, which also writes what the event tells of.
        run: its tenant, project and id go along.
        event_type: full-stop delimited, e.g. "reflection.created".
        data: ids and counts, never a text of or from a memory: it leaves the installation.
    """
    key = run.key
    about = {"tenantId": str(key.tenant_id), "project": key.project, "runId": str(run.id), **data}
    payload = {"type": event_type, "timestamp": datetime.now(UTC).isoformat(), "data": about}
    await connection.execute(_ENQUEUE, key.tenant_id, key.project, run.id, event_type, payload)


async def deliver(
    pool: Pool, settings: WebhookSettings | None, stop: StopSignal, *, run_id: UUID | None = None, most: int | None = None
) -> Delivered:
    """Deliver what is due; call it in no transaction, after the events' commit. Never raises: what is left waits.

    Args:
        pool: a connection is taken for each short statement, none is held during a delivery.
        settings: None delivers nothing.
        stop: asked before each delivery.
        run_id: only the messages of this run.
        most: messages, at most `max_per_run`.
    """
    total, in_a_row = Delivered(), 0
    if settings is None:
        return total
    try:
        for _ in range(settings.max_per_run if most is None else most):
            if stop.should_stop or in_a_row >= _FAILURES_IN_A_ROW:
                break
            row = await pool.fetchrow(_CLAIM, run_id, _LEASE_SECONDS)
            if row is None:
                break
            one = await _deliver(pool, settings, row)
            total, in_a_row = total + one, 0 if one.delivered else in_a_row + 1
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        # What the run was for is stored; its messages are too.
        get_logger().warning("webhooks_left", error_class=type(error).__name__)
    return total


async def _deliver(pool: Pool, settings: WebhookSettings, row: Record) -> Delivered:
    from rae_jobctl.webhooks import client

    answer = await client.deliver(settings, str(row["id"]), body_of(row["payload"]))
    about = {"id": str(row["id"]), "tenant_id": str(row["tenant_id"]), "host": settings.where, "attempt": row["attempts"]}
    if answer.delivered:
        await pool.execute(_DELIVERED, row["id"], row["tenant_id"])
        get_logger().info("webhook_delivered", **about)
        return Delivered(delivered=1)
    dead = answer.gone or row["attempts"] >= settings.max_attempts
    pause = pause_seconds(row["attempts"], answer)
    await pool.execute(_POSTPONED, row["id"], row["tenant_id"], row["attempts"], answer.error, pause, dead)
    get_logger().warning("webhook_dead" if dead else "webhook_postponed", cause=answer.error, seconds=round(pause), **about)
    return Delivered(dead=1) if dead else Delivered(postponed=1)


def body_of(payload: Mapping[str, Any]) -> bytes:
    """The body, the same bytes each time: the order of a jsonb's keys is the database's own affair."""
    return json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def pause_seconds(attempts: int, answer: Answer) -> float:
    """Exponential backoff with jitter over its upper half; a longer Retry-After wins, up to a day."""
    full = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * _FACTOR ** min(attempts - 1, 10))
    spread = random.uniform(full / 2, full)  # noqa: S311 - spreads load, hides nothing
    return max(spread, min(retry_after(answer.headers) or 0.0, _LONGEST_PAUSE_SECONDS))


async def count_left(connection: Connection) -> tuple[int, int]:
    """Messages that wait, and those that were given up."""
    row = await connection.fetchrow(_COUNT)
    assert row is not None
    return row["waiting"], row["dead"]
