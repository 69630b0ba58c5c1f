"""Errors with the exit code that tells whoever runs a task whether to try again.

The codes follow sysexits.h where it has a fitting one. A Job's podFailurePolicy fails at once on the permanent ones.
"""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `rae-jobctl`: 64, 65 and 78 are permanent, 75 and 1 are worth another attempt."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 64
    BAD_DATA = 65
    TRANSIENT = 75
    CONFIG = 78

    @property
    def permanent(self) -> bool:
        """Whether another attempt with the same input must end the same way."""
        return self in (ExitCode.USAGE, ExitCode.BAD_DATA, ExitCode.CONFIG)


def frames(error: BaseException) -> list[str]:
    """Where an exception came from: file, line and function of each step, without any value, which could quote a row."""
    import traceback

    steps = traceback.extract_tb(error.__traceback__)
    return [f"{step.filename.rsplit('/', 1)[-1]}:{step.lineno} {step.name}" for step in steps]


class TaskError(Exception):
    """A failure that a person can act upon.

    Args:
        message: one line that names the thing and its value, never a secret or the text of a memory.
        reason: CamelCase word for a condition's `reason`; a class may fix it.
        hint: how to mend it.
    """

    exit_code: ExitCode = ExitCode.UNEXPECTED
    reason: str = "Unexpected"

    def __init__(self, message: str, *, reason: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if reason is not None:
            self.reason = reason


class UsageError(TaskError):
    """The command line or a flag's value is wrong."""

    exit_code = ExitCode.USAGE
    reason = "Usage"


class BadDataError(TaskError):
    """The input names something that does not exist or cannot be used: an unknown tenant, a malformed id."""

    exit_code = ExitCode.BAD_DATA
    reason = "BadData"


class ConfigError(TaskError):
    """The installation is configured wrongly: a missing variable, a refused password, a rate out of range."""

    exit_code = ExitCode.CONFIG
    reason = "ConfigInvalid"


class TransientError(TaskError):
    """Something outside is away for now: the database, the LLM, a lock that another run holds.

    Args:
        retry_after: before that moment another attempt would fail as well; None when nobody knows.
    """

    exit_code = ExitCode.TRANSIENT
    reason = "Transient"

    def __init__(
        self, message: str, *, reason: str | None = None, hint: str | None = None, retry_after: datetime | None = None
    ) -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.retry_after = retry_after


class BudgetExhausted(TransientError):
    """The next call might pass a budget, so it was not made; `retry_after` is when the period turns."""

    reason = "BudgetExhausted"


class TimeSliced(TransientError):
    """The soft limit or SIGTERM came; what is committed stays, and the next attempt goes on from there.

    Raised only when the run's cursor moved: such an attempt does not count against the retries.
    """

    reason = "TimeSliced"


class SoftLimitReached(TransientError):
    """The soft limit or SIGTERM came before anything was committed: a counted attempt."""

    reason = "SoftLimitReached"


class RunLocked(TransientError):
    """Another run holds the lock of this run's key or of the resource it changes."""

    reason = "RunLocked"


class RunCancelled(BadDataError):
    """Somebody cancelled this run: it stops, and no attempt takes it up again until somebody asks for it."""

    reason = "RunCancelled"


class SchemaBehind(TransientError):
    """The database has not been migrated to this image's schema yet."""

    reason = "SchemaBehind"
