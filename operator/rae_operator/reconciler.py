"""Look at one request, decide, and act: the only place where the operator changes anything but its Lease.

Each step leaves a state from which `decide` goes on, so that it does not matter between which two the process is killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rae_operator import events, labels
from rae_operator.admission import Admission
from rae_operator.api.status import Phase, RequestStatus
from rae_operator.cache import Cache
from rae_operator.decide import decide
from rae_operator.decision import CreateJob, DeleteJob, DeleteRequest
from rae_operator.jobs import build_job
from rae_operator.kube import ApiError, KubeApi, Paths
from rae_operator.logs import get_logger
from rae_operator.metrics import Metrics
from rae_operator.names import job_name
from rae_operator.observe import JobState, JobView, Key, RequestView, Seen, view_job, view_pod, view_request
from rae_operator.settings import Settings
from rae_operator.status import to_json

log = get_logger()

CONFLICT, GONE, INVALID = 409, 404, 422
#: Refusals of a Job that say something about it or its namespace, as opposed to a passing trouble of the server.
_REFUSALS = frozenset({400, 403, 404, 422})


@dataclass(frozen=True)
class Tools:
    """What a reconciler works with."""

    api: KubeApi
    cache: Cache
    admission: Admission
    metrics: Metrics
    settings: Settings
    identity: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


class Reconciler:
    """Brings requests to where they should be, one key at a time."""

    def __init__(self, tools: Tools) -> None:
        self._t = tools

    async def reconcile(self, key: Key) -> float | None:
        """Handle a request once.

        Returns:
            Seconds until it must be looked at again; None when only an event can change anything.

        Raises:
            ApiError: the API server has trouble; the caller tries again later.
            NotLeader: this process must not write any more.
        """
        request = self._t.cache.request(key)
        if request is None:
            return None
        try:
            return await self._step(request, refusal=None)
        finally:
            self._t.admission.settle(request.uid)

    async def _step(self, request: RequestView, refusal: str | None) -> float | None:
        seen = replace(await self._look(request), refusal=refusal)
        decision = decide(seen, self._t.now(), self._t.settings)
        if decision.create and not self._t.admission.has_place(request):
            decision = decide(replace(seen, has_place=False), self._t.now(), self._t.settings)
        if decision.create:
            obstacle = await self._create(request, decision.create)
            if obstacle is not None:
                return await self._step(request, obstacle or None)
        if decision.status and not await self._write(request, decision.status):
            return 0.0
        for deletion in decision.deletions:
            if not await self._delete(request, deletion):
                return 0.0
        return decision.requeue_after

    # --- looking

    async def _look(self, request: RequestView) -> Seen:
        cache, status = self._t.cache, request.status
        if not request.finished and not request.deleting:
            await self._verify(request)
        following = cache.job(request.namespace, job_name(request.name, request.uid, status.attempts + 1))
        jobs = set(cache.jobs_of(request.uid)) | ({following} if following else set())
        return Seen(request, tuple(jobs), cache.pods_of(request.uid), cache.progress(request.uid))

    async def _verify(self, request: RequestView) -> None:
        """Ask the API server before believing that something is gone or was never there."""
        cache, status = self._t.cache, request.status
        under_way = status.attempts > status.settled_attempts
        job = cache.job(request.namespace, status.job_name or "")
        if under_way and status.job_name and job is None:
            job = await self._refresh_job(request.namespace, status.job_name)
        pods = [p for p in cache.pods_of(request.uid) if p.job_name == status.job_name]
        unclear = job is not None and job.state is not JobState.ACTIVE and not any(p.exit for p in pods)
        going = job is None and any(not p.ended for p in cache.pods_of(request.uid))
        if status.attempts and (unclear or going or (under_way and job is None)):
            await self._refresh_pods(request)

    async def _refresh_job(self, namespace: str, name: str) -> JobView | None:
        body = await self._t.api.get(Paths.jobs(namespace, name))
        if body is None:
            self._t.cache.drop_job(namespace, name)
            return None
        view = view_job(body)
        self._t.cache.put_job(view)
        return view

    async def _refresh_pods(self, request: RequestView) -> None:
        bodies = await self._t.api.list(Paths.pods(request.namespace), f"{labels.REQUEST_UID}={request.uid}")
        self._t.cache.replace_pods(request.uid, [view_pod(body) for body in bodies])

    # --- acting

    async def _create(self, request: RequestView, create: CreateJob) -> str | None:
        """Create a Job.

        Returns:
            None when it is there; the empty string when the name belongs to something else, which the next look sees; else what
            the API server has against it.
        """
        try:
            body = await self._t.api.create(Paths.jobs(request.namespace), build_job(request, create, self._t.settings))
        except ApiError as error:
            if error.status == CONFLICT:
                return await self._adopt(request, create)
            if error.status in _REFUSALS:
                log.warning("job_refused", job=create.name, namespace=request.namespace, status=error.status, error=error.message)
                return error.message
            raise
        self._t.cache.put_job(view_job(body))
        self._t.metrics.jobs_created.labels(request.kind.name).inc()
        if create.attempt == 1:
            waited = (self._t.now() - request.created).total_seconds()
            self._t.metrics.job_delay.labels(request.kind.name).observe(max(0.0, waited))
        log.info("job_created", job=create.name, namespace=request.namespace, request=request.name, attempt=create.attempt)
        return None

    async def _adopt(self, request: RequestView, create: CreateJob) -> str | None:
        job = await self._refresh_job(request.namespace, create.name)
        if job is None:
            raise ApiError(CONFLICT, f"Job {create.name} was there and is gone")
        return None if job.owner_uid == request.uid else ""

    async def _write(self, request: RequestView, status: RequestStatus) -> bool:
        """Write the status; False when the request has changed or is gone, and must be looked at anew."""
        path = Paths.requests(request.kind.plural, request.namespace, request.name)
        body = {"metadata": {"resourceVersion": request.resource_version, "uid": request.uid}, "status": to_json(status)}
        try:
            answer = await self._t.api.patch(f"{path}/status", body)
        except ApiError as error:
            if error.status not in (CONFLICT, GONE):
                raise
            await self._refresh_request(request)
            return False
        written = view_request(answer)
        self._t.cache.put_request(written)
        self._t.admission.update(written)
        await self._tell(request, written)
        return True

    async def _refresh_request(self, request: RequestView) -> None:
        body = await self._t.api.get(Paths.requests(request.kind.plural, request.namespace, request.name))
        if body is None:
            self._t.cache.drop_request(request.key, request.uid)
            self._t.admission.drop(request.uid)
            return
        self._t.cache.put_request(view_request(body))

    async def _delete(self, request: RequestView, deletion: DeleteJob | DeleteRequest) -> bool:
        """Delete something; False when it is not as it was seen."""
        try:
            if isinstance(deletion, DeleteRequest):
                await self._t.api.delete(
                    Paths.requests(request.kind.plural, request.namespace, request.name),
                    {"propagationPolicy": "Background", "preconditions": {"uid": request.uid}},
                )
                log.info(
                    "request_deleted", request=request.name, namespace=request.namespace, cause="its time after the end is over"
                )
                return True
            await self._t.api.delete(
                Paths.jobs(request.namespace, deletion.name),
                {
                    # The Job stays until its pods are gone, so that its absence says that nothing runs.
                    "propagationPolicy": "Foreground",
                    "preconditions": {"uid": deletion.uid, "resourceVersion": deletion.resource_version},
                },
            )
            log.info("job_deleted", job=deletion.name, namespace=request.namespace)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            if isinstance(deletion, DeleteJob):
                await self._refresh_job(request.namespace, deletion.name)
            return False
        return True

    # --- telling

    async def _tell(self, before: RequestView, after: RequestView) -> None:
        """Metrics, log and events of what was just written."""
        old, new, kind = before.status, after.status, after.kind.name
        if new.last_failure and new.last_failure != old.last_failure:
            self._t.metrics.attempts_failed.labels(kind, new.last_failure.reason).inc()
        if after.finished and not before.finished:
            self._tell_end(after)
        for transition in events.transitions(old, new):
            await events.record(self._t.api, after, transition, self._t.identity)

    def _tell_end(self, request: RequestView) -> None:
        status, kind = request.status, request.kind
        phase = status.phase or Phase.FAILED
        self._t.metrics.finished.labels(kind.name, phase.value, status.reason or "").inc()
        if status.duration_seconds is not None:
            self._t.metrics.run_seconds.labels(kind.name, phase.value).observe(status.duration_seconds)
        facts = {
            "kind": kind.name,
            "request": request.name,
            "namespace": request.namespace,
            "uid": request.uid,
            "task": kind.task,
            "reason": status.reason,
            "attempts": status.attempts,
        }
        if phase is Phase.COMPLETE:
            log.info("request_complete", **facts, seconds=status.duration_seconds)
        elif status.last_failure and not _cancelled(status):
            log.error("task_failed_permanently", **facts, failures=status.failures, error=status.message)
        else:
            log.warning("request_failed", **facts, error=status.message)
        self._t.cache.drop_pods(request.uid)


def _cancelled(status: RequestStatus) -> bool:
    return status.reason == "Cancelled"
