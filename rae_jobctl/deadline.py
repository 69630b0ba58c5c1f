"""The soft limit: when a task should stop at its next safe point.

A pod has `RAE_SOFT_LIMIT_SECONDS` (540 s, as the Celery worker had) until it is asked to stop; SIGTERM asks at once. It looks
between batches, so what is committed stays and nothing is cut in the middle.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DEFAULT_SOFT_LIMIT_SECONDS = 540.0


class StopSignal:
    """Tells a task to stop at its next safe point.

    Args:
        soft_limit: seconds from now; None for no limit (a person at a terminal).
    """

    def __init__(self, soft_limit: float | None = None) -> None:
        self._deadline = None if soft_limit is None else time.monotonic() + soft_limit
        self._event = asyncio.Event()
        self.cause: str | None = None

    def set(self, cause: str) -> None:
        """Ask the task to stop; `cause` goes into the message."""
        self.cause = self.cause or cause
        self._event.set()

    @property
    def should_stop(self) -> bool:
        """True once the limit is over or a signal came; cheap enough to ask for every batch."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.set("the soft limit")
        return self._event.is_set()

    def remaining(self) -> float | None:
        """Seconds until the soft limit, 0 when stopped, None without a limit."""
        if self.should_stop:
            return 0.0
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    async def pause(self, seconds: float) -> bool:
        """Sleep up to `seconds`; returns True at once when asked to stop."""
        left = self.remaining()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds if left is None else min(seconds, left))
        return self.should_stop


@contextmanager
def stop_on_signals(stop: StopSignal) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `stop` while the block runs."""
    loop = asyncio.get_running_loop()
    caught = (signal.SIGTERM, signal.SIGINT)
    for number in caught:
        loop.add_signal_handler(number, stop.set, signal.Signals(number).name)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
