"""A queue of keys: each key is in it at most once and with one worker at a time, later additions and back-off included.

The same contract as client-go's workqueue, on asyncio: a key that is added while a worker has it comes up again afterwards.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")

FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 120.0


class QueueClosed(Exception):
    """Nothing is handed out any more."""


class WorkQueue(Generic[K]):
    """Keys to work on. Not thread-safe: one event loop's own.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ready: deque[K] = deque()
        self._wanted: set[K] = set()
        self._busy: dict[K, float] = {}
        self._later: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def delayed(self) -> int:
        """How many keys wait for their time."""
        return len(self._due)

    def add(self, key: K) -> None:
        """Work on the key soon."""
        if key in self._wanted:
            return
        self._wanted.add(key)
        if key not in self._busy:
            self._ready.append(key)
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Work on the key in some seconds; of several times the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock() + seconds
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._later, (due, next(self._order), key))
        self._wake.set()

    def retry(self, key: K, at_least: float = 0.0) -> float:
        """Work on the key again after an exponential delay with jitter; returns the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 16))
        delay = max(at_least, delay * random.uniform(0.75, 1.25))  # noqa: S311  spreading retries is no secret
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key went well: its next failure starts the delays anew."""
        self._failures.pop(key, None)

    async def take(self) -> K:
        """Wait for a key; it is the caller's until `done`. Raises QueueClosed after `close`."""
        while True:
            if self._closed:
                raise QueueClosed
            self._promote()
            if self._ready:
                key = self._ready.popleft()
                self._wanted.discard(key)
                self._busy[key] = self._clock()
                return key
            await self._sleep()

    def close(self) -> None:
        """Hand out no more keys; those in work are finished by their workers."""
        self._closed = True
        self._wake.set()

    def done(self, key: K) -> None:
        """Give the key back; if it was wanted meanwhile, it comes up again."""
        self._busy.pop(key, None)
        if key in self._wanted:
            self._ready.append(key)
            self._wake.set()

    def longest_busy(self) -> float:
        """Seconds since the oldest key in work was taken; 0 when none is."""
        return max((self._clock() - since for since in self._busy.values()), default=0.0)

    def _promote(self) -> None:
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            due, _, key = heapq.heappop(self._later)
            # An earlier time for the same key has made this entry void.
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    async def _sleep(self) -> None:
        self._wake.clear()
        if self._closed:
            return
        timeout = max(0.0, self._later[0][0] - self._clock()) if self._later else None
        try:
            await asyncio.wait_for(self._wake.wait(), timeout)
        except TimeoutError:
            return
