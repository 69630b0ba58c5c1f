"""Reservations: the worst case of a call is booked before it, and made good after it.

`llm_usage` has a row a call, `llm_budget_periods` the sums of a tenant and of each of its projects by day and by month (UTC).
Both change in one transaction, so a period's sum is always that of its rows: what was reserved and not settled counts as spent,
be its pod alive or not. All transactions take the rows of the periods in the same order, and hold them for a moment only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.errors import BudgetExhausted, ConfigError
from rae_jobctl.llm.types import Usage
from rae_jobctl.tasks.metering.limits import WHOLE_TENANT, Limit, Period, TenantLimits, project_limits, smallest

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool

#: USD for a million prompt, cached and completion tokens.
Price = tuple[float, float, float]
_SMALLEST = Decimal("0.00000001")
_MILLION = Decimal(1_000_000)

# The sum grows only where no limit of that row is passed; a row that is not returned was in the way.
_RESERVE = """
INSERT INTO rae_jobs.llm_budget_periods AS p (tenant_id, project, period, starts_on, committed_usd)
SELECT $1::uuid, l.project, l.period, l.starts_on, $2::numeric
FROM unnest($3::text[], $4::text[], $5::date[], $6::numeric[]) AS l (project, period, starts_on, most)
WHERE l.most IS NULL OR $2 <= l.most
ORDER BY l.project, l.period
ON CONFLICT (tenant_id, project, period, starts_on) DO UPDATE
SET committed_usd = p.committed_usd + excluded.committed_usd
WHERE coalesce(
    p.committed_usd + excluded.committed_usd <= (
        SELECT l.most
        FROM unnest($3::text[], $4::text[], $6::numeric[]) AS l (project, period, most)
        WHERE l.project = p.project AND l.period = p.period
    ),
    true
)
RETURNING p.project, p.period
"""

_COMMITTED = """
SELECT l.project, l.period, coalesce(p.committed_usd, 0) AS committed_usd
FROM unnest($2::text[], $3::text[], $4::date[]) AS l (project, period, starts_on)
LEFT JOIN rae_jobs.llm_budget_periods AS p
    ON p.tenant_id = $1 AND p.project = l.project AND p.period = l.period AND p.starts_on = l.starts_on
"""

_INSERT = """
INSERT INTO rae_jobs.llm_usage (
    run_id, tenant_id, project, task, provider, model, state, reserved_usd, reserved_tokens, created_at
)
VALUES ($1, $2, $3, $4, $5, $6, 'reserved', $7, $8, $9)
RETURNING id
"""

_CLOSE = """
UPDATE rae_jobs.llm_usage
SET state = $3, cost_usd = $4, prompt_tokens = $5, cached_tokens = $6, completion_tokens = $7, duration_ms = $8, error_class = $9,
    settled_at = now()
WHERE id = $1 AND tenant_id = $2 AND state = 'reserved'
"""

_LOCK = """
SELECT
FROM rae_jobs.llm_budget_periods AS p
JOIN unnest($2::text[], $3::text[], $4::date[]) AS l (project, period, starts_on)
    ON p.project = l.project AND p.period = l.period AND p.starts_on = l.starts_on
