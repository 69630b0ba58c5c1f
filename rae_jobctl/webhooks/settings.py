"""Where notifications go, and what they are signed with."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from rae_jobctl.errors import ConfigError
from rae_jobctl.settings import Environment, boolean, number, text

_PREFIX = "whsec_"
#: As Standard Webhooks asks for.
_KEY_BYTES = range(24, 65)


@dataclass(frozen=True)
class WebhookSettings:
    """One receiver for the installation.

    Attributes:
        url: of the receiver; it may be a secret itself, so messages name its host alone (see `where`).
        keys: each signs every message, so that a secret can be changed without a gap.
        allow_private: http, and receivers at private addresses.
        max_attempts: deliveries of one message before it is given up.
        max_per_run: messages that one run delivers of what others left.
        timeout: seconds for one delivery, resolution included.
    """

    url: str = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    allow_private: bool = False
    max_attempts: int = 10
    max_per_run: int = 100
    timeout: float = 10.0

    @property
    def where(self) -> str:
        """The receiver's host, fit for a log."""
        return urlsplit(self.url).hostname or ""

    @classmethod
    def from_env(cls, env: Environment | None = None) -> WebhookSettings | None:
        """Read RAE_WEBHOOK_URL, _SECRET, _ALLOW_PRIVATE, _MAX_ATTEMPTS and _MAX_PER_RUN; None without a URL.

        Raises:
            ConfigError: URL or secret is not usable; neither is repeated in the message.
        """
        env = os.environ if env is None else env
        url = text(env, "RAE_WEBHOOK_URL")
        if not url:
            return None
        allow_private = boolean(env, "RAE_WEBHOOK_ALLOW_PRIVATE", False)
        return cls(
            url=_checked_url(url, allow_private),
            keys=_keys(text(env, "RAE_WEBHOOK_SECRET")),
            allow_private=allow_private,
            max_attempts=int(number(env, "RAE_WEBHOOK_MAX_ATTEMPTS", 10, low=1, high=100)),
            max_per_run=int(number(env, "RAE_WEBHOOK_MAX_PER_RUN", 100, low=0, high=10_000)),
        )


def _checked_url(url: str, allow_private: bool) -> str:
    parts = _split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise _invalid("RAE_WEBHOOK_URL is no http(s) URL", "e.g. RAE_WEBHOOK_URL=https://example.org/hooks/rae")
    if parts.scheme != "https" and not allow_private:
        raise _invalid("RAE_WEBHOOK_URL is not https", "use https, or RAE_WEBHOOK_ALLOW_PRIVATE=true for a receiver within reach")
    if parts.username is not None or parts.fragment:
        raise _invalid("RAE_WEBHOOK_URL has a user or a fragment", "the signature says who sends; leave both out")
    return url


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _invalid("RAE_WEBHOOK_URL has a host or port that is none") from None
    return parts


def _keys(value: str) -> tuple[bytes, ...]:
    if not value:
        raise _invalid("RAE_WEBHOOK_URL is set and RAE_WEBHOOK_SECRET is not", _hint(), reason="ConfigMissing")
    return tuple(_key(one) for one in value.split())


def _key(secret: str) -> bytes:
    try:
        if not secret.startswith(_PREFIX):
            raise ValueError
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("RAE_WEBHOOK_SECRET is not whsec_ and base64", _hint()) from None
    if len(key) not in _KEY_BYTES:
        raise _invalid(f"RAE_WEBHOOK_SECRET has {len(key)} bytes, and 24 to 64 are asked for", _hint())
    return key


def _hint() -> str:
    return 'make one: echo "whsec_$(openssl rand -base64 32)"; two with a space between sign both, for a change'


def _invalid(message: str, hint: str | None = None, *, reason: str = "WebhookInvalid") -> ConfigError:
    return ConfigError(message, reason=reason, hint=hint)
