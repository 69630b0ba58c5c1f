"""The offline reflection on many memories with planted themes."""

from __future__ import annotations

from uuid import UUID

import pytest

from bench.reflect import covered, newest_groups, within
from rae_jobctl.llm.local_reflection import reflect
from rae_jobctl.llm.themes import cluster, find_themes, vectors
from rae_jobctl.llm.types import Memory, ReflectionKind
from tests.quality.planted import NOISE, planted


@pytest.mark.parametrize("count", [300, 1000])
@pytest.mark.parametrize("seed", [1, 2])
def test_each_theme_iscovered_by_evidence_of_its_own_better_than_by_thenewest_groups_memories(count: int, seed: int) -> None:
    memories, theme_of = planted(count, seed)
    themes = set(theme_of.values()) - {NOISE}
    evidence = [insight.evidence for insight in reflect(find_themes(memories, 3), ReflectionKind.INSIGHT).insights]
    newest = newest_groups(memories, evidence)
    assert covered(evidence, theme_of, themes) == 1.0 > covered(newest, theme_of, themes)
    assert within(evidence, theme_of) >= 0.9 > within(newest, theme_of)


def test_phrases_that_stand_in_memories_of_every_theme_make_none() -> None:
    phrase = "From the weekly review: "
    remarks = ["Ann praised tea", "Bob read Emma", "Cleo tried Vim", "Dan sold skis", "Eve ate figs", "Finn won chess"]
    backups = [f"the backup {n} of the orders database failed, disk full" for n in range(24)]
    offers = [f"the candidate {n} declined the engineer offer" for n in range(24)]
    themed = [phrase * (n % 3 == 0) + text for n, text in enumerate(backups + offers)]
    texts = [phrase + remark for remark in remarks] + themed
    memories = [Memory(UUID(int=number + 1), text) for number, text in enumerate(texts)]
    assert any(len(group) == len(remarks) for group in cluster(vectors(texts)))
    found = find_themes(memories, 3)
    assert sorted(len(theme.memories) for theme in found) == [24, 24]
    assert all(remark not in theme.memories for theme in found for remark in memories[: len(remarks)])
