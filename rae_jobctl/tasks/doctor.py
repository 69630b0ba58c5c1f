"""What is amiss with an installation, looked for before a task trips over it. Read only."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rae_jobctl.db.history import Filter, count_dead
from rae_jobctl.db.ledger import prove_affinity
from rae_jobctl.db.pauses import Pause, list_pauses
from rae_jobctl.db.pool import open_pool
from rae_jobctl.db.schema import latest_version, require_schema
from rae_jobctl.db.tenants import ALL_TENANTS, Tenant, list_known_tenants, list_tenants
from rae_jobctl.errors import ExitCode, TaskError
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.logs import as_task_error
from rae_jobctl.settings import DatabaseSettings, text
from rae_jobctl.tasks.decay.params import IMPORTANCE_RATE, STRENGTH_RATE, DecayParams, RateRule, switched_off
from rae_jobctl.tasks.retention.policy import Defaults
from rae_jobctl.tasks.retention.tables import find_tables
from rae_jobctl.tasks.webhooks.outbox import count_left
from rae_jobctl.vectors.client import open_qdrant
from rae_jobctl.vectors.settings import QdrantSettings
from rae_jobctl.webhooks.addresses import Unreachable, resolve
from rae_jobctl.webhooks.settings import WebhookSettings

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool
    from rae_jobctl.slots import Slot

#: Tenants whose own settings are wrong that are named.
_NAMED = 5

# Tenants whose strength was not decayed for longer than one run makes good; none where decay never ran.
_BEHIND = """
SELECT count(*) AS tenants, min(day) AS day
FROM (
    SELECT max((r.result ->> 'day')::date) AS day
    FROM rae_jobs.task_runs AS r
    WHERE r.task = 'decay' AND r.state = 'finished' AND r.tenant_id = ANY ($2)
    GROUP BY r.tenant_id
) AS last
WHERE day < $1
"""


class Health(StrEnum):
    """How a check ended."""

    OK = "ok"
    OFF = "off"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        health: how it ended.
        message: one line for a person.
        hint: how to mend it.
        exit_code: of a failed one, as a task would leave.
    """

    name: str
    health: Health
    message: str
    hint: str | None = None
    exit_code: ExitCode = ExitCode.DONE


Look = Callable[[], Awaitable[Check]]


async def examine(slot: Slot) -> AsyncIterator[Check]:
    """Look at everything, the cheapest first; what fails is told as the task that needs it would tell it.

    Args:
        slot: its moment is "now".
    """
    for rule in (STRENGTH_RATE, IMPORTANCE_RATE):
        yield await _told(_rate_name(rule), lambda rule=rule: _rate(rule, slot))  # type: ignore[misc]
    yield await _told("retention", _retention)
    yield await _told("language model", _model)
    yield await _told("qdrant", _qdrant)
    yield await _told("redis", _redis)
    yield await _told("webhook", _webhook)
    async for check in _database(slot):
        yield check


async def _told(name: str, look: Look) -> Check:
    try:
        return await look()
    except Exception as raised:
        error = as_task_error(raised)
        return Check(name, Health.FAILED, error.message, error.hint, error.exit_code)


def _rate_name(rule: RateRule) -> str:
    return "decay" if rule is STRENGTH_RATE else "decay --importance"


async def _rate(rule: RateRule, slot: Slot) -> Check:
    name = _rate_name(rule)
    if off := switched_off(rule):
        return Check(name, Health.OFF, f"{off} is false")
    params = DecayParams.from_env(slot.at, rule=rule)
    return Check(name, Health.OK, f"{rule.setting} is {params.rate:g}: {rule.meaning}")


async def _retention() -> Check:
    days = ", ".join(f"{name} {kept}" for name, kept in Defaults.from_env().days.items() if kept > 0)
    return Check("retention", Health.OK, f"days kept: {days}; all else for ever")


