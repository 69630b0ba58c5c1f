"""Progress of a long run: a log line for machines, a bar for a person."""

from __future__ import annotations

import sys
import time

from rae_jobctl.logs import get_logger

#: Seconds between two lines; the operator reads them from the pod's log.
INTERVAL_SECONDS = 5.0


class Progress:
    """Reports how far a run is, at most every INTERVAL_SECONDS, and once at its end.

    Args:
        total: the number of items to do, or None when it is not known.
        unit: what is counted, in the plural, e.g. "memories".
    """

    def __init__(self, total: int | None, unit: str) -> None:
        self.total = total
        self.unit = unit
        self.done = 0
        self._last = time.monotonic()

    def advance(self, count: int) -> None:
        """Add `count` finished items."""
        self.done += count
        if time.monotonic() - self._last >= INTERVAL_SECONDS:
            self._report()

    def _report(self) -> None:
        self._last = time.monotonic()
        if sys.stderr.isatty():
            of = f"/{self.total}" if self.total is not None else ""
            print(f"  {self.done}{of} {self.unit}", file=sys.stderr, flush=True)
            return
        get_logger().info("progress", done=self.done, total=self.total, unit=self.unit)
