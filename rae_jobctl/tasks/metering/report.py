"""What is budgeted, spent and reserved in the present day and month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from rae_jobctl.db.pool import tenant_transaction
from rae_jobctl.db.tenants import Tenant
from rae_jobctl.tasks.fleet import known_tenants
from rae_jobctl.tasks.metering.limits import WHOLE_TENANT, Limit, Period, limits_of, project_limits, smallest
from rae_jobctl.tasks.metering.settings import LimitSettings

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Pool

_COMMITTED = """
SELECT project, period, committed_usd
FROM rae_jobs.llm_budget_periods
WHERE tenant_id = $1
  AND ((period = 'day' AND starts_on = $2) OR (period = 'month' AND starts_on = $3))
"""

_RESERVED = """
SELECT project,
       sum(reserved_usd) AS month,
       coalesce(sum(reserved_usd) FILTER (WHERE created_at >= $2::date::timestamp AT TIME ZONE 'UTC'), 0) AS day
FROM rae_jobs.llm_usage
WHERE tenant_id = $1
  AND state = 'reserved'
  AND created_at >= $3::date::timestamp AT TIME ZONE 'UTC'
GROUP BY project
"""

_Key = tuple[str, Period]


@dataclass(frozen=True)
class Budget:
    """A tenant's or a project's money in a period.

    Attributes:
        project: empty for all of the tenant's projects together.
        starts_on: the period's first day, UTC.
        limit: None where nothing limits it.
        spent, reserved: USD; a call of a pod that died stays reserved.
    """

    tenant: Tenant
    project: str
    period: Period
    starts_on: date
    limit: Limit | None
    spent: Decimal
    reserved: Decimal

    @property
    def left(self) -> Decimal | None:
        """What may still be spent, None where nothing limits it; a limit that was lowered leaves nothing, not less."""
        return None if self.limit is None else max(Decimal(0), self.limit.usd - self.spent - self.reserved)


async def read_budgets(pool: Pool, tenant: str | None, settings: LimitSettings) -> list[Budget]:
    """All that are limited or have been spent of, by tenant, project and period.

    Raises:
        BadDataError: no such tenant.
        ConfigError: a budget is nonsense.
    """
    found = []
    for one in await known_tenants(pool, tenant):
        async with pool.acquire() as connection, tenant_transaction(connection, one.id, readonly=True):
            found += await _of_tenant(connection, one, settings)
    return found


async def _of_tenant(connection: Connection, tenant: Tenant, settings: LimitSettings) -> list[Budget]:
    now: datetime = await connection.fetchval("SELECT now()")
    starts = {period: period.start(now) for period in Period}
    limits = await limits_of(connection, tenant, settings)
    of_projects = await project_limits(connection, tenant.id, None) if limits.has_table else []
    holding = smallest([*limits.own, *of_projects])
    days = (tenant.id, starts[Period.DAY], starts[Period.MONTH])
    rows = await connection.fetch(_COMMITTED, *days)
    committed = {(row["project"], Period(row["period"])): row["committed_usd"] for row in rows}
    reserved = await _reserved(connection, days)
    return [_budget(tenant, key, starts, holding, committed, reserved) for key in sorted({*holding, *committed})]


async def _reserved(connection: Connection, days: tuple[object, ...]) -> dict[_Key, Decimal]:
    found: dict[_Key, Decimal] = {}
    for row in await connection.fetch(_RESERVED, *days):
        for project in {WHOLE_TENANT, row["project"]}:
            for period in Period:
                found[project, period] = found.get((project, period), Decimal(0)) + row[str(period)]
    return found


def _budget(
    tenant: Tenant,
    key: _Key,
    starts: Mapping[Period, date],
    limits: Mapping[_Key, Limit],
    committed: Mapping[_Key, Decimal],
    reserved: Mapping[_Key, Decimal],
) -> Budget:
    held = reserved.get(key, Decimal(0))
    spent = max(Decimal(0), committed.get(key, Decimal(0)) - held)
    return Budget(tenant, key[0], key[1], starts[key[1]], limits.get(key), spent, held)