async def _model() -> Check:
    settings = LlmSettings.from_env()
    if settings.provider is not ProviderName.OPENAI:
        return Check("language model", Health.OK, f"{settings.provider}, which costs nothing a call")
    if settings.price is None:
        hint = "RAE_LLM_PRICE_PROMPT and RAE_LLM_PRICE_COMPLETION set it, so that costs can be told and bounded"
        return Check("language model", Health.WARNING, f"{settings.model}, whose price is unknown", hint)
    return Check("language model", Health.OK, f"{settings.model} at {settings.base_url or 'OpenAI'}")


async def _qdrant() -> Check:
    settings = QdrantSettings.from_env()
    if settings is None:
        return Check("qdrant", Health.OFF, "QDRANT_URL and QDRANT_HOST are unset: vectors are left alone")
    async with open_qdrant(settings) as client:
        sizes = await client.vector_sizes()
    shown = ", ".join(f"{name or 'unnamed'} {size}" for name, size in sizes.items())
    return Check("qdrant", Health.OK, f"collection {settings.collection} with vectors {shown}")


async def _redis() -> Check:
    url = text(os.environ, "REDIS_URL")
    if not url:
        return Check("redis", Health.OFF, "REDIS_URL is unset: the context cache is left alone")
    from redis import exceptions
    from redis.asyncio import Redis

    try:
        async with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as redis:
            await redis.ping()
    except (exceptions.RedisError, ValueError, OSError) as error:
        hint = "check REDIS_URL, and that this machine may reach it"
        return Check("redis", Health.FAILED, f"Redis does not answer ({type(error).__name__})", hint, ExitCode.TRANSIENT)
    return Check("redis", Health.OK, "answers")


async def _webhook() -> Check:
    settings = WebhookSettings.from_env()
    if settings is None:
        return Check("webhook", Health.OFF, "RAE_WEBHOOK_URL is unset: nobody is notified")
    parts = urlsplit(settings.url)
    try:
        await resolve(settings.where, parts.port or 443, settings.allow_private)
    except Unreachable as error:
        hint = "check RAE_WEBHOOK_URL; a receiver at a private address needs RAE_WEBHOOK_ALLOW_PRIVATE=true"
        return Check("webhook", Health.FAILED, f"no message gets to {settings.where}: {error.reason}", hint, ExitCode.CONFIG)
    return Check("webhook", Health.OK, f"reflections are notified to {settings.where}")


async def _database(slot: Slot) -> AsyncIterator[Check]:
    try:
        settings = DatabaseSettings.from_env()
        async with open_pool(settings, "doctor") as pool:
            version = await pool.fetchval("SHOW server_version")
            yield Check("database", Health.OK, f"PostgreSQL {version} at {settings.where}")
            yield await _told("sessions", lambda: _sessions(pool))
            schema = await _told("schema", lambda: _schema(pool))
            yield schema
            if schema.health is Health.OK:
                async for check in _contents(pool, slot):
                    yield check
    except TaskError as error:
        yield Check("database", Health.FAILED, error.message, error.hint, error.exit_code)


async def _sessions(pool: Pool) -> Check:
    async with pool.acquire() as connection:
        await prove_affinity(pool, connection)
    return Check("sessions", Health.OK, "a connection keeps its session, so locks hold")


async def _schema(pool: Pool) -> Check:
    async with pool.acquire() as connection:
        await require_schema(connection)
    return Check("schema", Health.OK, f"version {latest_version()}, as this image needs")


async def _contents(pool: Pool, slot: Slot) -> AsyncIterator[Check]:
    async with pool.acquire() as connection:
        tenants = await list_known_tenants(connection)
        yield await _told("rights", lambda: _rights(connection))
        yield await _told("tenants", lambda: _tenants(tenants, slot))
        # A tenant whose last memory has gone has nothing that could be behind.
        with_memories = await list_tenants(connection)
        yield await _told("days of decay", lambda: _days(connection, with_memories, slot))
        yield await _told("runs", lambda: _dead(connection))
        yield await _told("notifications", lambda: _notifications(connection))
        yield await _told("pauses", lambda: _pauses(connection, tenants))


