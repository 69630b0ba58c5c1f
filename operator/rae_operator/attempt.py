"""How an attempt ended, and when the next one is due: the exit codes' contract and the retry policy, as pure functions."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from rae_operator.api.spec import RetryPolicy
from rae_operator.observe import JobView, PodView
from rae_operator.termination import Hint, clean_text, parse_hint

TRANSIENT = 75
#: Codes that the same input must give again, with the reason when the task could not say its own.
PERMANENT = {64: "Usage", 65: "BadData", 78: "ConfigInvalid", 126: "CommandNotExecutable", 127: "CommandNotFound"}
_REASONS = {**PERMANENT, TRANSIENT: "Transient", 1: "Unexpected", 137: "Killed", 143: "Terminated"}
#: Between these an attempt that waits for its budget is due, whatever its pod said; a month has 31 days.
_LEAST_POSTPONED, _MOST_POSTPONED = timedelta(minutes=1), timedelta(days=32)
_CODE_IN_MESSAGE = re.compile(r"exit code (\d{1,3})\b")


class Verdict(Enum):
    """What an attempt's end means for its request."""

    PERMANENT = "permanent"
    RETRY = "retry"
    SLICED = "sliced"
    POSTPONED = "postponed"


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt failed.

    Attributes:
        retry_after: the task knows that it would be in vain before.
    """

    verdict: Verdict
    reason: str
    message: str
    exit_code: int | None = None
    retry_after: datetime | None = None


def last_word(pods: tuple[PodView, ...], *, succeeded: bool) -> tuple[PodView | None, Hint | None]:
    """The pod that ended a Job, and what it said. Pods that were evicted on the way have nothing to say about the end."""
    phase = "Succeeded" if succeeded else "Failed"
    ended = [p for p in pods if p.exit is not None or p.phase == phase]
    fitting = [p for p in ended if p.phase == phase and not p.disrupted] or ended
    if not fitting:
        return None, None
    pod = fitting[-1]
    return pod, parse_hint(pod.exit.message) if pod.exit else None


def failed_attempt(job: JobView, pods: tuple[PodView, ...]) -> AttemptEnd:
    """How a Job that has failed did so. The Job's condition decides that it failed; the pod, if it is still known, says why."""
    pod, hint = last_word(pods, succeeded=False)
    code = pod.exit.code if pod and pod.exit else _code_of(job)
    if job.reason == "DeadlineExceeded":
        return AttemptEnd(Verdict.RETRY, "DeadlineExceeded", "the attempt took longer than its Job's deadline", code)
    if job.reason == "PodFailurePolicy" or code in PERMANENT:
        return AttemptEnd(Verdict.PERMANENT, _reason(hint, code), _message(hint, pod, job, code), code)
    if hint and hint.reason == "TimeSliced" and code == TRANSIENT:
        return AttemptEnd(Verdict.SLICED, "TimeSliced", hint.message, code)
    if hint and hint.reason == "BudgetExhausted" and code == TRANSIENT:
        return AttemptEnd(Verdict.POSTPONED, "BudgetExhausted", hint.message, code, hint.retry_after)
    if pod and pod.exit and pod.exit.reason == "OOMKilled":
        return AttemptEnd(Verdict.RETRY, "OOMKilled", f"pod {pod.name} used more memory than its limit", code)
    if pod and pod.reason:
        return AttemptEnd(Verdict.RETRY, pod.reason, _message(None, pod, job, code), code)
    if pod is None and code is None:
        return AttemptEnd(Verdict.RETRY, "PodLost", clean_text(job.message) or "the Job failed and its pod is gone")
    after = hint.retry_after if hint and code == TRANSIENT else None
    return AttemptEnd(Verdict.RETRY, _reason(hint, code), _message(hint, pod, job, code), code, after)


def _code_of(job: JobView) -> int | None:
    found = _CODE_IN_MESSAGE.search(job.message)
    return int(found.group(1)) if found and int(found.group(1)) <= 255 else None


def _reason(hint: Hint | None, code: int | None) -> str:
    return (hint.reason if hint else "") or _REASONS.get(code if code is not None else -1, "TaskFailed")


def _message(hint: Hint | None, pod: PodView | None, job: JobView, code: int | None) -> str:
    if hint and hint.message:
        return hint.message
    if pod and pod.message:
        return f"pod {pod.name}: {clean_text(pod.message)}"
    if code is not None:
        return f"exit code {code}; the pod left no message"
    return clean_text(job.message) or "the Job failed without a message"


def retry_delay(policy: RetryPolicy, failures: int, seed: str) -> float:
    """Seconds from the `failures`-th failure to the next attempt.

    The random share comes from a hash of `seed`, so that a restarted operator finds the same moment.
    """
    base = min(policy.initial_delay_seconds * policy.factor ** (failures - 1), policy.max_delay_seconds)
    digest = hashlib.sha256(f"{seed}/{failures}".encode()).digest()
    return float(base * (1 + policy.jitter * int.from_bytes(digest[:4]) / 2**32))


def postponed_until(end: AttemptEnd, now: datetime, seed: str) -> datetime:
    """When an attempt that waits for its budget is due: at the moment that the task told, else at the next day of UTC.

    What a pod says is a hint, so it is held between a minute and a month from now. Requests that wait for the same midnight
    spread over the minute after it.
    """
    tomorrow = (now.astimezone(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    told = end.retry_after or tomorrow
    spread = timedelta(seconds=60 * int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) / 2**32)
    return min(max(told, now + _LEAST_POSTPONED), now + _MOST_POSTPONED) + spread
