"""The offline reflection on memories with planted themes, against one that takes the newest ones; and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from bench.figures import Figure, at_least, at_most
from rae_jobctl.llm.local_reflection import reflect
from rae_jobctl.llm.themes import find_themes
from rae_jobctl.llm.types import Memory, ReflectionDraft, ReflectionKind
from tests.quality.planted import NOISE, planted

MEMORIES = 1000
SEED = 20261124
WITHIN_GOAL = 0.9
SECONDS_LIMIT = 10.0


def run() -> Iterator[Figure]:
    """Yield the share of themes covered, the share of evidence within its theme, and the seconds (baseline: half as many)."""
    memories, theme_of = planted(MEMORIES, SEED)
    themes = set(theme_of.values()) - {NOISE}
    draft, seconds = _timed(memories)
    _, half = _timed(memories[: MEMORIES // 2])
    evidence = [insight.evidence for insight in draft.insights]
    newest = newest_groups(memories, evidence)
    yield at_least(
        "reflect.themes_covered", covered(evidence, theme_of, themes), "of the themes", covered(newest, theme_of, themes), 1.0
    )
    share = within(evidence, theme_of)
    yield at_least("reflect.evidence_within", share, "of the evidence", within(newest, theme_of), WITHIN_GOAL)
    yield at_most("reflect.seconds", seconds, "s of CPU", half, SECONDS_LIMIT)


def _timed(memories: Sequence[Memory]) -> tuple[ReflectionDraft, float]:
    began = time.process_time()
    draft = reflect(find_themes(memories, 3), ReflectionKind.INSIGHT)
    return draft, time.process_time() - began


def newest_groups(memories: Sequence[Memory], evidence: Sequence[Sequence[UUID]]) -> list[list[UUID]]:
    """The newest memories, as many and in groups as large as those that the reflection rests on."""
    ids = iter([memory.id for memory in reversed(memories)])
    return [[next(ids) for _ in group] for group in evidence]


def covered(evidence: Sequence[Sequence[UUID]], theme_of: Mapping[UUID, str], themes: set[str]) -> float:
    return len({_leading(group, theme_of) for group in evidence} & themes) / len(themes)


def within(evidence: Sequence[Sequence[UUID]], theme_of: Mapping[UUID, str]) -> float:
    inside = sum(theme_of[one] == _leading(group, theme_of) for group in evidence for one in group)
    return inside / sum(map(len, evidence))


def _leading(group: Sequence[UUID], theme_of: Mapping[UUID, str]) -> str:
    """The theme of most of a group; noise leads nothing."""
    names = [theme_of[one] for one in group]
    best = max(sorted(set(names)), key=names.count)
    return "" if best == NOISE else best
