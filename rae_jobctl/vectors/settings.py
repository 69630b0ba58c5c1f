"""Whether there is a Qdrant, and how to reach it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rae_jobctl.errors import ConfigError
from rae_jobctl.settings import Environment, number, text

DEFAULT_COLLECTION = "memories"


@dataclass(frozen=True)
class QdrantSettings:
    """Where RAE keeps its vectors.

    Attributes:
        url: of Qdrant's REST API, without a slash at its end; holds no password.
        collection: with the memories' vectors.
        api_key: empty where none is asked for.
        timeout: seconds for one call.
    """

    url: str
    collection: str = DEFAULT_COLLECTION
    api_key: str = field(default="", repr=False)
    timeout: float = 30.0

    @classmethod
    def from_env(cls, env: Environment | None = None) -> QdrantSettings | None:
        """Read QDRANT_URL, or QDRANT_HOST (a name or a URL) and QDRANT_PORT; None when neither is set.

        Raises:
            ConfigError: the URL is none, or the port no number.
        """
        env = os.environ if env is None else env
        url = _url(env)
        if not url:
            return None
        return cls(
            url=url,
            collection=text(env, "QDRANT_COLLECTION_NAME", DEFAULT_COLLECTION),
            api_key=text(env, "QDRANT_API_KEY"),
            timeout=number(env, "RAE_QDRANT_TIMEOUT_SECONDS", 30, low=0.1, high=600),
        )


def is_configured(env: Environment | None = None) -> bool:
    """Whether vectors are kept in a Qdrant at all.

    Raises:
        ConfigError: as `QdrantSettings.from_env`.
    """
    return QdrantSettings.from_env(env) is not None


def _url(env: Environment) -> str:
    url = text(env, "QDRANT_URL")
    if url:
        return _checked("QDRANT_URL", url)
    host = text(env, "QDRANT_HOST")
    if "://" in host:
        return _checked("QDRANT_HOST", host)
    port = int(number(env, "QDRANT_PORT", 6333, low=1, high=65535))
    bracketed = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    return _checked("QDRANT_HOST", f"http://{bracketed}:{port}") if host else ""


def _checked(name: str, value: str) -> str:
    hint = f"e.g. {name}=http://qdrant:6333"
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{name} is no URL of a server", hint=hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{name} is no http(s) URL of a server", hint=hint)
    if parts.username or parts.password:
        raise ConfigError(f"{name} holds a user or a password", hint="give the key in QDRANT_API_KEY")
    return value.rstrip("/")
