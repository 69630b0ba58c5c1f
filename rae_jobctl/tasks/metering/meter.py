"""The meter of a run: each paid call waits for its turn, is booked, made, and made good."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from rae_jobctl.db.ledger import Run
from rae_jobctl.db.tenants import Tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BudgetExhausted, SoftLimitReached
from rae_jobctl.llm.meter import Call, CallSize
from rae_jobctl.llm.retry import too_long
from rae_jobctl.llm.types import Provider, Usage
from rae_jobctl.logs import get_logger
from rae_jobctl.request import read_request
from rae_jobctl.tasks.metering.limits import TenantLimits, limits_of
from rae_jobctl.tasks.metering.rates import EitherTurns, PostgresTurns, RedisTurns, Share, Turns, redis_client, share_of
from rae_jobctl.tasks.metering.refusals import count_refusal
from rae_jobctl.tasks.metering.reservations import Price, Purpose, Reservation, money, release, require, reserve, settle, worst
from rae_jobctl.tasks.metering.settings import LimitSettings

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

#: Shorter than a lease on memories: who waits longer would find them taken by another.
MOST_WAIT_SECONDS = 600.0
#: Turns are given back, so the time that was told may be too long.
_LOOK_SECONDS = 10.0


@dataclass(frozen=True)
class RunMeter:
    """See rae_jobctl.llm.meter.Meter.

    Attributes:
        scope: names the model at its endpoint.
        price: None when unknown.
        limits: of the tenant.
        per_minute: requests and tokens, over all pods.
    """

    pool: Pool
    turns: Turns
    stop: StopSignal
    purpose: Purpose
    scope: str
    price: Price | None
    limits: TenantLimits
    per_minute: tuple[float | None, float | None] = (None, None)

    @asynccontextmanager
    async def call(self, size: CallSize) -> AsyncIterator[Call]:
        """See Meter."""
        taken = size.prompt_tokens + size.most_completion_tokens
        await self._turn(share_of(1, taken, self.per_minute))
        made = await self._reserve(size, taken)
        call, started = Call(), time.monotonic()
        try:
            yield call
        except BaseException as error:
            call.cause = call.cause or type(error).__name__
            raise
        finally:
            await self._close(made, call, taken, time.monotonic() - started)

    async def require(self, sizes: Sequence[CallSize]) -> None:
        """See Meter."""
        costs = [self._worst(size) for size in sizes]
        known = [cost for cost in costs if cost is not None]
        await require(self.pool, self.purpose, self.limits, sum(known, Decimal(0)) if len(known) == len(costs) else None)

    def _worst(self, size: CallSize) -> Decimal | None:
        return None if self.price is None else worst(self.price, size.most_prompt_tokens, size.most_completion_tokens)

    async def _turn(self, share: Share) -> None:
        """Wait until the limits of all pods let a call through."""
        end = time.monotonic() + MOST_WAIT_SECONDS
        told = False
        while seconds := await self.turns.take(self.scope, share):
            if time.monotonic() + seconds > end:
                raise too_long("the rate limit of all pods", seconds, self.scope)
            if not told:
                get_logger().info("llm_turn_awaited", scope=self.scope, seconds=round(seconds, 2))
                told = True
            # Jitter: those who were told the same moment would all but one be told to wait again.
            spread = random.uniform(0, min(1.0, 0.1 * seconds))  # noqa: S311 - spreads load, hides nothing
            if await self.stop.pause(min(seconds, _LOOK_SECONDS) + spread):
                raise SoftLimitReached(f"stopped by {self.stop.cause} while waiting for the rate limit")

    async def _reserve(self, size: CallSize, taken: int) -> Reservation:
        try:
            return await reserve(self.pool, self.purpose, self.limits, self._worst(size), taken)
        except BudgetExhausted:
            # The turn is another tenant's to use.
            await self.turns.correct(self.scope, share_of(-1, -taken, self.per_minute))
            raise

    async def _close(self, made: Reservation, call: Call, taken: int, seconds: float) -> None:
        # The money first: what is lost after it is a turn.
        if call.free:
            await release(self.pool, made, seconds, call.cause)
        else:
            known = self.price is None or call.usage is not None
            cost = money(self.price, call.usage or Usage()) if known else made.usd
            await settle(self.pool, made, cost, call.usage, seconds, call.cause)
        if call.refused:
            await count_refusal(self.pool)
        if call.refused and call.wait:
            await self.turns.hold(self.scope, call.wait)
        used = call.usage.prompt_tokens + call.usage.completion_tokens if call.usage else taken
        if self.per_minute[1] and used != taken:
            await self.turns.correct(self.scope, share_of(0, used - taken, self.per_minute))


@asynccontextmanager
async def metered(
    pool: Pool,
    provider: Provider,
    run: Run,
    tenant: Tenant,
    price: Price | None,
    settings: LimitSettings,
    stop: StopSignal,
) -> AsyncIterator[Provider]:
    """The provider with the run's meter before each paid call; itself where none is paid.

    Raises:
        ConfigError: a budget or REDIS_URL is nonsense.
    """
    if not provider.paid:
        yield provider
        return
    async with AsyncExitStack() as closing:
        turns: Turns = PostgresTurns(pool)
        if settings.redis_url:
            client = await closing.enter_async_context(redis_client(settings.redis_url))
            turns = EitherTurns(RedisTurns(client), PostgresTurns(pool))
        async with pool.acquire() as connection:
            limits = await limits_of(connection, tenant, settings)
        purpose = Purpose(run.id, tenant.id, run.key.project, run.key.task, provider.name, provider.model)
        per_minute = (settings.requests_per_minute, settings.tokens_per_minute)
        yield provider.metered(
            RunMeter(pool, turns, stop, purpose, f"{provider.name}:{provider.model}", price, limits, per_minute)
        )


def leaves_to_request() -> bool:
    """Whether a custom resource is behind this process: then the operator repeats it, and it must not count as done."""
    return read_request() is not None
