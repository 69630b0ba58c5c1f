"""What all tests share."""

from __future__ import annotations

import signal

pytest_plugins = ("tests.cluster_fixtures", "tests.database_fixtures")


def pytest_configure() -> None:
    """Let SIGTERM end a run as Ctrl-C does, so that fixtures stop the servers that they started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
