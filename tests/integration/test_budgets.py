"""Reservations on real PostgreSQL: what is booked, made good and refused, and what rivals may spend together."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from rae_jobctl.db.pool import open_pool
from rae_jobctl.db.tenants import Tenant
from rae_jobctl.errors import BudgetExhausted, ConfigError
from rae_jobctl.llm.types import Usage
from rae_jobctl.settings import DatabaseSettings
from rae_jobctl.tasks.metering.limits import Limit, Period, TenantLimits, limits_of, project_limits, smallest
from rae_jobctl.tasks.metering.reservations import Reservation, money, release, require, reserve, settle, worst
from rae_jobctl.tasks.metering.settings import LimitSettings
from tests.integration.budgets import NOON, assert_sums_are_those_of_the_rows, committed, limits, purpose
from tests.integration.memories import OTHER, TENANT
from tests.integration.secured import secured

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

PRICE = (0.15, 0.075, 0.60)


async def book(pool: Pool, usd: str, budget: TenantLimits, moment: datetime | None = None, **changes: Any) -> Reservation:
    return await reserve(pool, purpose(**changes), budget, Decimal(usd), 100, moment or NOON)


async def give_budget(pool: Pool, daily: float | None = None, monthly: float | None = None, project: str = "p") -> None:
    await pool.execute(
        "INSERT INTO budgets (tenant_id, project, daily_limit, monthly_limit) VALUES ($1, $2, $3, $4)",
        *(TENANT, project, daily, monthly),
    )


# What is booked --------------------------------------------------------------------------------------------------------------


async def test_a_reservation_counts_as_spent_in_day_and_month_of_tenant_and_project(pool: Pool) -> None:
    await book(pool, "0.25", limits("1"))
    sums = [await committed(pool, project, period) for project in ("", "p") for period in ("day", "month")]
    assert sums == [Decimal("0.25")] * 4
    await assert_sums_are_those_of_the_rows(pool)


async def test_a_call_that_would_pass_the_limit_is_refused_and_nothing_of_it_stays(pool: Pool) -> None:
    await book(pool, "0.7", limits("1"))
    with pytest.raises(BudgetExhausted, match=r"0\.700000 of 1\.000000 USD") as caught:
        await book(pool, "0.30000001", limits("1"))
    assert caught.value.retry_after == datetime(2026, 11, 25, tzinfo=UTC)
    assert await committed(pool) == Decimal("0.7")
    await book(pool, "0.3", limits("1"))
    assert await committed(pool) == 1
    await assert_sums_are_those_of_the_rows(pool)


async def test_the_first_call_of_a_period_is_held_to_the_limit_as_well(pool: Pool) -> None:
    with pytest.raises(BudgetExhausted):
        await book(pool, "1.1", limits("1"))
    with pytest.raises(BudgetExhausted):
        await book(pool, "0.00000001", limits(monthly="0"))
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.llm_usage") == 0


async def test_settling_gives_back_what_the_call_did_not_need(pool: Pool) -> None:
    made = await book(pool, "0.9", limits("1"))
    cost = money(PRICE, Usage(1, 1000, 200, 100))
    assert cost == Decimal("0.00019500")
    await settle(pool, made, cost, Usage(1, 1000, 200, 100), 0.5, None)
    row = await pool.fetchrow("SELECT * FROM rae_jobs.llm_usage")
    assert row is not None
    assert (row["state"], row["cost_usd"], row["reserved_usd"]) == ("settled", cost, Decimal("0.9"))
    assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"], row["duration_ms"]) == (1000, 200, 100, 500)
    assert await committed(pool) == cost
    await assert_sums_are_those_of_the_rows(pool)


async def test_a_call_that_was_never_sent_costs_nothing(pool: Pool) -> None:
    made = await book(pool, "0.9", limits("1"))
    await release(pool, made, 0.1, "ConnectError")
    assert await committed(pool) == 0
    await book(pool, "1", limits("1"))
    await assert_sums_are_those_of_the_rows(pool)


async def test_a_reservation_is_closed_once(pool: Pool) -> None:
    made = await book(pool, "0.5", limits("1"))
    for _ in range(2):
        await settle(pool, made, Decimal("0.1"), None, 0.1, None)
    await release(pool, made, 0.1, None)
    assert await committed(pool) == Decimal("0.1")
    await assert_sums_are_those_of_the_rows(pool)


async def test_a_call_that_cost_more_than_was_reserved_is_booked_as_it_was(pool: Pool) -> None:
    made = await book(pool, "0.5", limits("1"))
    await settle(pool, made, Decimal("0.8"), None, 0.1, None)
    assert await committed(pool) == Decimal("0.8")
    await assert_sums_are_those_of_the_rows(pool)


def test_the_worst_case_is_dearer_than_any_usage_within_it() -> None:
    for price in (PRICE, (1.0, 2.0, 3.0), (0.0, 0.0, 0.0)):
        most = worst(price, 100, 50)
        for usage in (Usage(1, 100, 0, 50), Usage(1, 100, 100, 50), Usage(1, 1, 0, 0)):
            cost = money(price, usage)
            assert cost is not None and cost <= most


# Periods ---------------------------------------------------------------------------------------------------------------------


async def test_a_new_day_has_its_own_budget_and_the_month_goes_on(pool: Pool) -> None:
    budget = limits("1", "1.5")
    late = datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC)
    await book(pool, "1", budget, late)
    with pytest.raises(BudgetExhausted):
        await book(pool, "0.1", budget, late)
    await book(pool, "0.5", budget, late + timedelta(seconds=1))
    with pytest.raises(BudgetExhausted, match="monthly") as caught:
        await book(pool, "0.1", budget, late + timedelta(seconds=2))
    assert caught.value.retry_after == datetime(2026, 12, 1, tzinfo=UTC)
    await book(pool, "1", budget, datetime(2026, 12, 1, tzinfo=UTC))
    await assert_sums_are_those_of_the_rows(pool)


async def test_a_call_is_settled_in_the_period_that_it_was_booked_in(pool: Pool) -> None:
    made = await book(pool, "1", limits("1"), datetime(2026, 11, 30, 23, 59, tzinfo=UTC))
    await book(pool, "1", limits("1"), datetime(2026, 12, 1, 0, 1, tzinfo=UTC))
    await settle(pool, made, Decimal("0.2"), None, 60, None)
    rows = await pool.fetch("SELECT starts_on::text AS day, committed_usd FROM rae_jobs.llm_budget_periods WHERE project = 'p'")
    assert {(row["day"], row["committed_usd"]) for row in rows} == {
        ("2026-11-30", Decimal("0.2")),
        ("2026-11-01", Decimal("0.2")),
        ("2026-12-01", Decimal(1)),
    }
    await assert_sums_are_those_of_the_rows(pool)


@pytest.mark.parametrize(
    ("moment", "day", "month"),
    [
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2028, 2, 28, 12, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        (datetime(2026, 3, 29, 0, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)),
    ],
)
def test_periods_end_with_the_day_and_the_month_of_utc(moment: datetime, day: datetime, month: datetime) -> None:
    assert (Period.DAY.end(moment), Period.MONTH.end(moment)) == (day, month)


async def test_the_periods_are_those_of_utc_whatever_the_servers_time_zone(database_url: str, pool: Pool) -> None:
    await pool.execute(f"ALTER DATABASE {database_url.rsplit('/', 1)[-1]} SET timezone = 'Pacific/Auckland'")
    async with open_pool(DatabaseSettings(database_url), "test") as ours:
        assert await ours.fetchval("SHOW timezone") == "Pacific/Auckland"
        await book(ours, "0.1", limits("1"), datetime(2026, 11, 24, 20, tzinfo=UTC))
        await assert_sums_are_those_of_the_rows(ours)
    day = await pool.fetchval("SELECT starts_on::text FROM rae_jobs.llm_budget_periods WHERE period = 'day' LIMIT 1")
    assert day == "2026-11-24"


# Which limits ----------------------------------------------------------------------------------------------------------------


async def test_a_project_has_its_own_budget_in_raes_table_and_the_others_do_not(pool: Pool) -> None:
    await give_budget(pool, daily=0.5)
    budget = limits("1", has_table=True)
    await book(pool, "0.5", budget)
    with pytest.raises(BudgetExhausted, match="project 'p'"):
        await book(pool, "0.1", budget)
    await book(pool, "0.5", budget, project="q")
    with pytest.raises(BudgetExhausted, match="the tenant"):
        await book(pool, "0.1", budget, project="q")


async def test_of_two_limits_that_are_spent_the_one_that_holds_longer_is_told(pool: Pool) -> None:
    await give_budget(pool, monthly=1)
    budget = limits("1", has_table=True)
    await book(pool, "1", budget)
    with pytest.raises(BudgetExhausted, match="monthly budget of project") as caught:
        await book(pool, "0.1", budget)
    assert caught.value.retry_after == datetime(2026, 12, 1, tzinfo=UTC)


async def test_another_tenant_is_not_affected(pool: Pool) -> None:
    await book(pool, "1", limits("1"))
    await book(pool, "1", limits("1"), tenant=OTHER)
    assert await committed(pool, tenant=OTHER) == 1


async def test_a_limit_that_is_raised_holds_for_the_next_call(pool: Pool) -> None:
    await give_budget(pool, daily=0.5)
    await book(pool, "0.5", limits(has_table=True))
    await pool.execute("UPDATE budgets SET daily_limit = 0.8")
    await book(pool, "0.3", limits(has_table=True))
    await pool.execute("UPDATE budgets SET daily_limit = NULL")
    await book(pool, "100", limits(has_table=True))


async def test_the_smallest_of_those_that_apply_holds(pool: Pool) -> None:
    tenant = Tenant(TENANT, "demo", {"llm_budget": {"daily_usd": 0.5, "monthly_usd": 50}})
    async with pool.acquire() as connection:
        found = await limits_of(connection, tenant, LimitSettings(daily_usd=Decimal(2), monthly_usd=Decimal(20)))
    assert found.has_table
    assert {limit.period: (limit.usd, limit.source) for limit in smallest(found.own).values()} == {
        Period.DAY: (Decimal("0.5"), "tenants.config llm_budget"),
        Period.MONTH: (Decimal(20), "RAE_LLM_MONTHLY_BUDGET_USD"),
    }


@pytest.mark.parametrize(
    "config", [{"daily_usd": "1"}, {"daily_usd": -1}, {"daily_usd": True}, {"dayly_usd": 1}, [1], {"monthly_usd": float("nan")}]
)
async def test_a_config_that_is_no_budget_is_refused_rather_than_taken_for_none(pool: Pool, config: Any) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(ConfigError, match="llm_budget"):
            await limits_of(connection, Tenant(TENANT, "demo", {"llm_budget": config}), LimitSettings())


async def test_a_limit_in_raes_table_that_is_no_sum_is_refused(pool: Pool) -> None:
    await give_budget(pool, daily=float("nan"))
    with pytest.raises(ConfigError, match=r"budgets\.daily_limit"):
        await book(pool, "0.1", limits(has_table=True))


async def test_a_table_of_that_name_with_other_columns_is_left_alone(pool: Pool) -> None:
    await pool.execute("ALTER TABLE budgets RENAME COLUMN daily_limit TO daily_limit_usd")
    async with pool.acquire() as connection:
        assert not (await limits_of(connection, Tenant(TENANT, "demo"), LimitSettings())).has_table
    await pool.execute("DROP TABLE budgets")
    async with pool.acquire() as connection:
        assert not (await limits_of(connection, Tenant(TENANT, "demo"), LimitSettings())).has_table


async def test_without_a_budget_an_unknown_price_is_fine_and_with_one_it_is_refused(pool: Pool) -> None:
    made = await reserve(pool, purpose(), limits(), None, 10, NOON)
    await settle(pool, made, None, Usage(1, 5, 0, 5), 0.1, None)
    with pytest.raises(ConfigError, match="price of model 'gpt-4o-mini' is unknown") as caught:
        await reserve(pool, purpose(), limits("1"), None, 10, NOON)
    assert "RAE_LLM_PRICE_" in (caught.value.hint or "")
    await assert_sums_are_those_of_the_rows(pool)


async def test_what_is_required_is_not_reserved(pool: Pool) -> None:
    await require(pool, purpose(), limits("1"), Decimal(1), NOON)
    assert await committed(pool) == 0
    await book(pool, "0.5", limits("1"))
    with pytest.raises(BudgetExhausted):
        await require(pool, purpose(), limits("1"), Decimal("0.6"), NOON)


async def test_it_works_for_a_role_under_row_level_security_and_refuses_to_be_blind(database_url: str, pool: Pool) -> None:
    await pool.execute("ALTER TABLE budgets ENABLE ROW LEVEL SECURITY")
    await give_budget(pool, daily=0.5)
    async with secured(database_url, pool) as url, open_pool(DatabaseSettings(url), "test") as ours:
        async with ours.acquire() as connection:
            found = await limits_of(connection, Tenant(TENANT, "demo"), LimitSettings())
        made = await book(ours, "0.5", found)
        with pytest.raises(BudgetExhausted):
            await book(ours, "0.1", found)
        await settle(ours, made, Decimal("0.1"), None, 0.1, None)
        await pool.execute("DROP POLICY rae_jobs_tenant ON budgets")
        async with ours.acquire() as connection:
            with pytest.raises(ConfigError, match="row-level security on budgets"):
                await limits_of(connection, Tenant(TENANT, "demo"), LimitSettings())
            assert await project_limits(connection, TENANT, "p") == []


# Rivals ----------------------------------------------------------------------------------------------------------------------


async def test_rivals_together_never_pass_a_limit_and_none_waits_for_ever(pool: Pool) -> None:
    await give_budget(pool, daily=0.6, project="a")
    budget = TenantLimits((Limit("", Period.DAY, Decimal(1), "t"), Limit("", Period.MONTH, Decimal("0.95"), "t")), True)

    async def spend(number: int) -> int:
        booked = 0
        for turn in range(12):
            try:
                made = await book(pool, "0.04", budget, project="ab"[number % 2])
            except BudgetExhausted:
                continue
            booked += 1
            match (number + turn) % 3:
                case 0:
                    await release(pool, made, 0, None)
                case 1:
                    await settle(pool, made, Decimal("0.03"), None, 0, None)
            assert await committed(pool) <= Decimal("0.95")
            assert await committed(pool, "a") <= Decimal("0.6")
        return booked

    assert sum(await asyncio.gather(*(spend(number) for number in range(8)))) > 20
    await assert_sums_are_those_of_the_rows(pool)
    # Spent up to the last call that fits.
    assert await committed(pool) > Decimal("0.91")
