"""What an answer must withstand before it becomes a triple: a deterministic guard against invention and injection alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rae_jobctl.llm.text import (
    MAX_ENTITY,
    MAX_EVIDENCE,
    MAX_RELATION,
    entity_name,
    fold,
    is_named_in,
    is_quotation,
    relation_name,
)
from rae_jobctl.llm.types import EntityType, Memory, Triple

#: More triples than this from one memory is no extraction any more.
MAX_TRIPLES_PER_MEMORY = 60


@dataclass(frozen=True)
class Claim:
    """A triple as a provider gives it, not yet believed."""

    subject: Any
    predicate: Any
    object: Any
    evidence: Any
    confidence: Any = 1.0
    subject_type: Any = None
    object_type: Any = None


class Checker:
    """Turns claims about memories into triples, and counts what it rejects, by reason.

    The reasons are NoSuchMemory, Malformed, TooLong, SelfLoop, NoEvidence (the quotation is not in the memory), NotNamed
    (subject or object has no word of the memory) and TooMany.
    """

    def __init__(self) -> None:
        self.rejected: Counter[str] = Counter()

    def check(self, memory: Memory, claims: Iterable[Claim]) -> list[Triple]:
        """The claims about one memory that hold, each (subject, predicate, object) once, with its greatest confidence."""
        folded = fold(memory.content)
        best: dict[tuple[str, str, str], Triple] = {}
        for claim in claims:
            triple = self._one(memory, folded, claim)
            if triple is None:
                continue
            key = (triple.subject, triple.predicate, triple.object)
            if key not in best and len(best) >= MAX_TRIPLES_PER_MEMORY:
                self.rejected["TooMany"] += 1
            elif key not in best or best[key].confidence < triple.confidence:
                best[key] = triple
        return list(best.values())

    def _one(self, memory: Memory, folded: str, claim: Claim) -> Triple | None:
        texts = (claim.subject, claim.predicate, claim.object, claim.evidence)
        if not all(isinstance(text, str) for text in texts):
            return self._reject("Malformed")
        subject, predicate, target = entity_name(claim.subject), relation_name(claim.predicate), entity_name(claim.object)
        evidence, confidence = fold(claim.evidence), _confidence(claim.confidence)
        if not subject or not predicate or not target or confidence is None:
            return self._reject("Malformed")
        if max(len(subject), len(target)) > MAX_ENTITY or len(predicate) > MAX_RELATION or len(evidence) > MAX_EVIDENCE:
            return self._reject("TooLong")
        if subject == target:
            return self._reject("SelfLoop")
        if not is_quotation(evidence, folded):
            return self._reject("NoEvidence")
        if not is_named_in(subject, folded) or not is_named_in(target, folded):
            return self._reject("NotNamed")
        types = entity_type(claim.subject_type), entity_type(claim.object_type)
        return Triple(memory.id, subject, types[0], predicate, target, types[1], confidence, evidence)

    def _reject(self, reason: str) -> Triple | None:
        self.rejected[reason] += 1
        return None


def entity_type(value: Any) -> EntityType:
    """The type named, OTHER for anything unknown."""
    try:
        return EntityType(str(value).upper())
    except ValueError:
        return EntityType.OTHER


def unit_number(body: Mapping[str, Any], name: str, default: float = 0.5) -> float:
    """A score of an answer, kept within 0 to 1."""
    value = _confidence(body.get(name))
    return default if value is None else value


def _confidence(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(1.0, max(0.0, float(value)))
