"""Structured logs on standard error: JSON lines for machines, aligned text for a person at a terminal.

Standard output carries the result alone, so a script can parse it. structlog is imported with the first line that is logged: it
takes longer than the rest of the command line together, and many a run has nothing to log.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING

from rae_jobctl.errors import TaskError, frames

if TYPE_CHECKING:
    from structlog.types import Processor
    from structlog.typing import FilteringBoundLogger

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def get_logger() -> FilteringBoundLogger:
    """The logger that every task uses; context is bound with `structlog.contextvars`."""
    import structlog

    _configure()
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


@cache
def _configure() -> None:
    import logging

    import structlog

    # RAE's own name for the level of its programs; an unknown one must not keep a task from running.
    level = os.environ.get("RAE_APP_LOG_LEVEL", "INFO").strip().upper()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _renderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level if level in _LEVELS else "INFO")),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def _renderer() -> Processor:
    import structlog

    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.JSONRenderer()


def as_task_error(error: Exception) -> TaskError:
    """What may be told of an exception; of one that nobody foresaw its class and frames, because its text may quote a row."""
    if isinstance(error, TaskError):
        return error
    get_logger().error("unexpected_error", error_class=type(error).__name__, frames=frames(error))
    return TaskError(f"unexpected {type(error).__name__}; the log line above has the place")
