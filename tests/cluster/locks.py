"""One run at a time where two would undo each other's work."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.progress import say


@contextmanager
def exclusively(path: Path, purpose: str) -> Iterator[None]:
    """Hold the lock file while the block runs; say so when another run has it. The kernel frees it if we are killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run to end: {purpose}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
