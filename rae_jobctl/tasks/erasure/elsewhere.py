"""What is kept of a person outside PostgreSQL: the context cache in Redis, and requests in Kubernetes."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from rae_jobctl.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from rae_jobctl.db.tenants import Tenant
    from rae_jobctl.tasks.erasure.words import Words

_PAGE = 1000


@dataclass(frozen=True)
class StoredRequest:
    """A custom resource.

    Attributes:
        plural, name, uid: which.
        body: all of it.
    """

    plural: str
    name: str
    uid: str
    body: dict[str, Any] = field(repr=False)


class Requests(Protocol):
    """The custom resources of one namespace, of every kind of our group."""

    async def everything(self) -> list[StoredRequest]:
        """All of them."""

    async def delete(self, request: StoredRequest) -> None:
        """Delete one, and with it its Jobs and pods; one that is gone already is fine."""


async def forget_cached(url: str, tenant_id: UUID, words: Words, *, dry_run: bool) -> int:
    """Delete a tenant's context cache, which is compressed text of memories and is made anew when needed, and its other keys that
    name the person; returns how many keys.

    Raises:
        TransientError: Redis is away.
        ConfigError: the URL or the password is wrong.
    """
    from redis import exceptions
    from redis.asyncio import Redis

    try:
        async with Redis.from_url(url, socket_timeout=30, socket_connect_timeout=10) as redis:
            return await _forget(redis, tenant_id, words, dry_run)
    except (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError, ValueError):
        raise ConfigError("Redis refuses REDIS_URL: is its password right?", reason="RedisRefused") from None
    except (exceptions.RedisError, OSError) as error:
        raise TransientError(f"cannot reach Redis ({type(error).__name__})", reason="RedisUnreachable") from None


async def _forget(redis: Any, tenant_id: UUID, words: Words, dry_run: bool) -> int:
    cached = f"rae:{tenant_id}:".encode()
    count, page = 0, []
    async for key in redis.scan_iter(match=f"*{tenant_id}*", count=_PAGE):
        if key.startswith(cached) or words.found(key.decode("utf-8", "replace")):
            page.append(key)
        if len(page) == _PAGE:
            count, page = count + await _unlink(redis, page, dry_run), []
    return count + await _unlink(redis, page, dry_run)


async def _unlink(redis: Any, keys: Sequence[bytes], dry_run: bool) -> int:
    if keys and not dry_run:
        await redis.unlink(*keys)
    return len(keys)


async def forget_requests(requests: Requests, tenant: Tenant, words: Words, erased: Container[str], *, dry_run: bool) -> int:
    """Delete the tenant's requests that name the person or an erased memory anywhere; returns how many.

    Raises:
        TransientError, ConfigError: of the Kubernetes API.
    """
    count = 0
    for request in await requests.everything():
        tenants = (str(tenant.id), tenant.name)
        spec = request.body.get("spec")
        if not isinstance(spec, dict) or spec.get("tenantId") not in tenants or not _concerns(request.body, words, erased):
            continue
        count += 1
        if not dry_run:
            await requests.delete(request)
    return count


def _concerns(value: Any, words: Words, erased: Container[str]) -> bool:
    if isinstance(value, dict):
        return any(words.found(key) or _concerns(item, words, erased) for key, item in value.items())
    if isinstance(value, list):
        return any(_concerns(item, words, erased) for item in value)
    return words.found_within(value) or value in erased
