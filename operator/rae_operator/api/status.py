"""What the operator reports: the fields of `status`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from rae_operator.api.fields import ApiModel, Message, ObjectName, Reason, Timestamp

#: Attempts of one request, interrupted ones included; four digits keep a Job's name within its 63 characters.
MAX_ATTEMPT_NUMBER = 9_999


class Phase(StrEnum):
    """The state at a glance; the conditions have the whole."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows."""
        return self in (Phase.COMPLETE, Phase.FAILED)


class ConditionType(StrEnum):
    """The conditions of a request; `Finished` is true in every end state."""

    ACCEPTED = "Accepted"
    STARTED = "Started"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"
    FINISHED = "Finished"


class Condition(ApiModel):
    """metav1.Condition."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: Message = ""
    last_transition_time: Timestamp
    observed_generation: int | None = Field(default=None, ge=0)


class Stopping(ApiModel):
    """Why the operator is deleting the current Job; kept here so that a restart goes on where it was."""

    reason: Reason
    message: Message = ""


class LastFailure(ApiModel):
    """The most recent attempt that failed."""

    attempt: int = Field(ge=1, le=MAX_ATTEMPT_NUMBER)
    reason: Reason
    message: Message = ""
    exit_code: int | None = Field(default=None, ge=0, le=255)
    time: Timestamp


class Result(ApiModel):
    """What the task said in its termination message: a hint, the ledger has the whole."""

    reason: Reason | None = None
    message: Message | None = None
    counters: Annotated[dict[str, int], Field(max_length=32)] | None = None
    summary: Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] | None = Field(
        default=None, description="A small part of the result, at most 3,000 bytes."
    )


class ResultRef(ApiModel):
    """Where the whole result is: `rae-jobctl runs show` reads the ledger by either."""

    slot: Annotated[str, Field(max_length=200)] = Field(description="The run's slot: the request's idempotency key, or its uid.")
    runs: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=8)] | None = Field(
        default=None, description="Ids of the ledger's rows, when the pod could still tell them."
    )


class RequestStatus(ApiModel):
    """Written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0)
    phase: Phase | None = None
    reason: Reason | None = None
    message: Message | None = None
    attempts: int = Field(default=0, ge=0, le=MAX_ATTEMPT_NUMBER, description="Number of the last attempt that was started.")
    settled_attempts: int = Field(
        default=0, ge=0, le=MAX_ATTEMPT_NUMBER, description="Number of the last attempt whose end was taken in."
    )
    failures: int = Field(
        default=0, ge=0, le=MAX_ATTEMPT_NUMBER, description="Attempts that failed and count against spec.retry.maxAttempts."
    )
    job_name: ObjectName | None = None
    pod_name: ObjectName | None = None
    start_time: Timestamp | None = Field(default=None, description="When the first pod began to run.")
    completion_time: Timestamp | None = None
    duration: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="From start to completion, for a person."
    )
    duration_seconds: int | None = Field(default=None, ge=0)
    deadline_time: Timestamp | None = Field(default=None, description="When spec.deadlineSeconds is over.")
    next_attempt_time: Timestamp | None = None
    progress: Annotated[str, Field(max_length=48)] | None = Field(default=None, description='"done/total" as the task last told.')
    stopping: Stopping | None = None
    last_failure: LastFailure | None = None
    result: Result | None = None
    result_ref: ResultRef | None = None
    conditions: (
        Annotated[
            list[Condition],
            Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
        ]
        | None
    ) = None
