"""Turns of calls over all pods: so many requests and tokens a minute for each model of an endpoint, and its Retry-After for all.

The algorithm is GCRA (ITU-T I.371): of each limit one moment is kept, at which what was let through will have been worked off.
A call moves it on by its share of a minute, and may pass while it is at most BURST_SECONDS ahead. As the share is that of a
minute and the burst together, no 60 seconds see more requests than the limit, nor more tokens than the limit and one call.
A call that alone is larger than the burst passes when nothing is left to be worked off.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rae_jobctl.errors import ConfigError
from rae_jobctl.logs import get_logger

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from rae_jobctl.db.pool import Pool

T = TypeVar("T")
BURST_SECONDS = 2.0
_MINUTE = 60.0
#: However long an endpoint asks for, nobody is kept waiting for longer by a row.
MOST_HELD_SECONDS = 3600.0
#: Redis is on the way of every call; when it is slow, PostgreSQL is not.
_REDIS_SECONDS = 1.0
_REDIS_AWAY_SECONDS = 30.0
_KEY = "rae_jobs:llm:rate:"


@dataclass(frozen=True)
class Share:
    """What a call takes of a minute's limits.

    Attributes:
        requests, tokens: in seconds; 0 where there is no limit.
    """

    requests: float
    tokens: float


def share_of(calls: float, tokens: float, per_minute: tuple[float | None, float | None]) -> Share:
    """The share of so many calls and tokens, under limits of requests and tokens a minute."""
    requests_most, tokens_most = per_minute
    span = _MINUTE + BURST_SECONDS
    return Share(calls * span / requests_most if requests_most else 0.0, tokens * span / tokens_most if tokens_most else 0.0)


class Turns(Protocol):
    """Where turns are kept. `scope` names a model of an endpoint."""

    async def take(self, scope: str, share: Share) -> float:
        """Take a turn and return 0, or return in how many seconds to ask again."""

    async def correct(self, scope: str, share: Share) -> None:
        """Add to what was taken, or with a negative share give back."""

    async def hold(self, scope: str, seconds: float) -> None:
        """Let nobody through for so long."""


# Times are Redis's own, so that the pods' clocks need not agree.
_TAKE_LUA = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local row = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'held')
local requests, tokens = tonumber(ARGV[1]), tonumber(ARGV[2])
local burst = tonumber(ARGV[3])
local requests_due = math.max(tonumber(row[1]) or 0, now)
local tokens_due = math.max(tonumber(row[2]) or 0, now)
local wait = math.max(
    (tonumber(row[3]) or 0) - now,
    requests > 0 and requests_due - now - math.max(burst - requests, 0) or 0,
    tokens > 0 and tokens_due - now - math.max(burst - tokens, 0) or 0
)
if wait > 0 then
    return string.format('%.6f', wait)
end
requests_due, tokens_due = requests_due + requests, tokens_due + tokens
redis.call('HSET', KEYS[1], 'requests', string.format('%.6f', requests_due), 'tokens', string.format('%.6f', tokens_due))
redis.call('EXPIRE', KEYS[1], math.ceil(math.max(requests_due, tokens_due) - now) + 60)
return '0'
"""

_CORRECT_LUA = """
for place, name in ipairs({'requests', 'tokens'}) do
    local due = tonumber(redis.call('HGET', KEYS[1], name))
    if due then
        redis.call('HSET', KEYS[1], name, string.format('%.6f', due + tonumber(ARGV[place])))
    end
end
return '0'
"""

_HOLD_LUA = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local held = math.max(tonumber(redis.call('HGET', KEYS[1], 'held')) or 0, now + tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'held', string.format('%.6f', held))
if redis.call('TTL', KEYS[1]) < held - now + 60 then
    redis.call('EXPIRE', KEYS[1], math.ceil(held - now) + 60)
end
return '0'
"""

_TAKE_SQL = """
INSERT INTO rae_jobs.llm_rates AS r (scope, requests_due, tokens_due)
VALUES ($1, clock_timestamp() + make_interval(secs => $2::float8), clock_timestamp() + make_interval(secs => $3::float8))
ON CONFLICT (scope) DO UPDATE
SET requests_due = greatest(r.requests_due, clock_timestamp()) + make_interval(secs => $2),
    tokens_due = greatest(r.tokens_due, clock_timestamp()) + make_interval(secs => $3)
WHERE r.held_until <= clock_timestamp()
  AND ($2 = 0 OR r.requests_due <= clock_timestamp() + make_interval(secs => greatest($4::float8 - $2, 0)))
  AND ($3 = 0 OR r.tokens_due <= clock_timestamp() + make_interval(secs => greatest($4 - $3, 0)))
