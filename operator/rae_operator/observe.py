"""What the operator has seen of a request, its Jobs and its pods: small frozen views of the API's objects.

A view holds what decisions need and nothing else, since ten thousand of them are kept in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from rae_operator import labels
from rae_operator.api.spec import CommonSpec
from rae_operator.api.status import ConditionType, RequestStatus
from rae_operator.kinds import BY_NAME, Kind
from rae_operator.times import parse_time

Body = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Key:
    """Where a request is: the identity of a piece of the operator's work."""

    plural: str
    namespace: str
    name: str


@dataclass(frozen=True)
class RequestView:
    """A request.

    Attributes:
        spec: None when the stored object does not fit the model; `invalid` then says why.
    """

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created: datetime
    deleting: bool
    spec: CommonSpec | None
    status: RequestStatus
    invalid: str | None = None

    @property
    def key(self) -> Key:
        """Where it is."""
        return Key(self.kind.plural, self.namespace, self.name)

    @property
    def finished(self) -> bool:
        """Whether it has ended; either mark is enough, since nothing may start again after it."""
        if self.status.phase is not None and self.status.phase.terminal:
            return True
        return any(c.type is ConditionType.FINISHED and c.status == "True" for c in self.status.conditions or ())


class JobState(StrEnum):
    """What a Job's conditions say."""

    ACTIVE = "Active"
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True)
class JobView:
    """A Job.

    Attributes:
        started: when it was last unsuspended.
        reason, message, finished_at: those of its terminal condition.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    owner_uid: str | None
    attempt: int
    created: datetime
    started: datetime | None = None
    deleting: bool = False
    suspended: bool = False
    state: JobState = JobState.ACTIVE
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None


@dataclass(frozen=True)
class ContainerExit:
    """How the task's container ended."""

    code: int
    reason: str
    message: str
    finished_at: datetime | None


@dataclass(frozen=True)
class PodView:
    """A pod of a Job, seen through its task container."""

    name: str
    uid: str
    resource_version: str
    job_name: str
    request_uid: str
    created: datetime
    phase: str
    deleting: bool = False
    reason: str = ""
    message: str = ""
    disrupted: bool = False
    unschedulable: str | None = None
    waiting_reason: str = ""
    waiting_message: str = ""
    running_since: datetime | None = None
    exit: ContainerExit | None = None

    @property
    def ended(self) -> bool:
        """Whether its containers run no more."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True)
class Seen:
    """All that a decision is made from, beside the time and the settings.

    Attributes:
        jobs: every known Job of the request, and any Job that has the name of its next one.
        pods: of the request's Jobs, the last known state of deleted ones included.
        progress: "done/total" from the running pod's log.
        has_place: whether the limit of Jobs leaves room for this request.
        refusal: what the API server said when it refused the next Job.
    """

    request: RequestView
    jobs: tuple[JobView, ...] = ()
    pods: tuple[PodView, ...] = ()
    progress: str | None = None
    has_place: bool = True
    refusal: str | None = None

    @property
    def own_jobs(self) -> tuple[JobView, ...]:
        """The Jobs that this very request controls, by attempt."""
        return tuple(sorted((j for j in self.jobs if j.owner_uid == self.request.uid), key=lambda j: j.attempt))

    def pods_of(self, job_name: str | None) -> tuple[PodView, ...]:
        """The pods of a Job, oldest first."""
        return tuple(sorted((p for p in self.pods if p.job_name == job_name), key=lambda p: (p.created, p.name)))


def view_request(body: Body) -> RequestView:
    """See a custom resource. Raises KeyError for a kind that is not in the table."""
    kind = BY_NAME[body["kind"]]
    metadata = body["metadata"]
    status, spec, invalid = _status(body), None, None
    model = CommonSpec if status.phase is not None and status.phase.terminal else kind.spec
    try:
        # A finished request's own fields, a thousand ids perhaps, are of no use any more.
        spec = model.model_validate(body.get("spec") or {})
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        invalid = f"spec.{'.'.join(str(p) for p in detail['loc'])}: {detail['msg']}"
    return RequestView(
        kind=kind,
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        created=_created(metadata),
        deleting="deletionTimestamp" in metadata,
        spec=spec,
        status=status,
        invalid=invalid,
    )


def _status(body: Body) -> RequestStatus:
    raw = dict(body.get("status") or {})
    try:
        return RequestStatus.model_validate(raw)
    except ValidationError as error:
        # Another version of the operator wrote it. What is readable stays, above all that the request has ended.
        unreadable = {str(detail["loc"][0]) for detail in error.errors(include_input=False, include_url=False)}
        return RequestStatus.model_validate({name: value for name, value in raw.items() if name not in unreadable})


def view_job(body: Body) -> JobView:
    """See a Job."""
    metadata, status = body["metadata"], body.get("status") or {}
    end: Body = next(
        (c for c in status.get("conditions") or () if c["type"] in ("Complete", "Failed") and c["status"] == "True"), {}
    )
    return JobView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata.get("resourceVersion", ""),
        owner_uid=_controller_uid(metadata),
        attempt=_attempt(metadata["name"]),
        created=_created(metadata),
        started=parse_time(status.get("startTime")),
        deleting="deletionTimestamp" in metadata,
        suspended=bool((body.get("spec") or {}).get("suspend")),
        state=JobState(end["type"]) if end else JobState.ACTIVE,
        reason=end.get("reason") or "",
        message=end.get("message") or "",
        finished_at=parse_time(status.get("completionTime") or end.get("lastTransitionTime")),
    )


def view_pod(body: Body) -> PodView:
    """See a pod."""
    metadata, status = body["metadata"], body.get("status") or {}
    container: Body = next((c for c in status.get("containerStatuses") or () if c["name"] == labels.CONTAINER), {})
    state = container.get("state") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    waiting = state.get("waiting") or {}
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata.get("resourceVersion", ""),
        job_name=(metadata.get("labels") or {}).get(labels.JOB_NAME, ""),
        request_uid=(metadata.get("labels") or {}).get(labels.REQUEST_UID, ""),
        created=_created(metadata),
        phase=status.get("phase") or "Pending",
        deleting="deletionTimestamp" in metadata,
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        unschedulable=_unschedulable(conditions.get("PodScheduled")),
        waiting_reason=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        running_since=parse_time((state.get("running") or state.get("terminated") or {}).get("startedAt")),
        exit=_exit(state.get("terminated")),
    )


def _exit(terminated: Body | None) -> ContainerExit | None:
    if not terminated:
        return None
    return ContainerExit(
        code=int(terminated.get("exitCode", -1)),
        reason=terminated.get("reason") or "",
        message=terminated.get("message") or "",
        finished_at=parse_time(terminated.get("finishedAt")),
    )


def _unschedulable(scheduled: Body | None) -> str | None:
    if not scheduled or scheduled.get("status") != "False":
        return None
    return scheduled.get("message") or scheduled.get("reason") or "no node takes it"


def _created(metadata: Body) -> datetime:
    return parse_time(metadata.get("creationTimestamp")) or datetime.now(UTC)


def _controller_uid(metadata: Body) -> str | None:
    return next((o["uid"] for o in metadata.get("ownerReferences") or () if o.get("controller")), None)


def _attempt(job_name: str) -> int:
    # From the name, which nobody can change, and not from the label.
    suffix = job_name.rpartition("-")[2]
    return int(suffix) if suffix.isascii() and suffix.isdigit() else 0
