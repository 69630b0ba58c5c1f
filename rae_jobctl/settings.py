"""Settings from the environment, under the names that RAE already uses; ours beyond them start with RAE_.

Plain dataclasses, read when asked for: a command pays only for what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from rae_jobctl.errors import ConfigError

Environment = Mapping[str, str]


def text(env: Environment, name: str, default: str = "") -> str:
    """The variable's value without surrounding space; an empty one counts as unset."""
    return env.get(name, "").strip() or default


def boolean(env: Environment, name: str, default: bool) -> bool:
    """A truth value: true/false, yes/no, on/off, 1/0.

    Raises:
        ConfigError: any other value.
    """
    value = text(env, name).lower()
    if not value:
        return default
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("0", "false", "no", "off"):
        return False
    raise ConfigError(f"{name}={value!r} is no truth value", hint="use true or false")


def number(env: Environment, name: str, default: float, *, low: float | None = None, high: float | None = None) -> float:
    """A number within [low, high].

    Raises:
        ConfigError: not a number, or outside.
    """
    value = text(env, name)
    if not value:
        return default
    try:
        result = float(value)
    except ValueError:
        raise ConfigError(f"{name}={value!r} is not a number") from None
    if (low is not None and not result >= low) or (high is not None and not result <= high):
        raise ConfigError(f"{name}={value} is outside {low if low is not None else '-inf'} to {high}")
    return result


@dataclass(frozen=True)
class DatabaseSettings:
    """Where PostgreSQL is.

    Attributes:
        dsn: libpq URL; holds a password, so it is never printed (see `where`).
        pool_size: most connections of one process.
        connect_timeout: seconds.
    """

    dsn: str = field(repr=False)
    pool_size: int = 4
    connect_timeout: float = 10.0

    @property
    def where(self) -> str:
        """host:port/database, fit for a message."""
        parts = urlsplit(self.dsn)
        return f"{parts.hostname or 'local socket'}:{parts.port or 5432}/{parts.path.lstrip('/')}"

    @classmethod
    def from_env(cls, env: Environment | None = None) -> DatabaseSettings:
        """Read RAE_DATABASE_DIRECT_URL, DATABASE_URL, or POSTGRES_HOST, _PORT, _DB, _USER and _PASSWORD.

        Raises:
            ConfigError: nothing says where the database is, or the URL is not one of PostgreSQL.
        """
        env = os.environ if env is None else env
        return cls(
            dsn=_dsn(env),
            pool_size=int(number(env, "RAE_DATABASE_POOL_SIZE", 4, low=1, high=100)),
            connect_timeout=number(env, "RAE_DATABASE_CONNECT_TIMEOUT", 10, low=0.1, high=300),
        )


def _dsn(env: Environment) -> str:
    for name in ("RAE_DATABASE_DIRECT_URL", "DATABASE_URL"):
        value = text(env, name)
        if value:
            return _checked_url(name, value)
    host = text(env, "POSTGRES_HOST")
    if not host:
        raise ConfigError(
            "no database is configured: DATABASE_URL and POSTGRES_HOST are both unset",
            reason="ConfigMissing",
            hint="set DATABASE_URL=postgresql://user:password@host:5432/rae, or POSTGRES_HOST, POSTGRES_DB, "
            'POSTGRES_USER and POSTGRES_PASSWORD; at a laptop: eval "$(rae-jobctl dev env)"',
        )
    user = quote(text(env, "POSTGRES_USER", "rae"), safe="")
    password = quote(env.get("POSTGRES_PASSWORD", ""), safe="")
    port = int(number(env, "POSTGRES_PORT", 5432, low=1, high=65535))
    bracketed = f"[{host}]" if ":" in host else host
    database = quote(text(env, "POSTGRES_DB", "rae"), safe="")
    return f"postgresql://{user}:{password}@{bracketed}:{port}/{database}"


def _checked_url(name: str, value: str) -> str:
    # SQLAlchemy's form is what RAE's own .env often holds.
    scheme, separator, rest = value.partition("://")
    driverless = scheme.partition("+")[0]
    if not separator or driverless not in ("postgresql", "postgres"):
        raise ConfigError(
            f"{name} is no PostgreSQL URL (it starts with {driverless[:20]!r})",
            hint="use postgresql://user:password@host:5432/database",
        )
    try:
        _ = urlsplit(f"postgresql://{rest}").port
    except ValueError:
        raise ConfigError(f"{name} has a port that is no number from 1 to 65535") from None
    return f"postgresql://{rest}"
