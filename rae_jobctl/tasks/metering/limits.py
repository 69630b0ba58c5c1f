"""Which budgets apply to a call: the installation's, the tenant's own, and those of RAE's table `budgets`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from rae_jobctl.db.tenants import Tenant
from rae_jobctl.errors import ConfigError
from rae_jobctl.logs import get_logger
from rae_jobctl.tasks.metering.settings import LimitSettings

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

#: In `tenants.config`: {"llm_budget": {"daily_usd": 1.5, "monthly_usd": 20}}.
CONFIG_KEY = "llm_budget"
#: In place of a project: all of the tenant's.
WHOLE_TENANT = ""
_MOST_USD = Decimal(999_999)

# RAE's table, where it has the columns that RAE's migrations give it; other variants of it hold other units.
_BUDGETS = """
SELECT to_regclass('budgets') IS NOT NULL AS found,
       (
           SELECT count(*) = 4
           FROM pg_attribute AS a
           WHERE a.attrelid = to_regclass('budgets')
             AND NOT a.attisdropped
             AND (a.attname, format_type(a.atttypid, NULL)) IN (
                 ('tenant_id', 'uuid'), ('project', 'character varying'),
                 ('daily_limit', 'double precision'), ('monthly_limit', 'double precision')
             )
       ) AS fits,
       (
           SELECT row_security_active(c.oid) AND NOT EXISTS (
               SELECT FROM pg_policy AS p
               WHERE p.polrelid = c.oid
                 AND (p.polroles @> ARRAY[0::oid] OR EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE pg_has_role(r, 'USAGE')))
           )
           FROM pg_class AS c
           WHERE c.oid = to_regclass('budgets')
       ) AS hidden
"""

_OF_PROJECT = """
SELECT project, daily_limit, monthly_limit
FROM budgets
WHERE tenant_id = $1
  AND ($2::text IS NULL OR project = $2)
"""


class Period(StrEnum):
    """How long a budget holds, in UTC."""

    DAY = "day"
    MONTH = "month"

    def start(self, moment: datetime) -> date:
        """The first day of the period of a moment."""
        day = moment.astimezone(UTC).date()
        return day if self is Period.DAY else day.replace(day=1)

    def end(self, moment: datetime) -> datetime:
        """When the next period begins."""
        start = self.start(moment)
        # 32 days from the first are always in the next month.
        after = start + timedelta(days=1) if self is Period.DAY else (start + timedelta(days=32)).replace(day=1)
        return datetime(after.year, after.month, after.day, tzinfo=UTC)


@dataclass(frozen=True)
class Limit:
    """A budget.

    Attributes:
        project: WHOLE_TENANT for all of a tenant's projects together.
        usd: what may be spent in the period.
        source: where it was set.
    """

    project: str
    period: Period
    usd: Decimal
    source: str


@dataclass(frozen=True)
class TenantLimits:
    """The budgets of a tenant as a whole; those of its projects are in the database.

    Attributes:
        own: the installation's and the tenant's own.
        has_table: RAE's `budgets` is there to be read.
    """

    own: tuple[Limit, ...]
    has_table: bool


async def limits_of(connection: Connection, tenant: Tenant, settings: LimitSettings) -> TenantLimits:
    """What holds for a tenant.

    Raises:
        ConfigError: the tenant's config holds something else than USD, or row-level security hides RAE's budgets from us.
    """
    return TenantLimits((*_defaults(settings), *_of_config(tenant)), await _has_budgets(connection))


async def project_limits(connection: Connection, tenant_id: object, project: str | None) -> list[Limit]:
    """The rows of RAE's table; of all projects without one.

    Args:
        connection: in a transaction with row-level security set.

    Raises:
        ConfigError: a limit is no sum of money.
    """
    limits = []
    for row in await connection.fetch(_OF_PROJECT, tenant_id, project):
        for period, column in ((Period.DAY, "daily_limit"), (Period.MONTH, "monthly_limit")):
            about = f"budgets.{column} of project {row['project'][:60]!r} of tenant {tenant_id}"
            if (usd := _usd(row[column], about)) is not None:
                limits.append(Limit(row["project"], period, usd, "budgets"))
    return limits


def smallest(limits: Iterable[Limit]) -> dict[tuple[str, Period], Limit]:
    """The one that holds of each project and period."""
    found: dict[tuple[str, Period], Limit] = {}
    for limit in limits:
        key = (limit.project, limit.period)
        if key not in found or limit.usd < found[key].usd:
            found[key] = limit
    return found


def _defaults(settings: LimitSettings) -> list[Limit]:
    given = ((Period.DAY, settings.daily_usd, "DAILY"), (Period.MONTH, settings.monthly_usd, "MONTHLY"))
    return [Limit(WHOLE_TENANT, period, usd, f"RAE_LLM_{name}_BUDGET_USD") for period, usd, name in given if usd is not None]


def _of_config(tenant: Tenant) -> list[Limit]:
    about = f"{CONFIG_KEY} in the config of tenant {tenant.id}"
    own = tenant.config.get(CONFIG_KEY) or {}
    names = {"daily_usd": Period.DAY, "monthly_usd": Period.MONTH}
    if not isinstance(own, dict):
        raise _invalid(f"{about} is no object")
    unknown = sorted(set(own) - set(names))
    if unknown:
        # A misspelt budget would be none at all.
        raise _invalid(f"{about} has no {unknown[0][:40]!r}; there are daily_usd and monthly_usd")
    found = [(names[name], _usd(value, f"{name} of {about}")) for name, value in own.items()]
    return [Limit(WHOLE_TENANT, period, usd, f"tenants.config {CONFIG_KEY}") for period, usd in found if usd is not None]


def _usd(value: object, about: str) -> Decimal | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0 or math.isnan(value):
        raise _invalid(f"{about} is no sum of USD from 0 on")
    return min(_MOST_USD, Decimal(str(value)))


def _invalid(message: str) -> ConfigError:
    return ConfigError(
        message, reason="BudgetInvalid", hint='e.g. {"llm_budget": {"daily_usd": 1.5, "monthly_usd": 20}}; null is no budget'
    )


async def _has_budgets(connection: Connection) -> bool:
    row = await connection.fetchrow(_BUDGETS)
    assert row is not None
    if row["found"] and not row["fits"]:
        get_logger().warning("budgets_table_ignored", hint="RAE's table budgets has other columns than its migrations make")
    if row["found"] and row["fits"] and row["hidden"]:
        raise ConfigError(
            "row-level security on budgets hides every row from this role: no policy is meant for it",
            reason="RowSecurity",
            hint="run `rae-jobctl db migrate` as the tables' owner with RAE_JOB_ROLE set to the role of DATABASE_URL",
        )
    return bool(row["found"] and row["fits"])
