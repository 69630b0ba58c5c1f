"""Objects of the Kubernetes API as the tests need them, built small and seen through the operator's own views."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rae_operator.api.status import RequestStatus
from rae_operator.kinds import BY_NAME
from rae_operator.observe import ContainerExit, JobState, JobView, PodView, RequestView, Seen
from rae_operator.settings import Settings, TaskSettings

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
UID = "0451fa3f-9e1a-488d-a7e7-66b9ba70c946"
SETTINGS = Settings(task=TaskSettings(image="rae-tasks:test"), namespaces=["rae"])


def later(seconds: float) -> datetime:
    """Some seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


def a_request(*, kind: str = "ReflectionRequest", status: RequestStatus | None = None, **spec: Any) -> RequestView:
    """A request with valid required fields."""
    row = BY_NAME[kind]
    return RequestView(
        kind=row,
        namespace="rae",
        name="weekly",
        uid=UID,
        generation=1,
        resource_version="10",
        created=NOW,
        deleting=False,
        spec=row.spec.model_validate({"tenantId": "demo-tenant", "project": "ai-research", **spec}),
        status=status or RequestStatus(),
    )


def a_job(attempt: int = 1, **fields: Any) -> JobView:
    """A Job of the request."""
    job = JobView(
        namespace="rae",
        name=f"weekly-{UID[:8]}-{attempt}",
        uid=f"job-{attempt}",
        resource_version="20",
        owner_uid=UID,
        attempt=attempt,
        created=NOW,
        started=NOW,
    )
    return replace(job, **fields)


def a_complete_job(attempt: int = 1, **fields: Any) -> JobView:
    """A Job that succeeded."""
    return a_job(attempt, **{"state": JobState.COMPLETE, "finished_at": later(30), **fields})


def a_failed_job(attempt: int = 1, **fields: Any) -> JobView:
    """A Job that failed."""
    return a_job(attempt, **{"state": JobState.FAILED, "reason": "BackoffLimitExceeded", "finished_at": later(30), **fields})


def a_pod(attempt: int = 1, **fields: Any) -> PodView:
    """A pending pod of an attempt's Job."""
    pod = PodView(
        name=f"weekly-{attempt}-x",
        uid=f"pod-{attempt}",
        resource_version="30",
        job_name=f"weekly-{UID[:8]}-{attempt}",
        request_uid=UID,
        created=NOW,
        phase="Pending",
    )
    return replace(pod, **fields)


def a_running_pod(attempt: int = 1, **fields: Any) -> PodView:
    """A pod whose task runs."""
    return a_pod(attempt, **{"phase": "Running", "running_since": later(2), **fields})


def an_ended_pod(attempt: int = 1, code: int = 0, message: str = "", reason: str = "Error", **fields: Any) -> PodView:
    """A pod whose task has ended."""
    phase = "Succeeded" if code == 0 else "Failed"
    end = ContainerExit(code, reason, message, later(30))
    return a_pod(attempt, **{"phase": phase, "running_since": later(2), "exit": end, **fields})


def under_way(attempt: int = 1, **fields: Any) -> RequestStatus:
    """The status of a request whose attempt is running."""
    return RequestStatus.model_validate(
        {
            "phase": "Pending",
            "reason": "JobCreated",
            "attempts": attempt,
            "settledAttempts": attempt - 1,
            "jobName": f"weekly-{UID[:8]}-{attempt}",
            "deadlineTime": "2026-11-25T12:00:00Z",
            **fields,
        }
    )


def seen(request: RequestView, *objects: JobView | PodView, **fields: Any) -> Seen:
    """A request with its Jobs and pods."""
    return Seen(
        request,
        jobs=tuple(o for o in objects if isinstance(o, JobView)),
        pods=tuple(o for o in objects if isinstance(o, PodView)),
        **fields,
    )
