"""Build the next status of a request from the one before. Every function is pure and returns a new status."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from rae_operator.api.fields import MAX_MESSAGE
from rae_operator.api.status import Condition, ConditionType, Phase, RequestStatus, Result, ResultRef
from rae_operator.observe import RequestView
from rae_operator.termination import Hint, clean_text, valid_reason
from rae_operator.times import format_duration, format_time, parse_time

_ORDER = list(ConditionType)


def changed(status: RequestStatus, **fields: Any) -> RequestStatus:
    """A copy with some fields changed and checked anew."""
    return RequestStatus.model_validate({**dict(status), **fields})


def with_condition(
    status: RequestStatus, kind: ConditionType, value: bool, reason: str, message: str, request: RequestView, now: datetime
) -> RequestStatus:
    """Set a condition. Its transition time moves only when it turns."""
    existing = list(status.conditions or ())
    before = next((c for c in existing if c.type is kind), None)
    truth: Literal["True", "False"] = "True" if value else "False"
    since = before.last_transition_time if before and before.status == truth else format_time(now)
    condition = Condition(
        type=kind,
        status=truth,
        reason=reason,
        message=message[:MAX_MESSAGE],
        last_transition_time=since,
        observed_generation=request.generation,
    )
    if before and before.status == truth and before.reason == reason and before.message == condition.message:
        return status
    rest = [c for c in existing if c.type is not kind]
    return changed(status, conditions=sorted([*rest, condition], key=lambda c: _ORDER.index(c.type)))


def condition_holds(status: RequestStatus, kind: ConditionType) -> bool:
    """Whether a condition is true."""
    return any(c.type is kind and c.status == "True" for c in status.conditions or ())


def at(status: RequestStatus, phase: Phase, reason: str, message: str, request: RequestView) -> RequestStatus:
    """The phase that a request is in now."""
    return changed(
        status,
        phase=phase,
        reason=valid_reason(reason) or "Unknown",
        message=message[:MAX_MESSAGE],
        observed_generation=request.generation,
    )


def accepted(status: RequestStatus, request: RequestView, now: datetime) -> RequestStatus:
    """The operator has read the request and can do something with it."""
    if any(c.type is ConditionType.ACCEPTED for c in status.conditions or ()):
        return status
    return with_condition(status, ConditionType.ACCEPTED, True, "Accepted", f"runs as {request.kind.task}", request, now)


def started(status: RequestStatus, request: RequestView, since: datetime | None, now: datetime) -> RequestStatus:
    """A pod of the request has begun to run."""
    if condition_holds(status, ConditionType.STARTED):
        return status
    status = changed(status, start_time=format_time(since or now))
    return with_condition(status, ConditionType.STARTED, True, "PodRunning", "a pod of the request began to run", request, now)


def suspended(status: RequestStatus, request: RequestView, value: bool, now: datetime) -> RequestStatus:
    """Set or lift the condition Suspended; one that was never set stays absent."""
    if not value and not condition_holds(status, ConditionType.SUSPENDED):
        return status
    reason, message = ("SuspendedBySpec", "spec.suspend is true") if value else ("Resumed", "spec.suspend is false")
    return with_condition(status, ConditionType.SUSPENDED, value, reason, message, request, now)


def finished(
    status: RequestStatus, phase: Phase, reason: str, message: str, request: RequestView, ended: datetime | None, now: datetime
) -> RequestStatus:
    """The end: phase, the one of Complete and Failed that is true, Finished, and the times."""
    reason = valid_reason(reason) or "Unknown"
    end = ended or now
    begin = parse_time(status.start_time)
    seconds = max(0, round((end - begin).total_seconds())) if begin else None
    status = changed(
        at(suspended(status, request, False, now), phase, reason, message, request),
        completion_time=format_time(end),
        duration_seconds=seconds,
        duration=None if seconds is None else format_duration(seconds),
        next_attempt_time=None,
        stopping=None,
        settled_attempts=status.attempts,
    )
    kind = ConditionType.COMPLETE if phase is Phase.COMPLETE else ConditionType.FAILED
    status = with_condition(status, kind, True, reason, message, request, now)
    return with_condition(status, ConditionType.FINISHED, True, reason, message, request, now)


def with_result(status: RequestStatus, request: RequestView, hint: Hint | None) -> RequestStatus:
    """What the task said, and where the whole is. Without a hint the reference alone is left, by the run's slot."""
    key = (request.spec.idempotency_key if request.spec else None) or request.uid
    runs = list(hint.runs) if hint and hint.runs else None
    result = None
    if hint:
        result = Result(
            reason=hint.reason or None,
            message=hint.message or None,
            counters=dict(hint.counters) or None,
            summary=dict(hint.summary) or None,
        )
    return changed(status, result=result, result_ref=ResultRef(slot=key, runs=runs))


def to_json(status: RequestStatus) -> dict[str, Any]:
    """The status as a merge patch: absent fields are null, so that they are removed, but not within lists, which are replaced."""
    body = status.model_dump(mode="json", by_alias=True)
    conditions = body["conditions"] or []
    return {**body, "conditions": [{k: v for k, v in c.items() if v is not None} for c in conditions]}


def summary_line(hint: Hint | None, fallback: str) -> str:
    """One sentence for the column Message."""
    if hint and hint.message:
        return hint.message
    if hint and hint.counters:
        return clean_text(", ".join(f"{name} {count}" for name, count in hint.counters.items()))
    return fallback