WHERE p.tenant_id = $1
ORDER BY p.project, p.period
FOR NO KEY UPDATE OF p
"""

# Never below nothing, should somebody have deleted the period meanwhile.
_CORRECT = """
UPDATE rae_jobs.llm_budget_periods AS p
SET committed_usd = greatest(0, p.committed_usd + $5)
FROM unnest($2::text[], $3::text[], $4::date[]) AS l (project, period, starts_on)
WHERE p.tenant_id = $1 AND p.project = l.project AND p.period = l.period AND p.starts_on = l.starts_on
"""


@dataclass(frozen=True)
class Purpose:
    """What calls are for: the columns of `llm_usage` that say so."""

    run_id: UUID | None
    tenant_id: UUID
    project: str
    task: str
    provider: str
    model: str


@dataclass(frozen=True)
class Reservation:
    """A call that may be made now; it counts as spent until it is closed.

    Attributes:
        usd: what is booked for it.
        moment: whose day and month it is booked in.
    """

    id: UUID
    purpose: Purpose
    usd: Decimal
    moment: datetime


def money(price: Price | None, usage: Usage) -> Decimal | None:
    """USD of a usage, rounded up to what the ledger keeps; None without a price."""
    if price is None:
        return None
    prompt, cached, completion = (Decimal(str(usd)) for usd in price)
    fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
    usd = (fresh * prompt + usage.cached_tokens * cached + usage.completion_tokens * completion) / _MILLION
    return usd.quantize(_SMALLEST, ROUND_UP)


def worst(price: Price, prompt_tokens: int, completion_tokens: int) -> Decimal:
    """USD that a call may cost at most; a cached token is taken for no cheaper than a fresh one, whatever its price."""
    prompt, cached, completion = price
    usd = money((max(prompt, cached), cached, completion), Usage(1, prompt_tokens, 0, completion_tokens))
    assert usd is not None
    return usd


async def reserve(
    pool: Pool, purpose: Purpose, limits: TenantLimits, usd: Decimal | None, tokens: int, moment: datetime | None = None
) -> Reservation:
    """Book `usd` in all periods that it falls into, or in none.

    Args:
        limits: of the tenant; those of the project are read in the same transaction.
        usd: None where no price is known.
        tokens: for the record.
        moment: the database's present when None.

    Raises:
        BudgetExhausted: a limit would be passed.
        ConfigError: there is one, and no price.
    """
    async with pool.acquire() as connection, tenant_transaction(connection, purpose.tenant_id):
        at = moment or await _now(connection)
        found = await applying(connection, purpose, limits)
        usd = _priced(usd, purpose, found)
        await _commit(connection, purpose, found, usd, at)
        row = (purpose.run_id, purpose.tenant_id, purpose.project, purpose.task, purpose.provider, purpose.model)
        made = await connection.fetchval(_INSERT, *row, usd, tokens, at)
    return Reservation(made, purpose, usd, at)


async def require(
    pool: Pool, purpose: Purpose, limits: TenantLimits, usd: Decimal | None, moment: datetime | None = None
) -> None:
    """See that `usd` could be booked at this moment.

    Raises:
        BudgetExhausted, ConfigError: as `reserve`.
    """
    async with pool.acquire() as connection, tenant_transaction(connection, purpose.tenant_id, readonly=True):
        at = moment or await _now(connection)
        found = await applying(connection, purpose, limits)
        usd = _priced(usd, purpose, found)
        spent = await _spent(connection, purpose, at)
        over = [limit for key, limit in found.items() if spent[key] + usd > limit.usd]
        if over:
            raise _exhausted(over, spent, usd, at)


async def applying(connection: Connection, purpose: Purpose, limits: TenantLimits) -> dict[tuple[str, Period], Limit]:
    """The limits that hold for calls of a project."""
    of_project = await project_limits(connection, purpose.tenant_id, purpose.project) if limits.has_table else []
    return smallest([*limits.own, *of_project])


async def settle(
    pool: Pool, made: Reservation, cost: Decimal | None, usage: Usage | None, seconds: float, cause: str | None
) -> None:
    """Replace a reservation by what the call has cost.

    Args:
        cost: None where no price is known.
        seconds: how long it took.
        cause: what went wrong, in a word.
    """
    counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) if usage else (None, None, None)
    await _close(pool, made, "settled", cost, counts, seconds, cause)


async def release(pool: Pool, made: Reservation, seconds: float, cause: str | None) -> None:
    """Take a reservation back: the call was surely not charged for."""
    await _close(pool, made, "released", Decimal(0), (None, None, None), seconds, cause)


async def _now(connection: Connection) -> datetime:
    moment: datetime = await connection.fetchval("SELECT now()")
    return moment


def _periods(purpose: Purpose) -> list[tuple[str, Period]]:
    return [(project, period) for project in dict.fromkeys((WHOLE_TENANT, purpose.project)) for period in Period]


def _columns(keys: Sequence[tuple[str, Period]], moment: datetime) -> tuple[list[str], list[str], list[object]]:
    return [key[0] for key in keys], [str(key[1]) for key in keys], [key[1].start(moment) for key in keys]


def _priced(usd: Decimal | None, purpose: Purpose, found: Mapping[tuple[str, Period], Limit]) -> Decimal:
    if usd is not None:
        return usd
    if found:
        limit = next(iter(found.values()))
        raise ConfigError(
            f"there is a budget ({limit.source}), and the price of model {purpose.model[:80]!r} is unknown",
            reason="PriceUnknown",
            hint="set RAE_LLM_PRICE_PROMPT and RAE_LLM_PRICE_COMPLETION (USD per million tokens; 0 where it costs nothing)",
        )
    return Decimal(0)


async def _commit(
    connection: Connection, purpose: Purpose, found: Mapping[tuple[str, Period], Limit], usd: Decimal, at: datetime
) -> None:
    keys = _periods(purpose)
    most = [found[key].usd if key in found else None for key in keys]
    rows = await connection.fetch(_RESERVE, purpose.tenant_id, usd, *_columns(keys, at), most)
    booked = {(row["project"], Period(row["period"])) for row in rows}
    over = [found[key] for key in keys if key not in booked]
    if over:
        # The sums that were in the way have not grown; those that have are taken back with the transaction.
        spent = await _spent(connection, purpose, at)
        raise _exhausted(over, spent, usd, at)


async def _spent(connection: Connection, purpose: Purpose, at: datetime) -> dict[tuple[str, Period], Decimal]:
    rows = await connection.fetch(_COMMITTED, purpose.tenant_id, *_columns(_periods(purpose), at))
    return {(row["project"], Period(row["period"])): row["committed_usd"] for row in rows}


def _exhausted(over: Sequence[Limit], spent: Mapping[tuple[str, Period], Decimal], usd: Decimal, at: datetime) -> BudgetExhausted:
    """Of several limits the one that holds longest is told."""
    limit = max(over, key=lambda one: one.period.end(at))
    name = "daily" if limit.period is Period.DAY else "monthly"
    whose = f"project {limit.project[:60]!r}" if limit.project else "the tenant"
    free = limit.period.end(at)
    return BudgetExhausted(
        f"the {name} budget of {whose} has no room for a call of up to {usd:.6f} USD: "
        f"{spent[limit.project, limit.period]:.6f} of {limit.usd:.6f} USD are spent or reserved; "
        f"the next period begins at {free:%Y-%m-%dT%H:%MZ}",
        hint=f"`rae-jobctl budget show` has all of them; this one is set by {limit.source}",
        retry_after=free,
    )


async def _close(
    pool: Pool,
    made: Reservation,
    state: str,
    cost: Decimal | None,
    counts: tuple[int | None, int | None, int | None],
    seconds: float,
    cause: str | None,
) -> None:
    tenant_id = made.purpose.tenant_id
    keys = _columns(_periods(made.purpose), made.moment)
    async with pool.acquire() as connection, tenant_transaction(connection, tenant_id):
        done = await connection.execute(_CLOSE, made.id, tenant_id, state, cost, *counts, seconds * 1000, cause)
        difference = (cost if cost is not None else made.usd) - made.usd
        if done != "UPDATE 1" or not difference:
            return
        await connection.execute(_LOCK, tenant_id, *keys)
        await connection.execute(_CORRECT, tenant_id, *keys, difference)