async def _rights(connection: Connection) -> Check:
    found, absent = await find_tables(connection)
    some = f"; not in this database: {', '.join(absent)}" if absent else ""
    return Check("rights", Health.OK, f"{len({one.table.name for one in found})} tables can be cleaned{some}")


async def _tenants(tenants: Sequence[Tenant], slot: Slot) -> Check:
    wrong = [f"{tenant.name}: {message}" for tenant in tenants if (message := _own_settings(tenant, slot))]
    if not wrong:
        return Check("tenants", Health.OK, f"{len(tenants)} known, none with a setting of its own that is refused")
    more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    hint = "mend tenants.config; until then the task fails for this tenant and goes on with the others"
    return Check("tenants", Health.FAILED, "; ".join(wrong[:_NAMED]) + more, hint, ExitCode.CONFIG)


def _own_settings(tenant: Tenant, slot: Slot) -> str | None:
    try:
        for rule in (STRENGTH_RATE, IMPORTANCE_RATE):
            DecayParams(slot.at, rule.default, 1, rule=rule).rate_of(tenant)
        Defaults.from_env({}).of(tenant)
    except TaskError as error:
        return error.message
    return None


async def _days(connection: Connection, tenants: Sequence[Tenant], slot: Slot) -> Check:
    if switched_off(STRENGTH_RATE):
        return Check("days of decay", Health.OFF, "decay is off")
    limit = DecayParams(slot.at, 1, _catch_up(slot)).first_made_good()
    row = await connection.fetchrow(_BEHIND, limit, [tenant.id for tenant in tenants])
    assert row is not None
    if not row["tenants"]:
        return Check("days of decay", Health.OK, "no tenant is further behind than one run makes good")
    message = f"{row['tenants']} tenants were last decayed through {row['day']} or a little later: the next run loses days"
    return Check(
        "days of decay", Health.WARNING, message, "afterwards: rae-jobctl backfill decay --dry-run; and see why nothing ran"
    )


def _catch_up(slot: Slot) -> int:
    return DecayParams.from_env(slot.at, allow_steep=True).max_days


async def _dead(connection: Connection) -> Check:
    count = await count_dead(connection, Filter())
    if not count:
        return Check("runs", Health.OK, "no dead letter")
    return Check("runs", Health.WARNING, f"{count} dead letters wait for somebody's decision", "rae-jobctl runs list --dead")


async def _notifications(connection: Connection) -> Check:
    waiting, dead = await count_left(connection)
    if not waiting and not dead:
        return Check("notifications", Health.OK, "all delivered")
    message = f"{waiting} wait for their delivery, {dead} were given up"
    if dead or not text(os.environ, "RAE_WEBHOOK_URL"):
        return Check("notifications", Health.WARNING, message, "docs/webhooks.md says why and how to send them again")
    return Check("notifications", Health.OK, message)


async def _pauses(connection: Connection, tenants: Sequence[Tenant]) -> Check:
    """Somebody's decision, so nothing is amiss; but whoever wonders why nothing happens reads it here."""
    pauses = await list_pauses(connection)
    if not pauses:
        return Check("pauses", Health.OK, "nothing is paused")
    names = {tenant.id: f"tenant {tenant.name}" for tenant in tenants} | {ALL_TENANTS: "all tenants"}
    told = [_paused(pause, names.get(pause.tenant_id, f"tenant {pause.tenant_id}")) for pause in pauses[:_NAMED]]
    more = f", and {len(pauses) - _NAMED} more (rae-jobctl pause list)" if len(pauses) > _NAMED else ""
    return Check("pauses", Health.OK, "; ".join(told) + more)


def _paused(pause: Pause, whose: str) -> str:
    where = f", project {pause.project!r}" if pause.project else ""
    why = f" ({pause.reason})" if pause.reason else ""
    return f"{pause.what} of {whose}{where} paused since {pause.paused_at:%Y-%m-%d %H:%M} UTC{why}"
