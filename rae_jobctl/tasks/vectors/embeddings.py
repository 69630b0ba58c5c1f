"""Which of the embeddings that PostgreSQL holds of a memory fit which vector of the collection."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

Vector = list[float]


def parse(text: str | None) -> Vector | None:
    """pgvector's text as numbers; None when it is none, or holds what is no finite number."""
    if not text:
        return None
    try:
        values = [float(value) for value in json.loads(text)]
    except (ValueError, TypeError):
        return None
    return values if values and all(map(math.isfinite, values)) else None


def fitting(own: Vector | None, by_model: Mapping[str, Vector], sizes: Mapping[str, int]) -> dict[str, Vector]:
    """Vectors by their name in the collection, as many as can be told without a guess.

    A model of the vector's own name is it; else a vector takes the one embedding of its dimension. Two vectors of one dimension,
    or two models of it, are a guess: searching among vectors of another model finds nonsense.

    Args:
        own: memories.embedding.
        by_model: memory_embeddings, by model_name.
        sizes: the collection's dimensions by vector name.
    """
    chosen: dict[str, Vector] = {}
    for name, size in sizes.items():
        named = by_model.get(name)
        if named is not None and len(named) == size:
            chosen[name] = named
            continue
        others = [vector for vector in ([own] if own else [*by_model.values()]) if len(vector) == size]
        if not others and own:
            others = [vector for vector in by_model.values() if len(vector) == size]
        if len(others) == 1 and list(sizes.values()).count(size) == 1:
            chosen[name] = others[0]
    return chosen
