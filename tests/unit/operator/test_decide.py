"""What is decided in each situation of a request."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rae_operator.api.status import Phase, RequestStatus
from rae_operator.decide import decide
from rae_operator.decision import Decision, DeleteJob, DeleteRequest
from rae_operator.observe import JobState, Seen
from rae_operator.times import format_time, parse_time
from tests.unit.operator.builders import (
    NOW,
    SETTINGS,
    UID,
    a_complete_job,
    a_failed_job,
    a_job,
    a_pod,
    a_request,
    a_running_pod,
    an_ended_pod,
    later,
    seen,
    under_way,
)

MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
JOB_1 = f"weekly-{UID[:8]}-1"


def hint(reason: str = "Done", message: str = "", **more: Any) -> str:
    return json.dumps({"version": 1, "reason": reason, "message": message, **more})


def at(seconds: float, situation: Seen) -> Decision:
    return decide(situation, later(seconds), SETTINGS)


def status_of(decision: Decision) -> RequestStatus:
    assert decision.status is not None
    return decision.status


def conditions(status: RequestStatus) -> dict[str, str]:
    return {c.type.value: c.status for c in status.conditions or ()}


# --- the first attempt


def test_a_new_request_is_accepted_and_gets_its_first_job() -> None:
    decision = at(0, seen(a_request()))
    assert decision.create is not None
    assert (decision.create.name, decision.create.attempt) == (JOB_1, 1)
    status = status_of(decision)
    assert (status.phase, status.reason, status.attempts, status.job_name) == (Phase.PENDING, "JobCreated", 1, JOB_1)
    assert conditions(status) == {"Accepted": "True"}


def test_a_job_created_just_before_a_kill_is_adopted_and_not_created_again() -> None:
    decision = at(1, seen(a_request(), a_job(1)))
    assert decision.create is None
    assert (status_of(decision).attempts, status_of(decision).job_name) == (1, JOB_1)


def test_a_foreign_job_of_the_same_name_is_a_conflict() -> None:
    status = status_of(at(0, seen(a_request(), a_job(1, owner_uid="somebody-else"))))
    assert (status.phase, status.reason) == (Phase.FAILED, "Conflict")
    assert JOB_1 in (status.message or "")


def test_a_spec_that_cannot_be_read_fails_the_request_and_says_which_field() -> None:
    broken = replace(a_request(), spec=None, invalid="spec.limit: too large")
    status = status_of(at(0, seen(broken)))
    assert (status.phase, status.reason, status.message) == (Phase.FAILED, "InvalidSpec", "spec.limit: too large")


def test_without_a_free_place_a_request_is_queued() -> None:
    decision = at(0, seen(a_request(), has_place=False))
    assert decision.create is None
    assert (status_of(decision).phase, status_of(decision).reason) == (Phase.PENDING, "Queued")


def test_a_refused_job_is_told_and_tried_again() -> None:
    decision = at(0, seen(a_request(), refusal="exceeded quota"))
    assert decision.create is None and decision.requeue_after == 30
    assert "exceeded quota" in (status_of(decision).message or "")


def test_a_request_that_is_being_deleted_is_left_alone() -> None:
    assert not at(0, seen(replace(a_request(), deleting=True))).writes


# --- under way


def test_a_running_pod_starts_the_request() -> None:
    status = status_of(at(3, seen(a_request(status=under_way()), a_job(), a_running_pod(), progress="5/10")))
    assert (status.phase, status.pod_name, status.start_time) == (Phase.RUNNING, "weekly-1-x", "2026-11-24T12:00:02Z")
    assert status.progress == "5/10"
    assert conditions(status)["Started"] == "True"


def test_a_pod_that_is_being_prepared_is_worth_no_write_in_the_first_seconds() -> None:
    quiet = a_request(status=under_way(conditions=accepted()))
    assert not at(1, seen(quiet, a_job(), a_pod())).writes
    assert status_of(at(6, seen(quiet, a_job(), a_pod()))).reason == "PodPending"


def accepted() -> list[dict[str, str]]:
    return [
        {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-11-24T12:00:00Z"}
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"unschedulable": "0/3 nodes have enough memory"}, "Unschedulable"),
        ({"waiting_reason": "ImagePullBackOff", "waiting_message": "not found"}, "ImagePullError"),
        ({"waiting_reason": "CreateContainerError"}, "ContainerCannotRun"),
    ],
)
def test_what_keeps_a_pod_from_running_is_the_reason(fields: dict[str, Any], reason: str) -> None:
    status = status_of(at(10, seen(a_request(status=under_way()), a_job(), a_pod(**fields))))
    assert (status.phase, status.reason) == (Phase.PENDING, reason)
    assert all(text in (status.message or "") for name, text in fields.items() if name != "waiting_reason")


def test_a_missing_secret_fails_the_request_after_a_short_grace_and_names_it() -> None:
    pod = a_pod(waiting_reason="CreateContainerConfigError", waiting_message='secret "rae-secrets" not found')
    request = a_request(status=under_way())
    assert not at(10, seen(request, a_job(), pod)).deletions
    stopping = at(15, seen(request, a_job(), pod))
    assert [type(d) for d in stopping.deletions] == [DeleteJob]
    gone = a_request(status=status_of(stopping))
    status = status_of(at(16, seen(gone)))
    assert (status.phase, status.reason) == (Phase.FAILED, "ConfigMissing")
    assert '"rae-secrets" not found' in (status.message or "")


def test_a_pod_that_does_not_start_in_time_fails_the_request_with_its_diagnosis() -> None:
    request = a_request(status=under_way(), preRunningDeadlineSeconds=60)
    pod = a_pod(waiting_reason="ErrImagePull", waiting_message="no such image")
    assert not at(59, seen(request, a_job(), pod)).deletions
    stopping = status_of(at(60, seen(request, a_job(), pod)))
    status = status_of(at(61, seen(a_request(status=stopping))))
    assert status.reason == "PreRunningDeadlineExceeded"
    assert "60 s" in (status.message or "") and "no such image" in (status.message or "")


def test_a_job_that_kueue_holds_is_queued_and_has_no_time_to_start_in() -> None:
    request = a_request(status=under_way(), queueName="team", preRunningDeadlineSeconds=60)
    decision = at(3600, seen(request, a_job(suspended=True, started=None)))
    assert not decision.deletions
    assert (status_of(decision).phase, status_of(decision).reason) == (Phase.PENDING, "Queued")
    assert not at(3601, seen(request, a_job(started=None))).deletions
    assert at(3661, seen(request, a_job(started=later(3600)))).deletions


def test_a_request_ends_when_its_total_time_is_over() -> None:
    request = a_request(status=under_way(deadlineTime="2026-11-24T12:10:00Z"), deadlineSeconds=600)
    assert not at(599, seen(request, a_job(), a_running_pod())).deletions
    stopping = at(600, seen(request, a_job(), a_running_pod()))
    assert stopping.deletions
    waiting = at(601, seen(a_request(status=status_of(stopping)), a_running_pod()))
    assert waiting.status is None and waiting.requeue_after == 5
    ended = status_of(at(660, seen(a_request(status=status_of(stopping)), an_ended_pod(code=75))))
    assert (ended.phase, ended.reason) == (Phase.FAILED, "DeadlineExceeded")


# --- the end of an attempt


def test_a_complete_job_completes_the_request_with_what_the_pod_said() -> None:
    text = hint(message="12 triples", counters={"triples": 12}, runs=["r1"], result={"first": "a"})
    request = a_request(status=under_way())
    status = status_of(at(31, seen(request, a_complete_job(), an_ended_pod(message=text))))
    assert (status.phase, status.reason, status.message) == (Phase.COMPLETE, "Done", "12 triples")
    assert (status.completion_time, status.duration, status.duration_seconds) == ("2026-11-24T12:00:30Z", "28s", 28)
    assert status.result is not None and status.result.counters == {"triples": 12}
    assert status.result_ref is not None and (status.result_ref.slot, status.result_ref.runs) == (UID, ["r1"])
    assert conditions(status) == {"Accepted": "True", "Started": "True", "Complete": "True", "Finished": "True"}


def test_a_complete_job_whose_pod_is_gone_completes_the_request_and_names_the_run() -> None:
    status = status_of(at(31, seen(a_request(status=under_way(), idempotencyKey="week-47"), a_complete_job())))
    assert (status.phase, status.reason) == (Phase.COMPLETE, "Done")
    assert "resultRef" in (status.message or "")
    assert status.result is None
    assert status.result_ref is not None and status.result_ref.slot == "week-47"


@pytest.mark.parametrize(("code", "reason"), [(64, "Usage"), (65, "BadData"), (78, "ConfigInvalid"), (127, "CommandNotFound")])
def test_a_permanent_exit_code_fails_the_request_at_once(code: int, reason: str) -> None:
    job = a_failed_job(reason="PodFailurePolicy")
    status = status_of(at(31, seen(a_request(status=under_way()), job, an_ended_pod(code=code))))
    assert (status.phase, status.reason, status.failures) == (Phase.FAILED, reason, 1)
    assert status.last_failure is not None and status.last_failure.exit_code == code


def test_the_tasks_own_reason_beats_that_of_the_exit_code() -> None:
    pod = an_ended_pod(code=78, message=hint("SchemaTooNew", "the database is newer than this image"))
    status = status_of(at(31, seen(a_request(status=under_way()), a_failed_job(reason="PodFailurePolicy"), pod)))
    assert (status.reason, status.message) == ("SchemaTooNew", "the database is newer than this image")


def test_a_permanent_failure_is_known_from_the_job_when_the_pod_is_gone() -> None:
    text = "Container task for pod rae/weekly-1-x failed with exit code 65 matching FailJob rule at index 1"
    status = status_of(at(31, seen(a_request(status=under_way()), a_failed_job(reason="PodFailurePolicy", message=text))))
    assert (status.phase, status.reason) == (Phase.FAILED, "BadData")


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (an_ended_pod(code=75, message=hint("RunLocked", "held")), "RunLocked"),
        (an_ended_pod(code=75), "Transient"),
        (an_ended_pod(code=1), "Unexpected"),
        (an_ended_pod(code=137, reason="OOMKilled"), "OOMKilled"),
        (a_pod(phase="Failed", reason="Evicted", message="low on memory"), "Evicted"),
    ],
)
def test_other_failures_wait_and_try_again(pod: Any, reason: str) -> None:
    decision = at(31, seen(a_request(status=under_way(), retry={"jitter": 0}), a_failed_job(), pod))
    assert decision.create is None and decision.requeue_after == pytest.approx(59)
    status = status_of(decision)
    assert (status.phase, status.reason, status.failures, status.next_attempt_time) == (
        Phase.PENDING,
        "Retrying",
        1,
        "2026-11-24T12:01:30Z",
    )
    assert status.last_failure is not None and status.last_failure.reason == reason


def test_the_next_attempt_starts_when_its_time_has_come() -> None:
    waiting = status_of(at(31, seen(a_request(status=under_way(), retry={"jitter": 0}), a_failed_job(), an_ended_pod(code=75))))
    decision = at(90, seen(a_request(status=waiting, retry={"jitter": 0}), a_failed_job(), an_ended_pod(code=75)))
    assert decision.create is not None and decision.create.attempt == 2
    assert status_of(decision).next_attempt_time is None


def test_the_last_allowed_failure_fails_the_request() -> None:
    request = a_request(status=under_way(3, failures=2))
    status = status_of(at(31, seen(request, a_failed_job(3), an_ended_pod(3, code=75, message=hint("RunLocked", "held")))))
    assert (status.phase, status.reason, status.failures) == (Phase.FAILED, "RunLocked", 3)
    assert "3 of 3" in (status.message or "")


def test_an_attempt_whose_time_was_over_goes_on_at_once_and_does_not_count() -> None:
    pod = an_ended_pod(7, code=75, message=hint("TimeSliced", "half is done"))
    decision = at(31, seen(a_request(status=under_way(7, failures=2)), a_failed_job(7), pod))
    assert decision.create is not None and decision.create.attempt == 8
    assert status_of(decision).failures == 2


SPENT = hint("BudgetExhausted", "the daily budget has no room", retryAfter="2026-11-25T00:00:00Z")


def test_a_request_whose_budget_is_spent_waits_for_the_period_to_turn_and_is_not_charged_for_it() -> None:
    request, ended = a_request(status=under_way(2, failures=2)), an_ended_pod(2, code=75, message=SPENT)
    decision = at(31, seen(request, a_failed_job(2), ended))
    status = status_of(decision)
    assert decision.create is None
    assert (status.phase, status.reason, status.failures, status.settled_attempts) == (Phase.PENDING, "BudgetExhausted", 2, 2)
    due = parse_time(status.next_attempt_time)
    assert due is not None and MIDNIGHT <= due <= MIDNIGHT + timedelta(minutes=1)
    assert "the daily budget has no room" in (status.message or "")
    assert decision.requeue_after == pytest.approx((due - later(31)).total_seconds())
    early = decide(seen(a_request(status=status), a_failed_job(2), ended), due - timedelta(seconds=1), SETTINGS)
    assert early.create is None and early.status is None
    again = decide(seen(a_request(status=status), a_failed_job(2), ended), due, SETTINGS)
    assert again.create is not None and again.create.attempt == 3


def test_a_request_waits_for_its_budget_no_longer_than_its_own_deadline() -> None:
    request = a_request(status=under_way(deadlineTime=format_time(later(3600))), deadlineSeconds=3600)
    waiting = status_of(at(31, seen(request, a_failed_job(), an_ended_pod(code=75, message=SPENT))))
    assert waiting.phase is Phase.PENDING
    over = at(3600, seen(a_request(status=waiting, deadlineSeconds=3600), a_failed_job()))
    status = status_of(over)
    assert (status.phase, status.reason) == (Phase.FAILED, "DeadlineExceeded")
    assert "budget" in (status.message or "")


@pytest.mark.parametrize(
    ("told", "soonest", "latest"),
    [
        (None, MIDNIGHT, MIDNIGHT),
        ("nonsense", MIDNIGHT, MIDNIGHT),
        ("2001-01-01T00:00:00Z", later(91), later(91)),
        ("9999-12-31T23:59:59-12:00", MIDNIGHT, MIDNIGHT),
        ("2199-01-01T00:00:00Z", later(31) + timedelta(days=32), later(31) + timedelta(days=32)),
        ("2026-12-01T00:00:00Z", datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_what_a_pod_says_of_the_next_period_is_held_within_bounds(told: Any, soonest: datetime, latest: datetime) -> None:
    spent = hint("BudgetExhausted", "spent", **({} if told is None else {"retryAfter": told}))
    request = a_request(status=under_way(), deadlineSeconds=10_000_000)
    status = status_of(at(31, seen(request, a_failed_job(), an_ended_pod(code=75, message=spent))))
    due = parse_time(status.next_attempt_time)
    assert due is not None and soonest <= due <= latest + timedelta(minutes=1)


def test_a_spent_budget_is_believed_of_a_pod_that_left_with_75_alone() -> None:
    pod = an_ended_pod(code=1, message=SPENT)
    assert status_of(at(31, seen(a_request(status=under_way()), a_failed_job(), pod))).failures == 1


def test_a_suspended_or_cancelled_request_does_not_wait_for_its_budget() -> None:
    ended = an_ended_pod(code=75, message=SPENT)
    held = status_of(at(31, seen(a_request(status=under_way(), suspend=True), a_failed_job(), ended)))
    assert (held.phase, held.next_attempt_time) == (Phase.SUSPENDED, None)
    gone = status_of(at(31, seen(a_request(status=under_way(), cancel=True), a_failed_job(), ended)))
    assert (gone.phase, gone.reason) == (Phase.FAILED, "Cancelled")


def test_the_next_attempt_keeps_to_what_an_endpoint_asked_for() -> None:
    limited = hint("LlmRateLimited", "asks to wait 1200 s", retryAfter=format_time(later(1231)))
    status = status_of(at(31, seen(a_request(status=under_way()), a_failed_job(), an_ended_pod(code=75, message=limited))))
    assert (status.failures, status.next_attempt_time) == (1, format_time(later(1231)))


def test_only_a_pod_that_left_with_75_can_have_been_sliced() -> None:
    pod = an_ended_pod(code=1, message=hint("TimeSliced", "half is done"))
    assert status_of(at(31, seen(a_request(status=under_way()), a_failed_job(), pod))).failures == 1


def test_of_several_pods_the_one_that_was_not_evicted_tells_the_end() -> None:
    evicted = an_ended_pod(code=137, uid="first", name="first", disrupted=True)
    last = an_ended_pod(code=65, message=hint("BadData", "no such tenant"), created=later(5))
    status = status_of(at(31, seen(a_request(status=under_way()), a_failed_job(reason="PodFailurePolicy"), evicted, last)))
    assert status.message == "no such tenant"


def test_an_attempt_that_outlived_its_jobs_deadline_is_tried_again() -> None:
    status = status_of(at(31, seen(a_request(status=under_way()), a_failed_job(reason="DeadlineExceeded"))))
    assert status.last_failure is not None and status.last_failure.reason == "DeadlineExceeded"
    assert status.phase is Phase.PENDING


def test_a_job_that_somebody_deleted_counts_as_a_failed_attempt() -> None:
    status = status_of(at(5, seen(a_request(status=under_way()))))
    assert (status.failures, status.settled_attempts) == (1, 1)
    assert status.last_failure is not None and status.last_failure.reason == "JobDeleted"


def test_jobs_of_long_past_slices_are_deleted() -> None:
    old = [a_failed_job(n) for n in range(1, 6)]
    pod = an_ended_pod(5, code=75, message=hint("TimeSliced"))
    decision = at(31, seen(a_request(status=under_way(5)), *old, pod))
    assert [d.name for d in decision.deletions if isinstance(d, DeleteJob)] == [old[0].name, old[1].name]


# --- suspend and cancel


def test_suspend_deletes_the_job_and_resume_starts_an_attempt_that_does_not_count() -> None:
    running = a_request(status=under_way(), suspend=True)
    stopping = at(5, seen(running, a_job(), a_running_pod()))
    assert [type(d) for d in stopping.deletions] == [DeleteJob]
    held = at(10, seen(a_request(status=status_of(stopping), suspend=True)))
    assert (status_of(held).phase, conditions(status_of(held))["Suspended"]) == (Phase.SUSPENDED, "True")
    resumed = at(500, seen(a_request(status=status_of(held))))
    assert resumed.create is not None and resumed.create.attempt == 2
    status = status_of(resumed)
    assert (status.failures, conditions(status)["Suspended"]) == (0, "False")
    assert status.deadline_time == "2026-11-25T12:08:20Z"


def test_a_request_that_is_born_suspended_gets_no_job() -> None:
    decision = at(0, seen(a_request(suspend=True)))
    assert decision.create is None and status_of(decision).phase is Phase.SUSPENDED


def test_suspend_that_is_taken_back_while_the_job_goes_still_gives_a_new_attempt() -> None:
    stopping = status_of(at(5, seen(a_request(status=under_way(), suspend=True), a_job(), a_running_pod())))
    decision = at(10, seen(a_request(status=stopping)))
    assert decision.create is not None and decision.create.attempt == 2
    assert status_of(decision).failures == 0


def test_a_cancelled_request_fails_only_when_no_pod_is_left() -> None:
    request = a_request(status=under_way(), cancel=True)
    stopping = at(5, seen(request, a_job(), a_running_pod()))
    assert stopping.deletions and status_of(stopping).phase is not Phase.FAILED
    cancelling = a_request(status=status_of(stopping), cancel=True)
    assert at(6, seen(cancelling, a_job(deleting=True), a_running_pod(deleting=True))).status is None
    assert at(7, seen(cancelling, a_running_pod(deleting=True))).status is None
    status = status_of(at(8, seen(cancelling)))
    assert (status.phase, status.reason, conditions(status)["Finished"]) == (Phase.FAILED, "Cancelled", "True")


def test_a_job_that_completed_beats_a_cancel() -> None:
    request = a_request(status=under_way(), cancel=True)
    assert status_of(at(31, seen(request, a_complete_job(), an_ended_pod()))).phase is Phase.COMPLETE


def test_a_job_that_failed_for_good_beats_a_cancel() -> None:
    request = a_request(status=under_way(), cancel=True)
    status = status_of(at(31, seen(request, a_failed_job(reason="PodFailurePolicy"), an_ended_pod(code=65))))
    assert status.reason == "BadData"


def test_a_cancelled_request_is_not_tried_again() -> None:
    request = a_request(status=under_way(), cancel=True)
    decision = at(31, seen(request, a_failed_job(), an_ended_pod(code=75)))
    assert decision.create is None and status_of(decision).reason == "Cancelled"


def test_a_cancel_before_the_first_job_ends_the_request_at_once() -> None:
    decision = at(0, seen(a_request(cancel=True)))
    assert decision.create is None and status_of(decision).reason == "Cancelled"


# --- after the end


def ended(**spec: Any) -> Any:
    status = status_of(at(31, seen(a_request(status=under_way()), a_complete_job(), an_ended_pod())))
    return a_request(status=status, **spec)


def test_a_finished_request_is_not_written_to_again() -> None:
    assert not at(40, seen(ended(), a_complete_job(), an_ended_pod())).writes
    assert not at(40, seen(ended())).writes


def test_either_mark_of_the_end_is_enough() -> None:
    request = ended()
    only_conditions = replace(request, status=request.status.model_copy(update={"phase": None}))
    only_phase = replace(request, status=request.status.model_copy(update={"conditions": None}))
    for view in (only_conditions, only_phase):
        assert not at(40, seen(view)).writes


def test_the_jobs_of_a_finished_request_go_after_their_time() -> None:
    assert at(31 + 3600, seen(ended(), a_complete_job())).deletions


def test_a_finished_request_goes_after_its_own_time() -> None:
    assert not at(30 + 59, seen(ended(ttlSecondsAfterFinished=60))).deletions
    assert at(30 + 60, seen(ended(ttlSecondsAfterFinished=60))).deletions == (DeleteRequest(),)


def test_a_job_that_still_runs_after_the_end_is_deleted() -> None:
    decision = at(40, seen(ended(), a_job(2, state=JobState.ACTIVE)))
    assert [d.name for d in decision.deletions if isinstance(d, DeleteJob)] == [f"weekly-{UID[:8]}-2"]
    assert decision.status is None


def test_a_request_never_gets_more_jobs_than_names_fit() -> None:
    status = RequestStatus(attempts=9999, settled_attempts=9999, phase=Phase.PENDING)
    assert status_of(decide(seen(a_request(status=status)), NOW, SETTINGS)).reason == "TooManyAttempts"
