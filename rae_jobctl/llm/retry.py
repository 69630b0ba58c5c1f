"""Patience with a service over HTTP: exponential backoff with full jitter, and Retry-After where the service names it."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeVar

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import SoftLimitReached, TransientError
from rae_jobctl.logs import get_logger

T = TypeVar("T")
FIRST_PAUSE_SECONDS = 0.5
_MOST_WAIT_TOLD = 86_400.0
RETRYABLE_STATUS = frozenset({408, 409, 425, 429})


class TryAgain(Exception):
    """A failure that may pass.

    Args:
        cause: a short word for logs and messages, e.g. "429".
        after: seconds that the service asked to wait, None when it did not say.
    """

    def __init__(self, cause: str, after: float | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.after = after


def is_retryable(status: int) -> bool:
    """Whether an HTTP status is worth another try."""
    return status in RETRYABLE_STATUS or status >= 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After (a number or an HTTP date) or of OpenAI's finer retry-after-ms; None when absent or senseless."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after", "")
        if not value:
            return None
        if value.replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def too_long(service: str, seconds: float, cause: str) -> TransientError:
    """The error of a wait that is not worth a pod's time; another attempt is, after it."""
    # A header may hold any number, and a date has an end.
    moment = datetime.now(UTC) + timedelta(seconds=min(seconds, _MOST_WAIT_TOLD))
    return TransientError(f"{service} asks to wait {seconds:.0f} s ({cause})", reason="LlmRateLimited", retry_after=moment)


@dataclass(frozen=True)
class Patience:
    """How long to go on.

    Attributes:
        service: named in messages.
        retries: further tries after the first.
        max_wait: seconds of the longest pause.
        stop: ends the pauses.
    """

    service: str
    retries: int
    max_wait: float
    stop: StopSignal

    async def call(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt` until it does not raise TryAgain.

        Raises:
            TransientError: tries or patience are spent.
            SoftLimitReached: asked to stop meanwhile.
        """
        for tried in range(self.retries + 1):
            try:
                return await attempt()
            except TryAgain as again:
                await self._pause(again, tried)
        raise AssertionError("the last try returns or raises")

    async def _pause(self, again: TryAgain, tried: int) -> None:
        if tried >= self.retries:
            raise TransientError(f"{self.service} answered {again.cause} {tried + 1} times", reason="LlmUnavailable")
        if again.after is not None and again.after > self.max_wait:
            raise too_long(self.service, again.after, again.cause)
        # Jitter on top of what the service asked for: clients that were refused together must not come back together.
        spread = random.uniform(0, min(self.max_wait, FIRST_PAUSE_SECONDS * 2**tried))  # noqa: S311 - spreads load, hides nothing
        seconds = spread if again.after is None else again.after + min(spread, again.after * 0.1)
        get_logger().warning("llm_retry", service=self.service, cause=again.cause, retry=tried + 1, seconds=round(seconds, 2))
        if await self.stop.pause(seconds):
            raise SoftLimitReached(f"stopped by {self.stop.cause} while waiting for {self.service} ({again.cause})")
