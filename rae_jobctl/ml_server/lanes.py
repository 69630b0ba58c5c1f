"""Work off the event loop: one thread for each kind of it, with a bounded queue, so that health stays answered.

One thread, because the parser holds the interpreter: more would share it and wait for each other. More capacity is more replicas.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from rae_jobctl.ml_server.errors import Refused

T = TypeVar("T")


class Lane:
    """One thread and the requests that wait for it.

    Args:
        name: of the thread.
        most: requests in the lane, the one at work among them; the next is refused.
    """

    def __init__(self, name: str, most: int) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._most = most
        self._inside = 0
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        """Do it in turn.

        Args:
            work: what cannot be cut short once it has begun, so its input must be bounded.
            seconds: to wait for the result, turn included.

        Raises:
            Refused: 503, the lane is full or the time is over.
        """
        future = self.submit(work)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise _busy(f"no answer within {seconds:g} s") from None

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Put it in the lane.

        Raises:
            Refused: 503, the lane is full.
        """
        with self._lock:
            if self._inside >= self._most:
                raise _busy(f"{self._most} requests are waiting already")
            self._inside += 1
        future = self._executor.submit(work)
        # Not when the caller gives up: what has begun still holds the thread.
        future.add_done_callback(self._leave)
        return future

    def _leave(self, future: Future[T]) -> None:
        with self._lock:
            self._inside -= 1

    def close(self) -> None:
        """Drop what waits; what is at work ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _busy(detail: str) -> Refused:
    return Refused(503, "Busy", detail, retry_after=1)
