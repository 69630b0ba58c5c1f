"""How long each class of data is kept: by default, by the installation's settings, by a tenant's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rae_jobctl.db.tenants import Tenant
from rae_jobctl.errors import ConfigError
from rae_jobctl.settings import Environment, number, text

#: Days by class; -1 keeps for ever. The figures are those of RAE's retention service.
DEFAULT_DAYS: Mapping[str, int] = {
    "episodic": 365,
    "semantic": -1,
    "reflective": -1,
    "graph": -1,
    "embeddings": 365,
    "cost_logs": 1095,
    "audit_logs": 2555,
    "archive": -1,
    "webhooks": 30,
}
#: A memory or reflection with one of these is never old.
DEFAULT_PROTECTED = ("protected", "legal-hold")
#: A tenant's own, in `tenants.config`; the first is RAE's own name, for episodic memories alone.
EPISODIC_KEY, DAYS_KEY, PROTECTED_KEY = "memory_retention_days", "retention_days", "protected_tags"
_MOST_DAYS = 36_500


@dataclass(frozen=True)
class Policy:
    """One tenant's retention.

    Attributes:
        days: by class; those that are kept for ever are absent.
        protected: tags whose bearers stay.
    """

    days: Mapping[str, int]
    protected: tuple[str, ...]

    def cutoff(self, data_class: str, at: datetime) -> datetime:
        """What is older goes."""
        return at - timedelta(days=self.days[data_class])


@dataclass(frozen=True)
class Defaults:
    """The installation's retention.

    Attributes:
        days: by class, -1 or 0 for ever.
        protected: tags whose bearers stay.
    """

    days: Mapping[str, int]
    protected: tuple[str, ...]

    @classmethod
    def from_env(cls, env: Environment | None = None) -> Defaults:
        """Read RAE_RETENTION_<CLASS>_DAYS and RAE_PROTECTED_TAGS (separated by commas).

        Raises:
            ConfigError: a value is refused.
        """
        env = os.environ if env is None else env
        days = {}
        for name, default in DEFAULT_DAYS.items():
            setting = f"RAE_RETENTION_{name.upper()}_DAYS"
            days[name] = _days(number(env, setting, default), setting)
        return cls(days, protected_tags(env))

    def of(self, tenant: Tenant) -> Policy:
        """The tenant's policy: its own days where it has some, and its protected tags beside ours.

        Raises:
            ConfigError: its config holds something else than days and tags.
        """
        own = _own_days(tenant.config, _about(tenant))
        days = {name: value for name, value in {**self.days, **own}.items() if value > 0}
        return Policy(days, tenants_tags(tenant, self.protected))


def tenants_tags(tenant: Tenant, protected: tuple[str, ...]) -> tuple[str, ...]:
    """A tenant's own protected tags beside those of the installation.

    Raises:
        ConfigError: its config holds something else than tags.
    """
    tags = tenant.config.get(PROTECTED_KEY, [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise _invalid(f"{PROTECTED_KEY} {_about(tenant)} is no list of tags")
    return tuple(dict.fromkeys((*protected, *tags)))


def _about(tenant: Tenant) -> str:
    return f"in the config of tenant {tenant.id}"


def protected_tags(env: Environment | None = None) -> tuple[str, ...]:
    """RAE_PROTECTED_TAGS, or the default ones."""
    value = text(os.environ if env is None else env, "RAE_PROTECTED_TAGS")
    return tuple(tag.strip() for tag in value.split(",") if tag.strip()) if value else DEFAULT_PROTECTED


def _own_days(config: Mapping[str, Any], about: str) -> dict[str, int]:
    own = config.get(DAYS_KEY, {})
    if not isinstance(own, dict):
        raise _invalid(f"{DAYS_KEY} {about} is no object of days by class")
    unknown = sorted(set(own) - set(DEFAULT_DAYS))
    if unknown:
        raise _invalid(f"{DAYS_KEY} {about} names no class of data: {unknown[0][:40]!r}", f"there are {', '.join(DEFAULT_DAYS)}")
    named = {"episodic": config[EPISODIC_KEY]} if config.get(EPISODIC_KEY) is not None else {}
    return {name: _days(value, f"{name} days {about}") for name, value in {**named, **own}.items()}


def _days(value: object, name: str) -> int:
    whole = (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    if not whole or not -1 <= value <= _MOST_DAYS:  # type: ignore[operator]
        raise _invalid(f"{name} is no number of days from 1 to {_MOST_DAYS}, nor 0 or -1 for ever")
    return int(value)  # type: ignore[call-overload, no-any-return]


def _invalid(message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, reason="RetentionInvalid", hint=hint or "0 or -1 keeps for ever; nothing was deleted")
