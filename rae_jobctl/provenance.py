"""What this process was started with, for the ledger: its command line, and the run that it is to take up again.

The command line sets it, the ledger reads it; nothing in between hands it on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

#: Subcommands whose arguments name a person: neither those nor their request may be kept.
PRIVATE = frozenset({"erase-user"})
#: Stands for a value that must not be kept; a command line that holds it cannot be run again.
HIDDEN = "***"
_SECRET_OPTION = re.compile(r"--[a-z-]*(password|passwd|secret|token|api-key|credential)[a-z-]*", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@dataclass(frozen=True)
class Provenance:
    """Where a run comes from.

    Attributes:
        command: subcommand and options as given, without secrets; None when it is unknown or private.
        private: its arguments must be kept nowhere.
        reopens: id of the run that is taken up although it was cancelled.
    """

    command: tuple[str, ...] | None = None
    private: bool = False
    reopens: UUID | None = None


_CURRENT: ContextVar[Provenance] = ContextVar("provenance", default=Provenance())  # noqa: B039


def current() -> Provenance:
    """Of the command that runs now."""
    return _CURRENT.get()


def began(command: Sequence[str]) -> None:
    """Note the command line that begins: subcommand first."""
    private = bool(command) and command[0] in PRIVATE
    kept = None if private else _without_secrets(command)
    _CURRENT.set(replace(current(), command=kept, private=private))


@contextmanager
def reopening(run: UUID) -> Iterator[None]:
    """Let the command that begins in the block take up `run` even if it was cancelled."""
    token = _CURRENT.set(replace(current(), reopens=run))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def _without_secrets(command: Sequence[str]) -> tuple[str, ...]:
    kept: list[str] = []
    hide_next = False
    for word in command:
        name, equals, _ = word.partition("=")
        secret = _SECRET_OPTION.fullmatch(name) is not None
        if hide_next and not word.startswith("--"):
            kept.append(HIDDEN)
        else:
            kept.append(f"{name}={HIDDEN}" if secret and equals else _USER_INFO.sub(HIDDEN, word))
        hide_next = secret and not equals
    return tuple(kept)
