"""What the scheduling tasks decide, without a database or Kubernetes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from rae_jobctl.db.pauses import Pausable, Pause, paused_by
from rae_jobctl.db.tenants import ALL_TENANTS
from rae_jobctl.tasks.scheduling.backlog import Backlog
from rae_jobctl.tasks.scheduling.board import Known, Wanted, group_of
from rae_jobctl.tasks.scheduling.queue import Plan, QueuePolicy, Seen, plan, shards_for
from rae_jobctl.tasks.scheduling.reflections import Activity, ReflectionPolicy, why_not

ONE, TWO = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLICY = QueuePolicy()


def known(wanted: Wanted, *, finished: bool = False, suspended: bool = False) -> Known:
    return Known(wanted.name, finished, wanted.labels, suspended)


def decide(*backlogs: Backlog, policy: QueuePolicy = POLICY, **seen: Any) -> Plan:
    return plan(Seen(**{"backlogs": backlogs, "pauses": (), "known": (), "refusals": 0, "round": 1, **seen}), policy)


def pause(tenant: UUID, project: str = "") -> Pause:
    return Pause(Pausable.QUEUE, tenant, project, None, NOW)


@pytest.mark.parametrize(("waiting", "shards"), [(0, 0), (1, 1), (500, 1), (2500, 2), (10_000, 8), (99_999, 8)])
def test_shards_follow_the_backlog(waiting: int, shards: int) -> None:
    assert shards_for(waiting, 8) == shards


def test_a_repeated_run_asks_for_nothing_while_requests_live() -> None:
    backlogs = [Backlog(ONE, "a", 10_000), Backlog(TWO, "b", 3)]
    first = decide(*backlogs).wanted
    assert len(first) == 9
    again = decide(*backlogs, known=[known(one) for one in first], round=2)
    assert again.wanted == ()
    assert [entry["reason"] for entry in again.skipped] == ["RequestLive", "RequestLive"]


def test_a_finished_request_holds_up_nothing_and_the_next_has_the_name_of_its_round() -> None:
    (first,) = decide(Backlog(ONE, "a", 3), round=7).wanted
    (second,) = decide(Backlog(ONE, "a", 3), known=[known(first, finished=True)], round=8).wanted
    assert (first.name.endswith("-0-7"), second.name.endswith("-0-8")) == (True, True)


def test_a_retry_of_a_round_asks_by_the_same_names() -> None:
    assert decide(Backlog(ONE, "a", 3)) == decide(Backlog(ONE, "a", 3))


def test_what_an_earlier_attempt_of_the_round_made_counts_against_the_cap() -> None:
    policy = QueuePolicy(max_requests=2)
    backlogs = [Backlog(ONE, name, 3) for name in "abcd"]
    first = decide(*backlogs, policy=policy)
    assert (len(first.wanted), first.postponed) == (2, 2)
    assert decide(*backlogs, policy=policy, known=[known(one) for one in first.wanted]).wanted == ()


def test_a_backlog_that_shrank_is_left_to_the_requests_at_work() -> None:
    made = decide(Backlog(ONE, "a", 10_000)).wanted
    at_work = [known(one, finished=int(one.labels["tasks.rae.dev/shard"]) < 5) for one in made]
    assert decide(Backlog(ONE, "a", 3700), known=at_work, round=2).wanted == ()


def test_a_suspended_request_holds_its_share_and_no_other() -> None:
    made = decide(Backlog(ONE, "a", 10_000)).wanted
    now = decide(Backlog(ONE, "a", 10_000), known=[known(made[3], suspended=True)], round=2).wanted
    assert [one.spec["shard"] for one in now] == [0, 1, 2, 4, 5, 6, 7]


def test_a_small_project_comes_before_the_second_share_of_a_large_one() -> None:
    wanted = decide(Backlog(ONE, "large", 10_000), Backlog(TWO, "small", 1)).wanted
    assert [one.spec["project"] for one in wanted[:2]] == ["large", "small"]


def test_under_the_cap_every_project_gets_its_turn() -> None:
    policy = QueuePolicy(max_requests=2)
    backlogs = [Backlog(ONE, name, 3) for name in "abcde"]
    asked: list[str] = []
    past: list[Known] = []
    for number in range(1, 11):
        now = decide(*backlogs, policy=policy, known=past, round=number)
        asked += [one.spec["project"] for one in now.wanted]
        assert sorted(entry["reason"] for entry in now.skipped) == ["TooManyRequests"] * 3
        past += [known(one, finished=True) for one in now.wanted]
    assert {name: asked.count(name) >= 3 for name in "abcde"} == dict.fromkeys("abcde", True)


@pytest.mark.parametrize(("refusals", "shards", "requests"), [(0, 8, 20), (1, 4, 10), (10, 2, 5), (100, 1, 2), (10**6, 1, 1)])
def test_refusals_of_the_model_leave_fewer_requests(refusals: int, shards: int, requests: int) -> None:
    backlogs = [Backlog(ONE, f"p{n:02}", 10_000) for n in range(20)]
    wanted = decide(*backlogs, refusals=refusals).wanted
    assert len(wanted) == requests
    assert {one.spec["shards"] for one in wanted} == {shards}


def test_a_pause_skips_what_it_covers_and_says_so() -> None:
    backlogs = [Backlog(ONE, "a", 3), Backlog(ONE, "b", 3), Backlog(TWO, "a", 3)]
    skipped = {
        "project": decide(*backlogs, pauses=[pause(ONE, "a")]),
        "tenant": decide(*backlogs, pauses=[pause(ONE)]),
        "all": decide(*backlogs, pauses=[pause(ALL_TENANTS)]),
    }
    assert {name: len(one.wanted) for name, one in skipped.items()} == {"project": 2, "tenant": 1, "all": 0}
    assert {entry["reason"] for entry in skipped["all"].skipped} == {"Paused"}
    assert paused_by([pause(ONE, "a")], ONE, "b") is None


def test_what_is_leased_or_dead_gets_no_request_and_is_named() -> None:
    now = decide(Backlog(ONE, "a", 0, held=4), Backlog(ONE, "b", 0))
    assert now.wanted == ()
    assert [(entry["project"], entry["reason"], entry["held"]) for entry in now.skipped] == [("a", "Held", 4)]


def test_requests_name_no_memory_and_any_project_gives_a_valid_name() -> None:
    (wanted,) = decide(Backlog(ONE, "Größe / \U0001f600 " * 20, 3)).wanted
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", wanted.name)
    assert all(re.fullmatch(r"[a-z0-9]{1,63}", value) for value in wanted.labels.values())
    assert "memoryIds" not in wanted.spec


def test_labels_that_mean_nothing_are_left_alone() -> None:
    odd = {"tasks.rae.dev/group": group_of(ONE, "a"), "tasks.rae.dev/shard": "?", "tasks.rae.dev/round": "x"}
    assert len(decide(Backlog(ONE, "a", 3), known=[Known("x", False, {}), Known("y", False, odd)]).wanted) == 1


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
