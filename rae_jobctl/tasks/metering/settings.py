"""Limits of the installation, from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from decimal import Decimal

from rae_jobctl.settings import Environment, number, text


@dataclass(frozen=True)
class LimitSettings:
    """What holds for every tenant, and for all pods.

    Attributes:
        daily_usd, monthly_usd: for each tenant; None for no budget.
        requests_per_minute, tokens_per_minute: of a model at an endpoint, over all pods; None for no limit.
        redis_url: where turns are kept; empty for PostgreSQL. It may hold a password.
    """

    daily_usd: Decimal | None = None
    monthly_usd: Decimal | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    redis_url: str = field(default="", repr=False)

    @classmethod
    def from_env(cls, env: Environment | None = None) -> LimitSettings:
        """Read RAE_LLM_DAILY_BUDGET_USD, _MONTHLY_BUDGET_USD, _REQUESTS_PER_MINUTE, _TOKENS_PER_MINUTE and REDIS_URL.

        Raises:
            ConfigError: one is no number, or below zero.
        """
        env = os.environ if env is None else env
        return cls(
            daily_usd=_usd(env, "RAE_LLM_DAILY_BUDGET_USD"),
            monthly_usd=_usd(env, "RAE_LLM_MONTHLY_BUDGET_USD"),
            requests_per_minute=number(env, "RAE_LLM_REQUESTS_PER_MINUTE", 0, low=0, high=1e9) or None,
            tokens_per_minute=number(env, "RAE_LLM_TOKENS_PER_MINUTE", 0, low=0, high=1e12) or None,
            redis_url=text(env, "REDIS_URL"),
        )


def _usd(env: Environment, name: str) -> Decimal | None:
    # Unset is no budget, and 0 is one that lets nothing be spent.
    if not text(env, name):
        return None
    return Decimal(str(number(env, name, 0, low=0, high=999_999)))


NO_LIMITS = LimitSettings()
