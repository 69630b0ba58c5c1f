"""Reflection without a model: what the memories themselves say most centrally, with the memories that bear it out.

Extractive on purpose: each sentence of the result stands in a memory, so nothing is invented.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from rae_jobctl.llm.text import shorten
from rae_jobctl.llm.themes import Vector, centroid, cosine, split_sentences, vectors
from rae_jobctl.llm.types import Insight, Memory, ReflectionDraft, ReflectionKind, Scores, Theme

MAX_SENTENCE = 280
MAX_EVIDENCE_IDS = 10
MAX_ACTIONS = 5
#: A sentence that begins so leans on the one before it.
_LEANING = re.compile(
    r"^(however|therefore|this|these|that|it|as a result|since|also|but|and|so|he|she|they|then)\b",
    re.IGNORECASE,
)
_FAILURE = re.compile(
    r"\b(fail(s|ed|ing|ure)?|error|crash(es|ed)?|bug|broken|regression|outage|incident|timeout|leak|vulnerab\w+|"
    r"denial|incorrect\w*|problem|flak\w+|stall\w*|lost)\b",
    re.IGNORECASE,
)
_INTENT = re.compile(
    r"\b(todo|to-do|needs? to|should(?! have)|plan(s|ned)? to|we (must|have to)|will be removed|deprecat\w+|action item|"
    r"next step|follow[ -]?up|let's|remember to|consider|recommend\w*|encouraged to|upgrade|migrate)\b",
    re.IGNORECASE,
)
_BY_KIND = {
    ReflectionKind.INSIGHT: "Recurring theme",
    ReflectionKind.ANALYSIS: "What stands behind several memories",
    ReflectionKind.PATTERN: "Pattern",
    ReflectionKind.META: "Lesson",
    ReflectionKind.SYNTHESIS: "In common",
}


@dataclass(frozen=True)
class _Sentence:
    text: str
    memory: UUID
    vector: Vector
    centrality: float


def reflect(themes: Sequence[Theme], kind: ReflectionKind) -> ReflectionDraft:
    """One reflection upon the themes: an insight each, the summary from the most central sentences, actions where some are named.

    The kind `meta` looks at failures first.
    """
    ranked = [(theme, _rank(theme, kind)) for theme in themes]
    ranked = [(theme, sentences) for theme, sentences in ranked if sentences]
    if not ranked:
        return ReflectionDraft("", (), ())
    if kind is ReflectionKind.META:
        ranked.sort(key=lambda pair: -_failures(pair[0]))
    insights = tuple(_insight(theme, sentences, kind) for theme, sentences in ranked)
    everything = [sentence for _, sentences in ranked for sentence in sentences]
    return ReflectionDraft(_summary(ranked), insights, tuple(_actions(everything)), _scores([theme for theme, _ in ranked]))


def _rank(theme: Theme, kind: ReflectionKind) -> list[_Sentence]:
    pairs = [(memory.id, text) for memory in theme.memories for text in split_sentences(memory.content)]
    found = vectors([text for _, text in pairs])
    middle = centroid(found)
    sentences = [
        _Sentence(text, memory, vector, cosine(vector, middle) * _fitness(text, kind))
        for (memory, text), vector in zip(pairs, found, strict=True)
    ]
    return sorted(sentences, key=lambda sentence: (-sentence.centrality, sentence.text))


def _fitness(text: str, kind: ReflectionKind) -> float:
    """A fragment says little and a long sentence too much; for a lesson a failure says most."""
    words = text.count(" ") + 1
    length = min(1.0, words / 6) * min(1.0, 40 / words)
    alone = 0.7 if _LEANING.match(text) else 1.0
    return length * alone * (1.5 if kind is ReflectionKind.META and _FAILURE.search(text) else 1.0)


def _insight(theme: Theme, sentences: Sequence[_Sentence], kind: ReflectionKind) -> Insight:
    best = sentences[0]
    evidence = _evidence(theme, best)
    terms = ", ".join(theme.terms[:3])
    about = f"{_BY_KIND[kind]} ({terms}; {len(theme.memories)} memories): " if terms else ""
    cohesion = sum(sentence.centrality for sentence in sentences[:5]) / len(sentences[:5])
    return Insight(
        about + shorten(best.text, MAX_SENTENCE),
        evidence,
        confidence=round(min(0.9, 0.4 + cohesion / 2), 2),
        single_source=len(evidence) == 1,
    )


def _evidence(theme: Theme, best: _Sentence) -> tuple[UUID, ...]:
    """The memory that is quoted, then those nearest to the theme's centre."""
    ids = [best.memory, *(memory.id for memory in theme.memories)]
    return tuple(dict.fromkeys(ids))[:MAX_EVIDENCE_IDS]


def _summary(ranked: Sequence[tuple[Theme, Sequence[_Sentence]]]) -> str:
    themes = [theme for theme, _ in ranked]
    count = sum(len(theme.memories) for theme in themes)
    subjects = "; ".join(", ".join(theme.terms[:2]) for theme in themes[:4] if theme.terms)
    focus = f"Focus on {subjects} ({count} memories in {len(themes)} theme{'s' * (len(themes) != 1)})."
    quotes = " ".join(_ended(shorten(sentences[0].text, MAX_SENTENCE)) for _, sentences in ranked[:2])
    return f"{focus} {quotes}"


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _actions(sentences: Sequence[_Sentence]) -> Iterator[str]:
    """Steps that memories name themselves, then failures worth a look; the most central first, none twice."""
    seen: list[Vector] = []
    wanted = [s for s in sentences if _INTENT.search(s.text)]
    failing = [s for s in sentences if _FAILURE.search(s.text) and not _INTENT.search(s.text)]
    for prefix, candidates in (("Act on", wanted), ("Look into", failing)):
        for sentence in sorted(candidates, key=lambda s: (-s.centrality, s.text)):
            if len(seen) >= MAX_ACTIONS:
                return
            if any(cosine(sentence.vector, other) > 0.6 for other in seen):
                continue
            seen.append(sentence.vector)
            yield f"{prefix}: {shorten(sentence.text, 200)}"


def _failures(theme: Theme) -> int:
    return sum(1 for memory in theme.memories if _FAILURE.search(memory.content))


def _scores(themes: Sequence[Theme]) -> Scores:
    """Without a judge: more memories are more important, failures more useful; novelty stays in the middle."""
    memories: list[Memory] = [memory for theme in themes for memory in theme.memories]
    failing = sum(1 for memory in memories if _FAILURE.search(memory.content)) / max(1, len(memories))
    return Scores(
        novelty=0.5,
        importance=round(min(0.9, 0.4 + 0.02 * len(memories)), 2),
        utility=round(0.5 + 0.4 * failing, 2),
        confidence=0.6,
    )
