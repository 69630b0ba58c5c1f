"""Hashing embeddings: words, pairs of words and their letters, counted into 384 signed buckets.

The hashing trick (Weinberger et al. 2009, arXiv 0902.2206) with the subwords of fastText (Bojanowski et al. 2016, arXiv
1607.04606), without any training: texts that share words or parts of words are near, texts that only mean the same are not.
Needs no model and gives the same vector everywhere, so that what depends on embeddings can run at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from re import compile as pattern

from rae_jobctl.llm.text import fold
from rae_jobctl.llm.words import words

#: Changes whenever a text's vector does.
MODEL = "rae-hash-384"
DIMENSION = 384
_WORD = pattern(r"\w+")
_STOP = words("stop_words")
_STOP_WEIGHT, _PAIR_WEIGHT, _PARTS_WEIGHT = 0.1, 0.5, 0.6
_PART = 3
_LONGEST_WORD = 40
_DIGITS = 7

Feature = tuple[int, float]


def embed(texts: Sequence[str]) -> list[list[float]]:
    """A vector of length 1 for each text; one without words has a vector too, the same for all such texts."""
    return [_embed(text) for text in texts]


def _embed(text: str) -> list[float]:
    vector = [0.0] * DIMENSION
    for bucket, weight in _features(text):
        vector[bucket] += weight
    norm = math.sqrt(sum(value * value for value in vector))
    if not norm:
        return _embed("∅")
    return [round(value / norm, _DIGITS) for value in vector]


def _features(text: str) -> Iterator[Feature]:
    found = [word[:_LONGEST_WORD] for word in _WORD.findall(fold(text).lower())] or [fold(text) or "∅"]
    for word, count in Counter(found).items():
        for bucket, weight in _of_word(word):
            yield bucket, weight * (1 + math.log(count))
    for (left, right), count in Counter(pairwise(word for word in found if word not in _STOP)).items():
        bucket, sign = _bucket(f"2{left} {right}")
        yield bucket, sign * _PAIR_WEIGHT * (1 + math.log(count))


@lru_cache(maxsize=20_000)
def _of_word(word: str) -> tuple[Feature, ...]:
    whole = _bucket(f"1{word}")
    if word in _STOP:
        return ((whole[0], whole[1] * _STOP_WEIGHT),)
    framed = f"<{word}>"
    parts = [framed[at : at + _PART] for at in range(len(framed) - _PART + 1)]
    weight = _PARTS_WEIGHT / math.sqrt(len(parts) or 1)
    return (whole, *((bucket, sign * weight) for bucket, sign in (_bucket(f"3{part}") for part in parts)))


def _bucket(feature: str) -> tuple[int, float]:
    number = int.from_bytes(blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    return (number >> 1) % DIMENSION, 1.0 if number & 1 else -1.0
