"""Which names are one entity, by spelling: what must meet and, above all, what must not."""

from __future__ import annotations

import string
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rae_jobctl.ml_server.embeddings import DIMENSION, embed
from rae_jobctl.ml_server.entities import group_names, words_of

THRESHOLD = 0.85

SAME = [
    ("Acme Inc.", "ACME"),
    ("Acme GmbH & Co. KG", "Acme"),
    ("The Beatles", "beatles"),
    ("I.B.M.", "IBM"),
    ("Node.js", "nodejs"),
    ("node js", "Node.js"),
    ("José García", "Jose Garcia"),
    ("Smith, Alice", "Alice Smith"),
    ("Kubernets", "Kubernetes"),
    ("Micorsoft", "Microsoft"),
    ("Postgres", "PostgreSQL"),
    ("session token", "session tokens"),
    ("AT&T", "at and t"),
    ("Straße", "strasse"),
    ("data-base", "data_base"),
]
DIFFERENT = [
    ("Python 2", "Python 3"),
    ("node 1", "node 2"),
    ("Python 3.11", "Python 3.12"),
    ("cat", "car"),
    ("Java", "JavaScript"),
    ("C", "C++"),
    ("C#", "C++"),
    ("Martin", "Marvin"),
    ("Maria", "Mariah"),
    ("Alice", "Alice Smith"),
    ("session cache", "session cookie"),
    ("Kubernetes", "Kubernetes operator"),
    ("staging", "stating"),
    ("Redis", "Redisson"),
    ("???", "!!!"),
    ("", "Acme"),
    ("東京", "京都"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_two_spellings_of_one_name_meet(a: str, b: str) -> None:
    groups, entities = group_names([a, "Globex", b], THRESHOLD)
    assert [group.members for group in groups] == [(0, 2)]
    assert THRESHOLD <= groups[0].similarity <= 1
    assert entities == 2


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_what_only_looks_alike_stays_apart(a: str, b: str) -> None:
    assert group_names([a, b], THRESHOLD) == ([], 2)


def test_a_chain_of_small_changes_does_not_pull_its_ends_together() -> None:
    chain = ["abcdefgh", "abcdefgx", "abcdefyx", "abcdexyx", "abcdqxyx"]
    groups, _ = group_names(chain, THRESHOLD)
    for group in groups:
        assert all(abs(a - b) <= 1 for a, b in permutations(group.members, 2))


def test_the_order_of_the_names_does_not_matter() -> None:
    names = ["Kubernetes", "Kubernets", "Kubernetess", "Globex", "Globbex", "Acme Inc", "acme"]

    def of(order: tuple[str, ...]) -> set[frozenset[str]]:
        return {frozenset(order[i] for i in group.members) for group in group_names(order, THRESHOLD)[0]}

    assert len({frozenset(of(order)) for order in list(permutations(names))[::97]}) == 1


def test_a_large_block_is_not_compared_in_its_square() -> None:
    names = [f"a{x}{y}bcdefghij{y}{x}" for x in string.ascii_lowercase for y in string.ascii_lowercase] * 5
    groups, entities = group_names(names, 0.99)
    assert (len(groups), entities) == (676, 676)


@given(st.lists(st.text(max_size=30), max_size=30), st.floats(0, 1))
def test_every_name_is_in_at_most_one_group(labels: list[str], threshold: float) -> None:
    groups, entities = group_names(labels, threshold)
    members = [position for group in groups for position in group.members]
    assert len(members) == len(set(members)) == len(labels) - entities + len(groups)
    assert all(threshold <= group.similarity <= 1 for group in groups)


@given(st.text(max_size=50))
def test_a_name_always_has_words_and_meets_itself(label: str) -> None:
    assert words_of(label)
    assert group_names([label, label], 1.0)[0][0].members == (0, 1)


# Embeddings ------------------------------------------------------------------------------------


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


@given(st.text(max_size=200))
def test_a_vector_has_length_one_and_is_the_same_each_time(text: str) -> None:
    first, second = embed([text, text])
    assert first == second
    assert len(first) == DIMENSION
    assert cosine(first, first) == pytest.approx(1, abs=1e-5)


def test_texts_that_share_words_are_nearer_than_others() -> None:
    backup, again, other = embed(
        ["The nightly backup of PostgreSQL failed.", "PostgreSQL backups are failing at night.", "Alice planted tomatoes."]
    )
    assert cosine(backup, again) > 0.3 > 0.15 > cosine(backup, other)


def test_a_vector_is_what_it_was_in_the_release_before() -> None:
    (vector,) = embed(["Alice uses Redis."])
    assert {n: value for n, value in enumerate(vector) if abs(value) > 0.3} == GOLDEN


GOLDEN = {179: -0.5792844, 206: 0.5792844}
