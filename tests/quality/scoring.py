"""Precision and recall of an extractor on the labelled sentences; the rules are in README.md beside this file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rae_jobctl.llm.text import entity_name, relation_name

SENTENCES = Path(__file__).with_name("sentences.jsonl")
TUNING, HELD_OUT = "tuning", "held-out"

#: Subject, predicate, object, as an extractor writes them.
Fact = tuple[str, str, str]
Extractor = Callable[[Sequence[str]], Sequence[Sequence[Fact]]]


@dataclass(frozen=True)
class Label:
    """One fact, with all the wordings that are right.

    Attributes:
        subjects, objects: normalised names.
        predicates: normalised relations from subject to object.
        inverse: the same said from object to subject.
    """

    subjects: frozenset[str]
    predicates: frozenset[str]
    objects: frozenset[str]
    inverse: frozenset[str] = frozenset()

    def matches(self, fact: Fact) -> bool:
        """Whether a normalised fact is this one."""
        subject, predicate, target = fact
        if subject in self.subjects and target in self.objects and predicate in self.predicates:
            return True
        return subject in self.objects and target in self.subjects and predicate in self.inverse


@dataclass(frozen=True)
class Labelled:
    """A sentence and what it states.

    Attributes:
        half: TUNING or HELD_OUT.
        facts: what an extractor should find.
        optional: what it may find or leave.
    """

    id: str
    half: str
    text: str
    facts: tuple[Label, ...]
    optional: tuple[Label, ...] = ()


@dataclass(frozen=True)
class Score:
    """Counts over sentences (micro).

    Attributes:
        right: labelled facts that were found.
        wrong: facts found that no label knows.
        missed: labelled facts that were not found.
    """

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.right + other.right, self.wrong + other.wrong, self.missed + other.missed)

    @property
    def precision(self) -> float:
        """Of what was found, how much is right; 1 when nothing was found."""
        found = self.right + self.wrong
        return self.right / found if found else 1.0

    @property
    def recall(self) -> float:
        """Of what is stated, how much was found."""
        stated = self.right + self.missed
        return self.right / stated if stated else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def load(half: str | None = None) -> list[Labelled]:
    """The labelled sentences, of one half or of both."""
    rows = [json.loads(line) for line in SENTENCES.read_text("utf-8").splitlines()]
    return [_labelled(row) for row in rows if half in (None, row["half"])]


def score(extract: Extractor, sentences: Sequence[Labelled]) -> Score:
    """Run an extractor over the sentences and count."""
    found = extract([one.text for one in sentences])
    return sum((compare(one, facts) for one, facts in zip(sentences, found, strict=True)), Score())


def compare(sentence: Labelled, facts: Iterable[Fact]) -> Score:
    """Count one sentence: each label once; another wording of a fact already found is neither right nor wrong."""
    hit: set[Label] = set()
    wrong = 0
    for fact in {normalised(fact) for fact in facts}:
        labels = {label for label in sentence.facts if label.matches(fact)}
        hit |= labels
        wrong += not labels and not any(label.matches(fact) for label in sentence.optional)
    return Score(len(hit), wrong, len(sentence.facts) - len(hit))


def normalised(fact: Fact) -> Fact:
    """A fact as the graph would hold it, its predicate free of inflection."""
    return entity_name(fact[0]), plain_relation(fact[1]), entity_name(fact[2])


@lru_cache(maxsize=4096)
def plain_relation(name: str) -> str:
    """A relation whose words have lost -s, -ed and -ing, so that USES, USED and USE are one."""
    return "_".join(_plain_word(word) for word in relation_name(name).split("_"))


def _plain_word(word: str) -> str:
    stem = re.sub(r"(?<=[A-Z]{2})(IES|IED)$", "Y", word)
    stem = re.sub(r"(?<=[A-Z]{2})(ES|ED|ING|S)$", "", stem)
    stem = re.sub(r"([BDGLMNPRST])\1$", r"\1", stem)
    return stem.rstrip("E") or word


def _labelled(row: Mapping[str, Any]) -> Labelled:
    return Labelled(row["id"], row["half"], row["text"], _labels(row["facts"]), _labels(row["optional"]))


def _labels(rows: Iterable[Mapping[str, Any]]) -> tuple[Label, ...]:
    return tuple(
        Label(
            frozenset(entity_name(name) for name in row["subject"]),
            frozenset(plain_relation(name) for name in row["predicate"]),
            frozenset(entity_name(name) for name in row["object"]),
            frozenset(plain_relation(name) for name in row.get("inverse", ())),
        )
        for row in rows
    )
