"""Themes and the offline reflection, on memories with planted themes."""

from __future__ import annotations

import random
from itertools import pairwise
from uuid import UUID

import pytest

from rae_jobctl.llm.local_reflection import reflect
from rae_jobctl.llm.themes import cluster, cosine, find_themes, stem, vectors
from rae_jobctl.llm.types import Memory, ReflectionKind

PLANTED = {
    "backup": [
        "The nightly backup of the orders database failed because the disk was full.",
        "Restoring the backup took four hours; the disk on the backup host is too slow.",
        "We should move the database backup to object storage.",
        "Backup retention was cut to 14 days to save disk space.",
        "The backup job of the orders database now sends an alert when it fails.",
    ],
    "attention": [
        "The transformer with sparse attention trained 30 percent faster.",
        "Attention heads in the upper layers of the transformer are redundant.",
        "Multi-head attention variants need to be benchmarked on long sequences.",
        "The paper on linear attention shows how transformer memory shrinks.",
        "Pruned attention heads did not hurt the transformer's accuracy.",
    ],
    "login": [
        "Users report that login fails after the password reset.",
        "The login page redirects to an empty screen on Safari.",
        "Password reset mails arrive late, so users cannot login.",
        "A login regression was traced to the session cookie.",
        "The session cookie of the login page expires too early for users.",
    ],
    "hiring": [
        "Dana interviewed two candidates for the platform team.",
        "The platform team has an open position for a senior engineer.",
        "Candidates for the senior engineer position need Kubernetes experience.",
        "Dana plans to make an offer to one of the candidates this week.",
        "The recruiter found three more candidates for the engineer position.",
    ],
}
NOISE = ["Lunch was late.", "The coffee machine is new.", "It rained on Tuesday.", "Someone left a bicycle in the lobby."]


def planted() -> tuple[list[Memory], dict[UUID, str]]:
    memories: list[Memory] = []
    label: dict[UUID, str] = {}
    for name, texts in [*PLANTED.items(), ("noise", NOISE)]:
        for text in texts:
            memory = Memory(UUID(int=len(memories) + 1), text)
            memories.append(memory)
            label[memory.id] = name
    random.Random(7).shuffle(memories)
    return memories, label


def majority(ids: tuple[UUID, ...], label: dict[UUID, str]) -> tuple[str, float]:
    names = [label[i] for i in ids]
    best = max(set(names), key=names.count)
    return best, names.count(best) / len(names)


def test_each_planted_theme_is_covered_and_its_evidence_lies_within_it() -> None:
    memories, label = planted()
    draft = reflect(find_themes(memories, 3), ReflectionKind.INSIGHT)
    found = [majority(insight.evidence, label) for insight in draft.insights]
    assert {name for name, _ in found} == set(PLANTED)
    within = sum(label[i] == majority(insight.evidence, label)[0] for insight in draft.insights for i in insight.evidence)
    total = sum(len(insight.evidence) for insight in draft.insights)
    assert within / total >= 0.9


def test_it_covers_more_themes_than_taking_the_newest_does() -> None:
    memories, label = planted()
    draft = reflect(find_themes(memories, 3), ReflectionKind.INSIGHT)
    covered = {majority(insight.evidence, label)[0] for insight in draft.insights}
    newest = {label[memory.id] for memory in memories[: len(draft.insights)]} - {"noise"}
    assert len(covered) > len(newest)


def test_the_order_of_the_memories_does_not_matter() -> None:
    memories, _ = planted()
    first = find_themes(memories, 3)
    assert find_themes(memories[::-1], 3) == first


def test_every_sentence_of_an_insight_and_an_action_stands_in_a_memory() -> None:
    memories, _ = planted()
    draft = reflect(find_themes(memories, 3), ReflectionKind.PATTERN)
    texts = " ".join(memory.content for memory in memories)
    assert all(insight.text.partition(": ")[2].rstrip("…") in texts for insight in draft.insights)
    assert all(action.partition(": ")[2] in texts for action in draft.actions)


def test_actions_come_from_what_memories_intend_and_from_what_fails() -> None:
    memories, _ = planted()
    draft = reflect(find_themes(memories, 3), ReflectionKind.INSIGHT)
    assert any("object storage" in action for action in draft.actions)
    assert len(draft.actions) <= 5


def test_a_lesson_looks_at_failures_first() -> None:
    memories, label = planted()
    draft = reflect(find_themes(memories, 3), ReflectionKind.META)
    order = [majority(insight.evidence, label)[0] for insight in draft.insights]
    assert set(order[:2]) == {"backup", "login"}


def test_courtesies_tie_nothing_together() -> None:
    texts = [
        f"{word} was released. The Project thanks Tom Lane for reporting this problem." for word in ("Alpha", "Kiwi", "Sofa")
    ]
    memories = [Memory(UUID(int=n + 1), text) for n, text in enumerate(texts)]
    assert all("thanks" not in theme.terms for theme in find_themes(memories, 1))


def test_no_memories_have_no_themes_and_no_reflection() -> None:
    assert find_themes([], 3) == []
    assert reflect([], ReflectionKind.INSIGHT).insights == ()


@pytest.mark.parametrize("texts", [[""], ["", ""], ["!!!", "..."], ["same words here"] * 4])
def test_degenerate_texts_do_no_harm(texts: list[str]) -> None:
    memories = [Memory(UUID(int=n + 1), text) for n, text in enumerate(texts)]
    reflect(find_themes(memories, 1), ReflectionKind.INSIGHT)


def test_clusters_are_those_of_the_plain_definition_of_average_linkage() -> None:
    found = vectors([memory.content for memory in planted()[0]])
    groups = [[i] for i in range(len(found))]
    while len(groups) > 1:
        pairs = [(a, b) for n, a in enumerate(groups) for b in groups[n + 1 :]]
        average = {(id(a), id(b)): sum(cosine(found[i], found[j]) for i in a for j in b) / (len(a) * len(b)) for a, b in pairs}
        a, b = max(pairs, key=lambda pair: average[id(pair[0]), id(pair[1])])
        if average[id(a), id(b)] < 0.07:
            break
        groups = [group for group in groups if group not in (a, b)] + [sorted(a + b)]
    assert cluster(found, 0.07) == sorted(groups)


def test_stems_join_the_forms_of_a_word() -> None:
    families = [("deploy", "deploys", "deployed", "deploying"), ("cache", "cached", "caches"), ("query", "queries")]
    for family in families:
        assert all(stem(a) == stem(b) for a, b in pairwise(family)), family
