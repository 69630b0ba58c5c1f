"""What a decay is asked to do, and the factors that follow from it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from datetime import date

from rae_jobctl.db.tenants import Tenant
from rae_jobctl.errors import ConfigError
from rae_jobctl.settings import Environment, boolean, number

#: Strengths below are 0: a value that small means nothing, and PostgreSQL refuses arithmetic that underflows.
FORGOTTEN = 1e-12
DEFAULT_RATE = 0.95
#: Half of all strength gone in a day is hardly meant.
STEEP = 0.5
#: Key of a tenant's own rate in `tenants.config`.
RATE_KEY = "memory_decay_rate"


@dataclass(frozen=True)
class DecayParams:
    """Settings of a run over all tenants.

    Attributes:
        day: up to which strengths are to be decayed, in UTC.
        rate: factor for each day; a tenant's own wins.
        max_days: at most so many missed days are made good.
        allow_steep: accept rates below STEEP.
    """

    day: date
    rate: float
    max_days: int
    allow_steep: bool

    @classmethod
    def from_env(
        cls, day: date, *, allow_steep: bool, max_days: int | None = None, env: Environment | None = None
    ) -> DecayParams:
        """Read MEMORY_DECAY_RATE and RAE_DECAY_MAX_CATCHUP_DAYS.

        Raises:
            ConfigError: a value is refused.
        """
        env = os.environ if env is None else env
        rate = checked_rate(number(env, "MEMORY_DECAY_RATE", DEFAULT_RATE), "MEMORY_DECAY_RATE", allow_steep)
        days = int(number(env, "RAE_DECAY_MAX_CATCHUP_DAYS", 7, low=1, high=3650)) if max_days is None else max_days
        return cls(day, rate, days, allow_steep)

    def rate_of(self, tenant: Tenant) -> float:
        """The tenant's rate.

        Raises:
            ConfigError: its own is no number or is refused.
        """
        own = tenant.config.get(RATE_KEY)
        if own is None:
            return self.rate
        if isinstance(own, bool) or not isinstance(own, int | float):
            raise ConfigError(f"{RATE_KEY} in the config of tenant {tenant.id} is not a number", reason="DecayRateInvalid")
        return checked_rate(float(own), f"{RATE_KEY} of tenant {tenant.id}", self.allow_steep)


def decay_enabled(env: Environment | None = None) -> bool:
    """ENABLE_MEMORY_DECAY, true by default."""
    return boolean(os.environ if env is None else env, "ENABLE_MEMORY_DECAY", True)


def checked_rate(rate: float, name: str, allow_steep: bool) -> float:
    """The rate, if it is one.

    Raises:
        ConfigError: it is outside (0, 1], or below STEEP without leave.
    """
    if not 0 < rate <= 1:
        raise ConfigError(
            f"{name}={rate:g} is no decay rate: strength is multiplied by it each day, so it lies above 0 and is at most 1",
            reason="DecayRateInvalid",
            hint="0.95 takes 5 % a day; 1 keeps all; ENABLE_MEMORY_DECAY=false switches decay off",
        )
    if rate < STEEP and not allow_steep:
        raise ConfigError(
            f"{name}={rate:g} would leave {rate:.0%} of each strength after one day",
            reason="DecayRateSteep",
            hint="RAE's own default of 0.01 is meant for another formula, importance * (1 - rate); for strength use 0.95, "
            "or give --allow-steep-rate if it is what you want",
        )
    return rate


@dataclass(frozen=True)
class Factors:
    """What strength is multiplied by after n missed days, n = 1 .. max_days, and the strength under which 0 comes out.

    The powers are computed here: PostgreSQL's power() raises an error where the result underflows.
    """

    factors: list[float]
    floors: list[float]

    @classmethod
    def of(cls, rate: float, max_days: int) -> Factors:
        """The table for a rate."""
        factors = [rate**days for days in range(1, max_days + 1)]
        return cls(factors, [FORGOTTEN / factor if factor > FORGOTTEN else math.inf for factor in factors])
