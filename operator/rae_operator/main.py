"""`rae-operator`: read the settings, then run. Exit codes: 0 asked to stop, 78 wrong settings, 1 otherwise."""

from __future__ import annotations

import asyncio
import os
import sys

from rae_operator.kube import NoCluster, kubeconfig_exists
from rae_operator.logs import LEVELS, configure_logging, get_logger
from rae_operator.settings import SettingsError, load_settings

CONFIG = 78


def main() -> None:
    """Entry point."""
    sys.exit(run())


def run() -> int:
    """Run the operator and return its exit code."""
    level = os.environ.get("RAE_LOG_LEVEL", "INFO").upper()
    configure_logging(level if level in LEVELS else "INFO")
    log = get_logger()
    if level not in LEVELS:
        return _wrong(f"RAE_LOG_LEVEL is {level[:20]!r}; it is one of {', '.join(LEVELS)}")
    try:
        settings = load_settings()
    except SettingsError as error:
        return _wrong(str(error))
    if not kubeconfig_exists():
        return _wrong("there is no cluster: neither a service account nor a kubeconfig (KUBECONFIG) was found")
    from rae_operator import process

    try:
        return asyncio.run(process.run(settings))
    except NoCluster as error:
        return _wrong(str(error))
    except OSError as error:
        log.error("cannot_listen", port=settings.http.port, error=error.strerror or str(error))
        return 1


def _wrong(message: str) -> int:
    get_logger().error("wrong_settings", error=message)
    return CONFIG
