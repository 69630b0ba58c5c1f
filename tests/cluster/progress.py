"""What a person sees while a step runs: a line when it begins, one at least every ten seconds, one when it ends."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TICK_SECONDS = 10.0


def say(text: str) -> None:
    """One line on standard error; standard output is for results that scripts read."""
    print(f"cluster: {text}", file=sys.stderr, flush=True)


class Step:
    """A running step. `detail` is shown with each sign of life."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def begin(self) -> None:
        self._ticker.start()

    def end(self) -> None:
        self._ended.set()
        self._ticker.join()

    def _tick(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            detail = f" ({self.detail})" if self.detail else ""
            say(f"{self.title}: {self.seconds:.0f} s{detail}")


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Tell that a step begins, lives, and has ended or failed."""
    running = Step(title)
    say(f"{title} …")
    running.begin()
    try:
        yield running
    except BaseException:
        running.end()
        say(f"{title}: failed after {running.seconds:.1f} s")
        raise
    running.end()
    say(f"{title}: done in {running.seconds:.1f} s")
