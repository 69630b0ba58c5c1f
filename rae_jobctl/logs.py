"""Structured logs on standard error: JSON lines for machines, aligned text for a person at a terminal.

Standard output carries the result alone, so a script can parse it.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(level: str = "INFO") -> None:
    """Set up structlog for this process.

    Args:
        level: DEBUG, INFO, WARNING or ERROR, in any case.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _renderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def _renderer() -> structlog.types.Processor:
    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.JSONRenderer()


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """The logger that every task uses; context is bound with `structlog.contextvars`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
