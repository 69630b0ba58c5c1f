"""What must hold whatever happens: a request in a world of Jobs and pods where anything may fail, and the operator may be killed
between any two of its writes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rae_operator.api.status import Phase, RequestStatus
from rae_operator.decide import decide
from rae_operator.decision import CreateJob, Decision, DeleteJob, DeleteRequest
from rae_operator.observe import ContainerExit, JobState, JobView, PodView, RequestView, Seen
from rae_operator.settings import Settings, TaskSettings
from tests.unit.operator.builders import NOW, UID, a_job, a_pod, a_request

SETTINGS = Settings(task=TaskSettings(image="x", soft_limit_seconds=60), config_missing_grace_seconds=5)
SPENT = json.dumps({"version": 1, "reason": "BudgetExhausted", "message": "spent", "retryAfter": "2026-11-24T13:00:00Z"})
SLICED = json.dumps({"version": 1, "reason": "TimeSliced", "message": "half"})


@dataclass
class World:
    """A cluster of one request."""

    request: RequestView
    now: datetime = NOW
    jobs: dict[str, JobView] = field(default_factory=dict)
    pods: dict[str, PodView] = field(default_factory=dict)
    ever_created: list[int] = field(default_factory=list)
    created_after_end: int = 0
    version: int = 0
    deleted: bool = False

    def seen(self) -> Seen:
        return Seen(self.request, tuple(self.jobs.values()), tuple(self.pods.values()))

    def step(self, *, killed_after: int = 99) -> Decision:
        """One step of the operator, killed after some of its writes."""
        decision = decide(self.seen(), self.now, SETTINGS)
        writes = [w for w in (decision.create, decision.status, *decision.deletions) if w is not None]
        for write in writes[:killed_after]:
            self._apply(write)
        return decision

    def _apply(self, write: CreateJob | RequestStatus | DeleteJob | DeleteRequest) -> None:
        if isinstance(write, CreateJob):
            self._create(write.attempt)
        elif isinstance(write, RequestStatus):
            self.request = replace(self.request, status=write)
        elif isinstance(write, DeleteJob):
            self.delete_job(write.name, by_operator=True)
        else:
            self.deleted = True

    def _create(self, attempt: int) -> None:
        self.created_after_end += self.request.finished
        self.ever_created.append(attempt)
        job = a_job(attempt, created=self.now, started=self.now)
        self.jobs[job.name] = job
        pod = a_pod(attempt, created=self.now)
        self.pods[pod.uid] = pod

    def delete_job(self, name: str, *, by_operator: bool = False) -> None:
        """Foreground: the Job stays while a pod of it runs."""
        running = [p for p in self.pods.values() if p.job_name == name and not p.ended]
        if by_operator and running:
            self.jobs[name] = replace(self.jobs[name], deleting=True)
            return
        self.jobs.pop(name, None)
        for pod in [p for p in self.pods.values() if p.job_name == name]:
            del self.pods[pod.uid]

    def active(self) -> JobView | None:
        return next((j for j in self.jobs.values() if j.state is JobState.ACTIVE), None)

    def end_job(self, code: int, message: str = "", *, keep_pod: bool = True) -> None:
        """A pod ends, and its Job with it."""
        job = self.active()
        if job is None or job.deleting:
            return
        for pod in [p for p in self.pods.values() if p.job_name == job.name]:
            end = ContainerExit(code, "Error", message, self.now)
            ended = replace(pod, phase="Failed" if code else "Succeeded", running_since=self.now, exit=end)
            self.pods[pod.uid] = ended
            if not keep_pod:
                del self.pods[pod.uid]
        reason = "PodFailurePolicy" if code in (64, 65, 78) else "BackoffLimitExceeded"
        state = JobState.FAILED if code else JobState.COMPLETE
        self.jobs[job.name] = replace(job, state=state, reason=reason if code else "", finished_at=self.now)

    def pods_of_deleted_jobs_end(self) -> None:
        for name in [n for n, j in self.jobs.items() if j.deleting]:
            self.delete_job(name)


class RequestInAHostileWorld(RuleBasedStateMachine):
    """Random events and a random kill after each."""

    @initialize(attempts=st.integers(1, 4), deadline=st.sampled_from([100, 86_400]), suspend=st.booleans())
    def begin(self, attempts: int, deadline: int, suspend: bool) -> None:
        retry = {"maxAttempts": attempts, "initialDelaySeconds": 10}
        self.world = World(a_request(retry=retry, deadlineSeconds=deadline, suspend=suspend))
        self.terminal: tuple[object, ...] | None = None

    @rule(killed_after=st.sampled_from([0, 1, 2, 99]))
    def the_operator_steps(self, killed_after: int) -> None:
        self.world.step(killed_after=killed_after)

    @rule(code=st.sampled_from([0, 1, 64, 65, 75, 78, 137]), keep_pod=st.booleans())
    def a_job_ends(self, code: int, keep_pod: bool) -> None:
        self.world.end_job(code, keep_pod=keep_pod)

    @rule()
    def a_slice_ends(self) -> None:
        self.world.end_job(75, SLICED)

    @rule()
    def a_budget_is_spent(self) -> None:
        self.world.end_job(75, SPENT)

    @rule()
    def a_pod_begins_to_run(self) -> None:
        for pod in self.world.pods.values():
            if not pod.ended and pod.running_since is None:
                self.world.pods[pod.uid] = replace(pod, phase="Running", running_since=self.world.now)
                return

    @rule()
    def a_secret_is_missing(self) -> None:
        for pod in self.world.pods.values():
            if not pod.ended and pod.running_since is None:
                self.world.pods[pod.uid] = replace(pod, waiting_reason="CreateContainerConfigError", waiting_message="no secret")
                return

    @rule()
    def somebody_deletes_the_job(self) -> None:
        job = self.world.active()
        if job is None:
            return
        self.world.delete_job(job.name)
        if job.attempt > self.world.request.status.attempts:
            # Deleted while the operator was dead, before it wrote that the Job existed: nobody can know that it ever did.
            self.world.ever_created.remove(job.attempt)

    @rule()
    def deleted_jobs_go(self) -> None:
        self.world.pods_of_deleted_jobs_end()

    @rule(seconds=st.sampled_from([1, 6, 30, 120, 4_000]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    @rule(suspend=st.booleans())
    def the_user_suspends_or_resumes(self, suspend: bool) -> None:
        self._change(suspend=suspend)

    @precondition(lambda self: self.world.now > NOW + timedelta(seconds=60))
    @rule()
    def the_user_cancels(self) -> None:
        self._change(cancel=True)

    def _change(self, **fields: bool) -> None:
        spec = self.world.request.spec
        assert spec is not None
        self.world.request = replace(self.world.request, spec=spec.model_copy(update=fields))

    @invariant()
    def nothing_starts_after_the_end(self) -> None:
        assert self.world.created_after_end == 0

    @invariant()
    def no_attempt_is_started_twice(self) -> None:
        assert len(self.world.ever_created) == len(set(self.world.ever_created))

    @invariant()
    def at_most_one_job_runs(self) -> None:
        assert sum(j.state is JobState.ACTIVE for j in self.world.jobs.values()) <= 1

    @invariant()
    def failures_never_pass_the_limit(self) -> None:
        spec = self.world.request.spec
        assert spec is not None and self.world.request.status.failures <= spec.retry.max_attempts

    @invariant()
    def an_end_stays_the_end_and_has_all_its_marks(self) -> None:
        status = self.world.request.status
        if not self.world.request.finished:
            assert self.terminal is None
            return
        marks = {c.type.value for c in status.conditions or () if c.status == "True"}
        assert {"Finished", status.phase.value if status.phase else ""} <= marks
        assert status.completion_time is not None
        end = (status.phase, status.reason, status.message)
        assert self.terminal in (None, end)
        self.terminal = end

    @invariant()
    def a_cancelled_request_has_nothing_that_runs(self) -> None:
        if self.world.request.status.reason == "Cancelled" and self.world.request.finished:
            assert all(p.ended for p in self.world.pods.values())

    @invariant()
    def deciding_changes_nothing_by_itself(self) -> None:
        seen = self.world.seen()
        assert decide(seen, self.world.now, SETTINGS) == decide(seen, self.world.now, SETTINGS)

    def teardown(self) -> None:
        """Left alone, with pods that succeed, every request ends, and is quiet then."""
        if not hasattr(self, "world"):
            return
        self._change(suspend=False)
        for _ in range(200):
            if self.world.request.finished:
                break
            self.world.step()
            self.world.pods_of_deleted_jobs_end()
            self.world.end_job(0)
            self.world.now += timedelta(seconds=30)
        assert self.world.request.finished, self.world.request.status
        assert self.world.request.status.phase in (Phase.COMPLETE, Phase.FAILED)
        for _ in range(3):
            self.world.step()
        assert not self.world.step().status
        assert UID in str(self.world.request)


RequestInAHostileWorld.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRequestInAHostileWorld = RequestInAHostileWorld.TestCase
