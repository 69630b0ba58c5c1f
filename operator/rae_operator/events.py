"""Kubernetes events: one for each transition that a person would want to see in `kubectl describe`, and no others."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from rae_operator.api import GROUP, VERSION
from rae_operator.api.status import Phase, RequestStatus
from rae_operator.kube import ApiError, Body, KubeApi, Paths
from rae_operator.logs import get_logger
from rae_operator.observe import RequestView
from rae_operator.times import format_time

log = get_logger()
_sequence = itertools.count()


@dataclass(frozen=True)
class Transition:
    """A change worth an event."""

    reason: str
    message: str
    warning: bool = False


def transitions(before: RequestStatus, after: RequestStatus) -> list[Transition]:
    """What has happened between two statuses of a request."""
    found = []
    if after.last_failure and after.last_failure != before.last_failure:
        failure = after.last_failure
        found.append(Transition("AttemptFailed", f"attempt {failure.attempt}: {failure.reason}: {failure.message}", warning=True))
    if after.attempts > before.attempts:
        found.append(Transition("JobCreated", f"created Job {after.job_name} for attempt {after.attempts}"))
    if after.stopping and not before.stopping:
        found.append(Transition("Stopping", f"{after.stopping.reason}: {after.stopping.message}"))
    if after.phase is not before.phase and after.phase in (Phase.COMPLETE, Phase.FAILED, Phase.SUSPENDED):
        warning = after.phase is Phase.FAILED
        found.append(Transition(after.phase.value, f"{after.reason}: {after.message}", warning))
    if after.reason == "JobRefused" and before.reason != "JobRefused":
        found.append(Transition("JobRefused", after.message or "", warning=True))
    return found


async def record(api: KubeApi, request: RequestView, transition: Transition, identity: str) -> None:
    """Write an event. Best effort: an event that cannot be written must not hold up the work."""
    try:
        await api.create(Paths.events(request.namespace), _event(request, transition, identity))
    except ApiError as error:
        log.warning("event_not_written", reason=transition.reason, error=str(error))


def _event(request: RequestView, transition: Transition, identity: str) -> Body:
    now = datetime.now(UTC)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{request.name}.{time.time_ns():x}.{next(_sequence):x}", "namespace": request.namespace},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": request.kind.name,
            "namespace": request.namespace,
            "name": request.name,
            "uid": request.uid,
        },
        "reason": transition.reason,
        "message": transition.message[:1024],
        "type": "Warning" if transition.warning else "Normal",
        "source": {"component": "rae-operator"},
        "reportingComponent": "rae-operator",
        "reportingInstance": identity[:128],
        "firstTimestamp": format_time(now),
        "lastTimestamp": format_time(now),
        "count": 1,
    }
