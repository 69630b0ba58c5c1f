"""What a decay is asked to do: which of the two formulas, at what rate, up to which day."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rae_jobctl.db.tenants import Tenant
from rae_jobctl.errors import ConfigError
from rae_jobctl.settings import Environment, boolean, number

if TYPE_CHECKING:
    from datetime import date


@dataclass(frozen=True)
class RateRule:
    """Where a rate comes from and which are refused.

    Attributes:
        setting: name of the environment variable.
        key: name of a tenant's own rate in `tenants.config`.
        default: when neither is set.
        least_sane, most_sane: rates outside need --allow-steep-rate.
        meaning: what the rate does, for the message of one outside (0, 1].
        steep: what one beyond the sane would do, with {rate}.
        hint: how to mend a steep one.
    """

    setting: str
    key: str
    default: float
    least_sane: float
    most_sane: float
    meaning: str
    steep: str
    hint: str

    def checked(self, rate: float, name: str, allow_steep: bool) -> float:
        """The rate, if it is one.

        Raises:
            ConfigError: it is outside (0, 1], or steep without leave.
        """
        if not 0 < rate <= 1:
            raise ConfigError(
                f"{name}={rate:g} is no decay rate: {self.meaning}, so it lies above 0 and is at most 1",
                reason="DecayRateInvalid",
                hint=self.hint,
            )
        if not self.least_sane <= rate <= self.most_sane and not allow_steep:
            raise ConfigError(f"{name}={rate:g} {self.steep.format(rate=rate)}", reason="DecayRateSteep", hint=self.hint)
        return rate


STRENGTH_RATE = RateRule(
    setting="MEMORY_DECAY_RATE",
    key="memory_decay_rate",
    default=0.95,
    # Half of all strength gone in a day is hardly meant.
    least_sane=0.5,
    most_sane=1.0,
    meaning="strength is multiplied by it each day",
    steep="would leave {rate:.0%} of each strength after one day",
    hint="0.95 takes 5 % a day; 1 keeps all; ENABLE_MEMORY_DECAY=false switches decay off. RAE's own default of 0.01 is meant "
    "for another formula, importance * (1 - rate); give --allow-steep-rate if a rate below 0.5 is what you want",
)
IMPORTANCE_RATE = RateRule(
    setting="MEMORY_IMPORTANCE_DECAY_RATE",
    key="importance_decay_rate",
    default=0.01,
    least_sane=0.0,
    most_sane=0.2,
    meaning="importance loses this share each day",
    steep="would take {rate:.0%} of each importance in one day",
    hint="0.01 takes 1 % a day; MEMORY_IMPORTANCE_DECAY_ENABLED=false switches it off. It is the share that goes, where "
    "MEMORY_DECAY_RATE (0.95) is the share that stays; give --allow-steep-rate if a rate above 0.2 is what you want",
)


@dataclass(frozen=True)
class DecayParams:
    """Settings of a run over all tenants.

    Attributes:
        at: the moment of the slot, in UTC; its day is the one up to which rows are decayed.
        rate: a tenant's own wins.
        max_days: at most so many missed days are made good.
        allow_steep: accept rates that are hardly meant.
        rule: of the rate; says which formula it is, too.
    """

    at: datetime
    rate: float
    max_days: int
    allow_steep: bool = False
    rule: RateRule = STRENGTH_RATE

    @property
    def day(self) -> date:
        """The UTC day up to which rows are decayed."""
        return self.at.date()

    @property
    def importance(self) -> bool:
        """Whether importance decays rather than strength."""
        return self.rule is IMPORTANCE_RATE

    @classmethod
    def from_env(
        cls,
        at: datetime,
        *,
        allow_steep: bool = False,
        rule: RateRule = STRENGTH_RATE,
        max_days: int | None = None,
        env: Environment | None = None,
    ) -> DecayParams:
        """Read the rate's setting and RAE_DECAY_MAX_CATCHUP_DAYS.

        Raises:
            ConfigError: a value is refused.
        """
        env = os.environ if env is None else env
        rate = rule.checked(number(env, rule.setting, rule.default), rule.setting, allow_steep)
        days = int(number(env, "RAE_DECAY_MAX_CATCHUP_DAYS", 7, low=1, high=3650)) if max_days is None else max_days
        return cls(at, rate, days, allow_steep, rule)

    def rate_of(self, tenant: Tenant) -> float:
        """The tenant's rate.

        Raises:
            ConfigError: its own is no number or is refused.
        """
        key = self.rule.key
        own = tenant.config.get(key)
        if own is None:
            return self.rate
        # A whole number beyond these is none that a float, or a message, could hold.
        if isinstance(own, bool) or not isinstance(own, int | float) or abs(own) > sys.float_info.max:
            raise ConfigError(f"{key} in the config of tenant {tenant.id} is not a number", reason="DecayRateInvalid")
        return self.rule.checked(float(own), f"{key} of tenant {tenant.id}", self.allow_steep)

    def first_made_good(self) -> date:
        """Rows decayed through an earlier day lose what lies between."""
        return self.day - timedelta(days=self.max_days)


def switched_off(rule: RateRule, env: Environment | None = None) -> str | None:
    """The name of the setting that switches this decay off, if one does; ENABLE_MEMORY_DECAY=false ends both."""
    env = os.environ if env is None else env
    names = ["ENABLE_MEMORY_DECAY", *(["MEMORY_IMPORTANCE_DECAY_ENABLED"] if rule is IMPORTANCE_RATE else [])]
    return next((name for name in names if not boolean(env, name, True)), None)
