"""Read a pod's termination message. It is a hint, and comes from a container: nothing in it is trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rae_operator.api.fields import MAX_REASON, REASON_PATTERN
from rae_operator.times import parse_time

VERSION = 1
#: What the kubelet keeps of a message; a longer one is not from it.
MAX_BYTES = 4_096
MAX_SUMMARY_BYTES = 3_000
_MAX_TEXT = 512
_MAX_COUNTERS = 32
_MAX_RUNS = 8
_COUNT = range(-(2**53), 2**53)
_REASON = re.compile(REASON_PATTERN)


@dataclass(frozen=True)
class Hint:
    """What a task said when it ended.

    Attributes:
        counters: whole numbers by name.
        summary: a small part of the result.
        runs: ids of the ledger's rows.
        retry_after: before that moment the next attempt would end the same way.
    """

    reason: str = ""
    message: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    retry_after: datetime | None = None


def parse_hint(text: str) -> Hint | None:
    """The hint in a termination message; None when there is none, or one of another version or form."""
    if not text or len(text.encode()) > MAX_BYTES:
        return None
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or body.get("version") != VERSION:
        return None
    return Hint(
        reason=valid_reason(body.get("reason")),
        message=clean_text(body.get("message")),
        counters=_counters(body.get("counters")),
        summary=_summary(body.get("result")),
        runs=_runs(body.get("runs")),
        retry_after=_moment(body.get("retryAfter")),
    )


def valid_reason(value: Any) -> str:
    """A word that a condition's reason may be, or the empty string."""
    fits = isinstance(value, str) and len(value) <= MAX_REASON and _REASON.fullmatch(value)
    return str(value) if fits else ""


def clean_text(value: Any) -> str:
    """One line without control characters, shortened."""
    if not isinstance(value, str):
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"


def _counters(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    whole = {k: v for k, v in value.items() if isinstance(v, int) and not isinstance(v, bool) and v in _COUNT and len(k) <= 64}
    return dict(list(whole.items())[:_MAX_COUNTERS])


def _summary(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return value if len(json.dumps(value, ensure_ascii=False).encode()) <= MAX_SUMMARY_BYTES else {}


def _moment(value: Any) -> datetime | None:
    try:
        return parse_time(value) if isinstance(value, str) and len(value) <= 40 else None
    except OverflowError:
        # At the calendar's very ends a moment has no UTC.
        return None


def _runs(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(v for v in value if isinstance(v, str) and 0 < len(v) <= 64)[:_MAX_RUNS]
