"""The heart: from what is seen of a request to what is to be done. Pure, so that every case can be tested without a cluster.

A request is always in one of four situations, told by two numbers of its status: `attempts`, the last attempt that was started,
and `settledAttempts`, the last whose end was taken in.

1. it has ended: only clean-up is left;
2. the numbers are equal: it is between two attempts (or before the first);
3. they differ and the Job is there: an attempt is under way or has just ended;
4. they differ and the Job is gone: the operator or somebody else deleted it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rae_operator.api.spec import CommonSpec
from rae_operator.api.status import MAX_ATTEMPT_NUMBER, LastFailure, Phase, RequestStatus, Stopping
from rae_operator.attempt import AttemptEnd, Verdict, failed_attempt, last_word, postponed_until, retry_delay
from rae_operator.decision import CreateJob, Decision, DeleteJob, DeleteRequest
from rae_operator.diagnose import diagnose
from rae_operator.jobs import active_deadline
from rae_operator.names import job_name
from rae_operator.observe import JobState, JobView, PodView, RequestView, Seen
from rae_operator.settings import Settings
from rae_operator.status import accepted, at, changed, finished, started, summary_line, suspended, with_result
from rae_operator.termination import Hint
from rae_operator.times import format_time, parse_time

#: How often to look again at pods that are about to be gone; their events usually come first.
GONE_POLL_SECONDS = 5.0
REFUSED_POLL_SECONDS = 30.0
#: A pod is usually running by then; until then it is not worth a write that it is not.
QUIET_START_SECONDS = 5
#: Finished Jobs of a request that goes on: older ones have nothing to say any more.
KEPT_JOBS = 3

CANCELLED, SUSPENDED = "Cancelled", "Suspended"


@dataclass(frozen=True)
class Case:
    """A request that has not ended, with the status as it will be."""

    seen: Seen
    spec: CommonSpec
    status: RequestStatus
    now: datetime
    settings: Settings

    @property
    def request(self) -> RequestView:
        """The request."""
        return self.seen.request

    def having(self, status: RequestStatus) -> Case:
        """The same case with another status."""
        return replace(self, status=status)

    def done(self, *, requeue_after: float | None = None, deletions: tuple[DeleteJob, ...] = ()) -> Decision:
        """Nothing more than to write the status, if it changed."""
        status = None if self.status == self.request.status else self.status
        return Decision(status=status, requeue_after=requeue_after, deletions=deletions)

    def with_result(self, hint: Hint | None) -> Case:
        """The same case with what the task said at its end."""
        return self.having(with_result(self.status, self.request, hint))

    def end(self, phase: Phase, reason: str, message: str, ended: datetime | None = None) -> Decision:
        """The request ends here. Whatever ran may have left something in the ledger, so its place is named."""
        case = self if self.status.result_ref or not self.status.attempts else self.with_result(None)
        status = finished(case.status, phase, reason, message, self.request, ended, self.now)
        return case.having(status).done(requeue_after=0)

    def seconds_until(self, moment: datetime | None) -> float | None:
        """From now, at least a moment, so that a timer never spins."""
        return None if moment is None else max(0.05, (moment - self.now).total_seconds())


def decide(seen: Seen, now: datetime, settings: Settings) -> Decision:
    """Decide the next step for a request."""
    request = seen.request
    if request.deleting:
        # Its Jobs follow by their ownerReference.
        return Decision()
    if request.finished:
        return _after_the_end(seen, now, settings)
    if request.spec is None:
        case = Case(seen, CommonSpec(tenant_id="-", project="-"), request.status, now, settings)
        return case.end(Phase.FAILED, "InvalidSpec", request.invalid or "the spec cannot be read")
    case = Case(seen, request.spec, accepted(_adopting(seen), request, now), now, settings)
    if case.status.attempts == case.status.settled_attempts:
        return _between(case)
    job = _job_of_attempt(case)
    if job is None:
        return _job_gone(case)
    if job.state is JobState.COMPLETE:
        return _complete(case, job)
    if job.state is JobState.FAILED:
        return _failed(case, job)
    return _under_way(case, job)


def _adopting(seen: Seen) -> RequestStatus:
    """The status with an attempt whose Job was created just before the operator was killed."""
    status = seen.request.status
    newest = max((job.attempt for job in seen.own_jobs), default=0)
    if newest <= status.attempts:
        return status
    return changed(status, attempts=newest, settled_attempts=newest - 1, job_name=seen.own_jobs[-1].name, next_attempt_time=None)


def _job_of_attempt(case: Case) -> JobView | None:
    return next((j for j in case.seen.own_jobs if j.attempt == case.status.attempts), None)


# --- between two attempts ---------------------------------------------------------------------------------------------------


def _between(case: Case) -> Decision:
    leftovers = [j for j in case.seen.own_jobs if j.state is JobState.ACTIVE]
    if leftovers or _alive(case.seen.pods):
        return case.done(requeue_after=GONE_POLL_SECONDS, deletions=tuple(_deletion(j) for j in leftovers if not j.deleting))
    if case.spec.cancel:
        return case.end(Phase.FAILED, CANCELLED, "cancelled by spec.cancel; nothing of it runs any more")
    if case.spec.suspend:
        return _hold(case)
    case = _with_deadline(case)
    deadline = parse_time(case.status.deadline_time)
    if deadline is not None and case.now >= deadline:
        return case.end(Phase.FAILED, "DeadlineExceeded", _deadline_text(case))
    if case.status.attempts >= MAX_ATTEMPT_NUMBER:
        return case.end(Phase.FAILED, "TooManyAttempts", f"{MAX_ATTEMPT_NUMBER} attempts did not bring it to an end")
    due = parse_time(case.status.next_attempt_time)
    if due is not None and case.now < due:
        return case.done(requeue_after=_first(case.seconds_until(due), case.seconds_until(deadline)))
    return _start(case, deadline)


def _hold(case: Case) -> Decision:
    request = case.request
    status = suspended(case.status, request, True, case.now)
    status = changed(status, deadline_time=None, next_attempt_time=None, progress=None)
    return case.having(at(status, Phase.SUSPENDED, SUSPENDED, "set spec.suspend to false to go on", request)).done()


def _with_deadline(case: Case) -> Case:
    status = suspended(case.status, case.request, False, case.now)
    if status.deadline_time is None:
        status = changed(status, deadline_time=format_time(case.now + timedelta(seconds=case.spec.deadline_seconds)))
    return case.having(status)


def _start(case: Case, deadline: datetime | None) -> Decision:
    status, request = case.status, case.request
    attempt = status.attempts + 1
    name = job_name(request.name, request.uid, attempt)
    if any(j.name == name and j.owner_uid != request.uid for j in case.seen.jobs):
        return case.end(
            Phase.FAILED, "Conflict", f"a Job {name} exists and belongs to something else; delete it and make a new request"
        )
    if not case.seen.has_place:
        waiting = at(status, Phase.PENDING, "Queued", "waits until fewer Jobs run", request)
        return case.having(waiting).done(requeue_after=case.seconds_until(deadline))
    if case.seen.refusal:
        refused = at(status, Phase.PENDING, "JobRefused", f"the API server refuses the Job: {case.seen.refusal}", request)
        return case.having(refused).done(requeue_after=REFUSED_POLL_SECONDS)
    status = changed(status, attempts=attempt, job_name=name, pod_name=None, progress=None, next_attempt_time=None, stopping=None)
    status = at(status, Phase.PENDING, "JobCreated", f"attempt {attempt} was started", request)
    remaining = (deadline - case.now).total_seconds() if deadline else None
    create = CreateJob(name, attempt, active_deadline(request.kind, case.settings, _pre_running_seconds(case), remaining))
    return replace(case.having(status).done(deletions=_superseded(case)), create=create)


def _superseded(case: Case) -> tuple[DeleteJob, ...]:
    old = [j for j in case.seen.own_jobs if j.state is not JobState.ACTIVE and not j.deleting]
    return tuple(_deletion(j) for j in old[: max(0, len(old) - KEPT_JOBS)])


# --- an attempt under way -----------------------------------------------------------------------------------------------------


def _under_way(case: Case, job: JobView) -> Decision:
    if case.status.stopping:
        deletions = () if job.deleting else (_deletion(job),)
        return case.done(requeue_after=GONE_POLL_SECONDS, deletions=deletions)
    if job.deleting:
        return case.done(requeue_after=GONE_POLL_SECONDS)
    pods = case.seen.pods_of(job.name)
    cause = _cause_to_stop(case, job, pods)
    if cause:
        return _stop(case, job, cause)
    return case.having(_observed(case, job, pods)).done(requeue_after=_next_look(case, job, pods))


def _cause_to_stop(case: Case, job: JobView, pods: tuple[PodView, ...]) -> Stopping | None:
    if case.spec.cancel:
        return Stopping(reason=CANCELLED, message="cancelled by spec.cancel")
    if case.spec.suspend:
        return Stopping(reason=SUSPENDED, message="suspended by spec.suspend")
    deadline = parse_time(case.status.deadline_time)
    if deadline is not None and case.now >= deadline:
        return Stopping(reason="DeadlineExceeded", message=_deadline_text(case))
    if job.suspended or _has_run(pods):
        return None
    return _cause_before_running(case, job, pods)


def _cause_before_running(case: Case, job: JobView, pods: tuple[PodView, ...]) -> Stopping | None:
    diagnosis = diagnose(pods)
    if diagnosis.hopeless and case.now >= _hopeless_from(case, pods):
        return Stopping(reason=diagnosis.reason, message=diagnosis.message)
    by = _running_by(case, job)
    if by is not None and case.now >= by:
        allowed = _pre_running_seconds(case)
        return Stopping(reason="PreRunningDeadlineExceeded", message=f"not running within {allowed} s: {diagnosis.message}")
    return None


def _hopeless_from(case: Case, pods: tuple[PodView, ...]) -> datetime:
    return pods[-1].created + timedelta(seconds=case.settings.config_missing_grace_seconds)


def _running_by(case: Case, job: JobView) -> datetime | None:
    # A Job that was queued counts from the moment it was let go, which Kubernetes writes a little later.
    since = job.started or (None if case.spec.queue_name else job.created)
    return since + timedelta(seconds=_pre_running_seconds(case)) if since else None


def _pre_running_seconds(case: Case) -> int:
    return case.spec.pre_running_deadline_seconds or case.settings.pre_running_deadline_seconds


def _stop(case: Case, job: JobView, cause: Stopping) -> Decision:
    status = changed(case.status, stopping=cause)
    phase = case.status.phase or Phase.PENDING
    text = f"{cause.message}; waiting until its pods are gone"
    status = at(status, phase, cause.reason, text, case.request)
    return case.having(status).done(requeue_after=GONE_POLL_SECONDS, deletions=(_deletion(job),))


def _observed(case: Case, job: JobView, pods: tuple[PodView, ...]) -> RequestStatus:
    request, status = case.request, case.status
    if job.suspended:
        queue = f" by Kueue's queue {case.spec.queue_name}" if case.spec.queue_name else ""
        return at(status, Phase.PENDING, "Queued", f"the Job waits to be admitted{queue}", request)
    running = [p for p in pods if p.running_since and not p.ended]
    if running:
        pod = running[-1]
        status = started(changed(status, pod_name=pod.name, progress=case.seen.progress), request, pod.running_since, case.now)
        return at(status, Phase.RUNNING, "PodRunning", f"attempt {status.attempts} runs", request)
    if any(p.ended for p in pods) and status.phase is Phase.RUNNING and not _alive(pods):
        # Its pod has ended and the Job will say how in a moment.
        return status
    diagnosis = diagnose(pods)
    if diagnosis.reason == "PodPending" and status.reason == "JobCreated" and case.now < _quiet_until(job):
        return status
    return at(status, Phase.PENDING, diagnosis.reason, diagnosis.message, request)


def _quiet_until(job: JobView) -> datetime:
    return job.created + timedelta(seconds=QUIET_START_SECONDS)


def _next_look(case: Case, job: JobView, pods: tuple[PodView, ...]) -> float | None:
    moments = [parse_time(case.status.deadline_time)]
    if not job.suspended and not _has_run(pods):
        moments += [_running_by(case, job), *([_quiet_until(job)] if case.now < _quiet_until(job) else [])]
        if diagnose(pods).hopeless:
            moments.append(_hopeless_from(case, pods))
    return _first(*(case.seconds_until(m) for m in moments))


# --- an attempt that has ended --------------------------------------------------------------------------------------------------


def _complete(case: Case, job: JobView) -> Decision:
    pod, hint = last_word(case.seen.pods_of(job.name), succeeded=True)
    status = _after_run(case, pod)
    text = summary_line(hint, "the pod's message is missing; resultRef names the run in the ledger")
    return (
        case.having(status).with_result(hint).end(Phase.COMPLETE, (hint.reason if hint else "") or "Done", text, job.finished_at)
    )


def _after_run(case: Case, pod: PodView | None) -> RequestStatus:
    status = case.status
    if pod is not None:
        status = changed(status, pod_name=pod.name)
        if pod.running_since or pod.exit:
            status = started(status, case.request, pod.running_since, case.now)
    if case.seen.progress:
        status = changed(status, progress=case.seen.progress)
    return status


def _failed(case: Case, job: JobView) -> Decision:
    if case.status.stopping and job.deleting:
        return case.done(requeue_after=GONE_POLL_SECONDS)
    pods = case.seen.pods_of(job.name)
    end = failed_attempt(job, pods)
    pod, hint = last_word(pods, succeeded=False)
    status = changed(_after_run(case, pod), stopping=None)
    if end.verdict is Verdict.SLICED:
        status = changed(status, settled_attempts=status.attempts)
        status = at(
            status, Phase.PENDING, end.reason, end.message or "the attempt's time was over; the next goes on", case.request
        )
        return _between(case.having(status))
    if end.verdict is Verdict.POSTPONED:
        return _postpone(case.having(status), end)
    case = case.having(_noting(status, end, job.finished_at or case.now))
    if end.verdict is Verdict.PERMANENT:
        return case.with_result(hint).end(Phase.FAILED, end.reason, end.message, job.finished_at)
    return _retry(case, end, hint, job.finished_at or case.now)


def _postpone(case: Case, end: AttemptEnd) -> Decision:
    """Back to waiting: the attempt does not count, and the next one is due when its budget is there again, if that is in time."""
    due = format_time(postponed_until(end, case.now, case.request.uid))
    status = changed(case.status, settled_attempts=case.status.attempts, next_attempt_time=due)
    text = f"{end.message or 'the budget is spent'}; the next attempt is due at {due}"
    return _between(case.having(at(status, Phase.PENDING, end.reason, text, case.request)))


def _noting(status: RequestStatus, end: AttemptEnd, when: datetime) -> RequestStatus:
    failure = LastFailure(
        attempt=status.attempts, reason=end.reason, message=end.message, exit_code=end.exit_code, time=format_time(when)
    )
    return changed(status, failures=status.failures + 1, last_failure=failure)


def _retry(case: Case, end: AttemptEnd, hint: Hint | None, ended: datetime) -> Decision:
    status, policy = case.status, case.spec.retry
    if status.failures >= policy.max_attempts:
        text = f"{status.failures} of {policy.max_attempts} attempts failed; the last: {end.message}"
        return case.with_result(hint).end(Phase.FAILED, end.reason, text, ended)
    due = ended + timedelta(seconds=retry_delay(policy, status.failures, case.request.uid))
    if end.retry_after:  # An endpoint's Retry-After; a pod is not believed more than a day.
        due = max(due, min(end.retry_after, ended + timedelta(days=1)))
    text = f"attempt {status.attempts} failed ({end.reason}: {end.message}); the next is due at {format_time(due)}"
    status = changed(status, settled_attempts=status.attempts, next_attempt_time=format_time(due), stopping=None)
    return _between(case.having(at(status, Phase.PENDING, "Retrying", text, case.request)))


# --- a Job that is gone ---------------------------------------------------------------------------------------------------------


def _job_gone(case: Case) -> Decision:
    if _alive(case.seen.pods):
        return case.done(requeue_after=GONE_POLL_SECONDS)
    cause = case.status.stopping
    if cause is None and (case.spec.cancel or case.spec.suspend):
        return _between(_settled(case))
    if cause is None:
        end = AttemptEnd(Verdict.RETRY, "JobDeleted", f"Job {case.status.job_name} was deleted before it ended")
        return _retry(case.having(_noting(case.status, end, case.now)), end, None, case.now)
    if cause.reason in (CANCELLED, SUSPENDED):
        return _between(_settled(case))
    return case.end(Phase.FAILED, cause.reason, cause.message)


def _settled(case: Case) -> Case:
    """An attempt that was stopped on purpose: it does not count."""
    return case.having(changed(case.status, settled_attempts=case.status.attempts, stopping=None))


# --- after the end --------------------------------------------------------------------------------------------------------------


def _after_the_end(seen: Seen, now: datetime, settings: Settings) -> Decision:
    request = seen.request
    own = request.spec.ttl_seconds_after_finished if request.spec else None
    ttl = settings.ttl_seconds_after_finished if own is None else own
    ended = parse_time(request.status.completion_time) or request.created
    if now >= ended + timedelta(seconds=ttl):
        return Decision(deletions=(DeleteRequest(),))
    jobs_until = ended + timedelta(seconds=settings.job_ttl_seconds)
    over = [j for j in seen.own_jobs if not j.deleting and (j.state is JobState.ACTIVE or now >= jobs_until)]
    moments = [ended + timedelta(seconds=ttl), *([jobs_until] if now < jobs_until and seen.own_jobs else [])]
    requeue = min((m - now).total_seconds() for m in moments)
    return Decision(deletions=tuple(_deletion(j) for j in over), requeue_after=max(0.05, requeue))


def _deletion(job: JobView) -> DeleteJob:
    return DeleteJob(job.name, job.uid, job.resource_version)


def _alive(pods: tuple[PodView, ...]) -> bool:
    return any(not p.ended for p in pods)


def _has_run(pods: tuple[PodView, ...]) -> bool:
    return any(p.running_since or p.ended for p in pods)


def _first(*seconds: float | None) -> float | None:
    return min((s for s in seconds if s is not None), default=None)


def _deadline_text(case: Case) -> str:
    waited = f"; it waited: {case.status.message}" if case.status.reason == "BudgetExhausted" else ""
    return f"not done within spec.deadlineSeconds ({case.spec.deadline_seconds} s){waited}"
