"""What the scheduling tasks decide, without a database or Kubernetes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from rae_jobctl.tasks.scheduling.board import Known, Wanted, group_of
from rae_jobctl.tasks.scheduling.queue import Backlog, QueuePolicy, plan, shards_for
from rae_jobctl.tasks.scheduling.reflections import Activity, ReflectionPolicy, why_not

ONE, TWO = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLICY = QueuePolicy()


def known(wanted: Wanted, *, finished: bool = False) -> Known:
    return Known(wanted.name, finished, wanted.labels)


@pytest.mark.parametrize(("waiting", "shards"), [(0, 0), (1, 1), (500, 1), (2500, 2), (10_000, 8), (99_999, 8)])
def test_shards_follow_the_backlog(waiting: int, shards: int) -> None:
    assert shards_for(waiting, 8) == shards


def test_a_repeated_run_asks_for_nothing_while_requests_live() -> None:
    backlogs = [Backlog(ONE, "a", 10_000), Backlog(TWO, "b", 3)]
    first = plan(backlogs, [], POLICY)
    assert len(first) == 9
    assert plan(backlogs, [known(one) for one in first], POLICY) == []


def test_a_finished_request_holds_up_nothing_and_the_next_has_a_name_of_its_own() -> None:
    backlogs = [Backlog(ONE, "a", 3)]
    (first,) = plan(backlogs, [], POLICY)
    (second,) = plan(backlogs, [known(first, finished=True)], POLICY)
    assert second.name != first.name
    (third,) = plan(backlogs, [known(first, finished=True), known(second, finished=True)], POLICY)
    assert third.name not in (first.name, second.name)


def test_two_runs_at_once_ask_by_the_same_name() -> None:
    backlogs = [Backlog(ONE, "a", 3)]
    assert plan(backlogs, [], POLICY) == plan(backlogs, [], POLICY)


def test_a_small_project_comes_before_the_second_share_of_a_large_one() -> None:
    wanted = plan([Backlog(ONE, "large", 10_000), Backlog(TWO, "small", 1)], [], POLICY)
    assert [one.spec["project"] for one in wanted[:2]] == ["large", "small"]


def test_requests_name_no_memory_and_any_project_gives_a_valid_name() -> None:
    (wanted,) = plan([Backlog(ONE, "Größe / \U0001f600 " * 20, 3)], [], POLICY)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", wanted.name)
    assert all(re.fullmatch(r"[a-z0-9]{1,63}", value) for value in wanted.labels.values())
    assert "memoryIds" not in wanted.spec


def test_labels_that_mean_nothing_are_left_alone() -> None:
    odd = [Known("x", False, {}), Known("y", False, {"tasks.rae.dev/group": "g", "tasks.rae.dev/shard": "?"})]
    assert len(plan([Backlog(ONE, "a", 3)], odd, POLICY)) == 1


@pytest.mark.parametrize(
    ("memories", "reflected", "reason"),
    [
        (5, None, None),
        (2, None, "TooFewMemories"),
        (5, timedelta(minutes=1), "NothingNew"),
        (5, timedelta(minutes=20), "CoolDown"),
        (5, timedelta(hours=3), None),
    ],
)
def test_a_project_is_reflected_upon_when_there_is_reason_to(
    memories: int, reflected: timedelta | None, reason: str | None
) -> None:
    activity = Activity(ONE, "a", memories, NOW - timedelta(minutes=5), NOW - reflected if reflected else None)
    assert why_not(activity, ReflectionPolicy(), NOW, set()) == reason


def test_a_project_whose_request_lives_gets_no_other() -> None:
    activity = Activity(ONE, "a", 5, NOW, None)
    assert why_not(activity, ReflectionPolicy(), NOW, {group_of(ONE, "a")}) == "RequestLive"