RETURNING true
"""

_WAIT_SQL = """
SELECT extract(epoch FROM greatest(
    clock_timestamp(),
    r.held_until,
    CASE WHEN $2::float8 > 0 THEN r.requests_due - make_interval(secs => greatest($4::float8 - $2, 0)) END,
    CASE WHEN $3::float8 > 0 THEN r.tokens_due - make_interval(secs => greatest($4 - $3, 0)) END
) - clock_timestamp())::float8
FROM rae_jobs.llm_rates AS r
WHERE r.scope = $1
"""

_CORRECT_SQL = """
UPDATE rae_jobs.llm_rates
SET requests_due = requests_due + make_interval(secs => $2::float8),
    tokens_due = tokens_due + make_interval(secs => $3::float8)
WHERE scope = $1
"""

_HOLD_SQL = """
INSERT INTO rae_jobs.llm_rates AS r (scope, held_until)
VALUES ($1, clock_timestamp() + make_interval(secs => $2::float8))
ON CONFLICT (scope) DO UPDATE
SET held_until = greatest(r.held_until, excluded.held_until)
"""


class PostgresTurns:
    """Turns in `rae_jobs.llm_rates`: a statement each."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take(self, scope: str, share: Share) -> float:
        """See Turns."""
        arguments = (scope, share.requests, share.tokens, BURST_SECONDS)
        if await self._pool.fetchval(_TAKE_SQL, *arguments):
            return 0.0
        wait = await self._pool.fetchval(_WAIT_SQL, *arguments)
        # It may have become free since.
        return max(0.001, float(wait or 0))

    async def correct(self, scope: str, share: Share) -> None:
        """See Turns."""
        await self._pool.execute(_CORRECT_SQL, scope, share.requests, share.tokens)

    async def hold(self, scope: str, seconds: float) -> None:
        """See Turns."""
        await self._pool.execute(_HOLD_SQL, scope, min(seconds, MOST_HELD_SECONDS))


class RedisTurns:
    """Turns in Redis or Valkey: a hash each scope, changed by scripts, which are atomic."""

    def __init__(self, client: Redis) -> None:
        self._take = client.register_script(_TAKE_LUA)
        self._correct = client.register_script(_CORRECT_LUA)
        self._hold = client.register_script(_HOLD_LUA)

    async def take(self, scope: str, share: Share) -> float:
        """See Turns."""
        return float(await self._take(keys=[_KEY + scope], args=[share.requests, share.tokens, BURST_SECONDS]))

    async def correct(self, scope: str, share: Share) -> None:
        """See Turns."""
        await self._correct(keys=[_KEY + scope], args=[share.requests, share.tokens])

    async def hold(self, scope: str, seconds: float) -> None:
        """See Turns."""
        await self._hold(keys=[_KEY + scope], args=[min(seconds, MOST_HELD_SECONDS)])


class EitherTurns:
    """Redis, and PostgreSQL while Redis is away. Neither knows of the other: a minute in which they change may see both."""

    def __init__(self, redis: RedisTurns, postgres: PostgresTurns) -> None:
        self._redis, self._postgres = redis, postgres
        self._away_until = 0.0

    async def take(self, scope: str, share: Share) -> float:
        """See Turns."""
        return await self._either(lambda turns: turns.take(scope, share))

    async def correct(self, scope: str, share: Share) -> None:
        """See Turns."""
        await self._either(lambda turns: turns.correct(scope, share))

    async def hold(self, scope: str, seconds: float) -> None:
        """See Turns."""
        await self._either(lambda turns: turns.hold(scope, seconds))

    async def _either(self, work: Callable[[Turns], Awaitable[T]]) -> T:
        from redis.exceptions import RedisError

        if time.monotonic() >= self._away_until:
            try:
                return await work(self._redis)
            except (RedisError, OSError) as error:
                # The text may hold the URL.
                get_logger().warning("rate_limits_without_redis", error_class=type(error).__name__, seconds=_REDIS_AWAY_SECONDS)
                self._away_until = time.monotonic() + _REDIS_AWAY_SECONDS
        return await work(self._postgres)


def redis_client(url: str) -> Redis:
    """A client that gives up soon.

    Raises:
        ConfigError: REDIS_URL is no URL of Redis.
    """
    from redis.asyncio import Redis

    options: dict[str, Any] = {"socket_timeout": _REDIS_SECONDS, "socket_connect_timeout": _REDIS_SECONDS}
    try:
        return Redis.from_url(url, **options)
    except ValueError:
        raise ConfigError("REDIS_URL is no URL of Redis", hint="e.g. redis://:password@host:6379/0") from None
