"""Progress lines, retry delays, durations and events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rae_operator.api.spec import RetryPolicy
from rae_operator.api.status import LastFailure, Phase, RequestStatus
from rae_operator.attempt import retry_delay
from rae_operator.events import transitions
from rae_operator.progress import progress_in
from rae_operator.times import format_duration, parse_time


@pytest.mark.parametrize(
    ("log", "progress"),
    [
        ('{"event": "progress", "done": 3, "total": 10}\n{"event": "other"}', "3/10"),
        ('{"event": "progress", "done": 3, "total": 10}\n{"event": "progress", "done": 5, "total": 10}', "5/10"),
        ('{"event": "progress", "done": 3, "total": null}', "3"),
        ('cut off "progress", "done": 9}', None),
        ('{"event": "progress", "done": "3"}', None),
        ('{"event": "progress", "done": -1}', None),
        ('["progress"]', None),
        ("", None),
    ],
)
def test_the_last_progress_in_a_log_is_read(log: str, progress: str | None) -> None:
    assert progress_in(log) == progress


def test_delays_double_from_sixty_seconds() -> None:
    policy = RetryPolicy(jitter=0)
    assert [retry_delay(policy, n, "uid") for n in (1, 2, 3)] == [60, 120, 240]


@given(st.integers(1, 20), st.text(max_size=40))
def test_a_delay_stays_within_its_bounds_and_is_the_same_after_a_restart(failures: int, seed: str) -> None:
    policy = RetryPolicy()
    delay = retry_delay(policy, failures, seed)
    assert 60 <= delay <= 3600 * 1.1
    assert delay == retry_delay(policy, failures, seed)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (4, "4s"), (72, "1m12s"), (3600, "1h"), (7500, "2h5m"), (273_600, "3d4h"), (-5, "0s")]
)
def test_a_duration_reads_well(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_an_unreadable_time_is_none() -> None:
    assert parse_time("yesterday") is None and parse_time(None) is None


def test_an_event_is_written_for_each_transition_and_for_nothing_else() -> None:
    before = RequestStatus(phase=Phase.RUNNING, attempts=1, reason="PodRunning")
    assert transitions(before, before.model_copy(update={"progress": "5/10"})) == []
    failure = LastFailure(attempt=1, reason="OOMKilled", message="too large", time="2026-11-24T12:00:00Z")
    after = before.model_copy(update={"last_failure": failure, "attempts": 2, "job_name": "j-2", "phase": Phase.PENDING})
    assert [(t.reason, t.warning) for t in transitions(before, after)] == [("AttemptFailed", True), ("JobCreated", False)]
    end = after.model_copy(update={"phase": Phase.FAILED, "reason": "BadData", "message": "no tenant"})
    assert [(t.reason, t.message, t.warning) for t in transitions(after, end)] == [("Failed", "BadData: no tenant", True)]
