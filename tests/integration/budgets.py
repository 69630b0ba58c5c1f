"""What must hold of the sums of budgets, whatever happens; and how calls are booked in tests."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from rae_jobctl.tasks.metering.limits import Limit, Period, TenantLimits
from rae_jobctl.tasks.metering.reservations import Purpose
from tests.integration.memories import TENANT

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

_SUMS = """
WITH wanted AS (
    SELECT u.tenant_id, s.project, d.period, d.starts_on,
           sum(CASE u.state WHEN 'released' THEN 0 WHEN 'settled' THEN coalesce(u.cost_usd, 0) ELSE u.reserved_usd END) AS usd
    FROM rae_jobs.llm_usage AS u
    CROSS JOIN LATERAL (SELECT '' AS project UNION SELECT u.project) AS s
    CROSS JOIN LATERAL (
        VALUES ('day', (u.created_at AT TIME ZONE 'UTC')::date),
               ('month', date_trunc('month', u.created_at AT TIME ZONE 'UTC')::date)
    ) AS d (period, starts_on)
    GROUP BY u.tenant_id, s.project, d.period, d.starts_on
)
SELECT p.tenant_id, w.tenant_id, coalesce(p.project, w.project) AS project, coalesce(p.period, w.period) AS period,
       p.committed_usd, w.usd
FROM rae_jobs.llm_budget_periods AS p
FULL JOIN wanted AS w USING (tenant_id, project, period, starts_on)
WHERE p.committed_usd IS DISTINCT FROM w.usd
"""


async def assert_sums_are_those_of_the_rows(pool: Pool) -> None:
    """Each period's sum is that of its calls, to the last place."""
    assert [dict(row) for row in await pool.fetch(_SUMS)] == []


def purpose(project: str = "p", tenant: UUID = TENANT) -> Purpose:
    """A call of a project."""
    return Purpose(None, tenant, project, "extract-graph", "openai", "gpt-4o-mini")


def limits(daily: str | None = None, monthly: str | None = None, *, has_table: bool = False) -> TenantLimits:
    """Budgets of a whole tenant."""
    given = ((Period.DAY, daily), (Period.MONTH, monthly))
    return TenantLimits(tuple(Limit("", period, Decimal(usd), "test") for period, usd in given if usd), has_table)


async def committed(pool: Pool, project: str = "", period: str = "day", tenant: UUID = TENANT) -> Decimal:
    """Spent and reserved, over all periods of a kind."""
    total: Decimal = await pool.fetchval(
        """
        SELECT coalesce(sum(committed_usd), 0) FROM rae_jobs.llm_budget_periods
        WHERE tenant_id = $1 AND project = $2 AND period = $3
        """,
        tenant,
        project,
        period,
    )
    return total
