"""Themes: memories clustered by the words that they share, without a model, the same way each time.

TF-IDF vectors, cosine similarity, average-linkage agglomeration by nearest-neighbour chains (Müllner 2011, arXiv 1109.2378,
algorithm NN-chain): quadratic in the number of memories, and independent of the order that they come in.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from rae_jobctl.llm.text import fold
from rae_jobctl.llm.types import Memory, Theme
from rae_jobctl.llm.words import words

#: Average similarity above which two groups are one theme. Short texts share few words: unrelated ones lie near 0.02, texts of
#: one theme at 0.1 to 0.4.
JOIN_SIMILARITY = 0.07
#: Share of a theme's ties that must be its own words: what is tied by the phrases of every other memory is no theme.
OWN_SHARE = 0.5
#: A group so many times lighter (size times average similarity) than the weightiest is chance, not theme.
LIGHTEST_SHARE = 8
MAX_TERMS = 5
Vector = Mapping[str, float]

_WORD = re.compile(r"[^\W_][\w.+#-]*[\w+#]|[^\W_]")
_STOP = words("stop_words")


_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^a-z\s])|\n+")
#: Sentences that thank, greet or name authors: the same words about everything, so they would tie anything together.
_COURTESY = re.compile(
    r"^(by\s+[A-Z@]|hi\b|hello\b|thank(s| you)\b|(the|we|many)\b.{0,60}\bthanks?\b|see\b.{0,40}\bfor (more|details)|please\b)",
    re.IGNORECASE,
)


def split_sentences(text: str) -> list[str]:
    """Sentences of a text, each on one line, courtesies left out where others are left."""
    found = [sentence for part in _SENTENCE_END.split(text) if len(sentence := fold(part)) > 2]
    return [sentence for sentence in found if not _COURTESY.match(sentence)] or found


def tokens(text: str) -> list[str]:
    """Words of a text that carry meaning, stemmed lightly."""
    words = (word.rstrip(".-") for word in _WORD.findall(fold(text).lower()))
    return [stem(word) for word in words if word not in _STOP and len(word) > 1 and not word.replace(".", "").isdigit()]


def stem(word: str) -> str:
    """Cut the endings that English adds most often, so that "deploys" meets "deployed"."""
    if not word.isalpha() or len(word) < 5:
        return word
    for ending, rest in (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("ments", ""), ("ment", ""), ("s", "")):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 4:
            return _undouble(word[: -len(ending)] + rest)
    return word[:-1] if word.endswith("e") else word


def _undouble(word: str) -> str:
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        return word[:-1]
    return word[:-1] if word.endswith("e") else word


def vectors(texts: Sequence[str]) -> list[Vector]:
    """TF-IDF vectors of length 1; a text without words is the empty vector."""
    counts = [Counter(tokens(text)) for text in texts]
    seen_in = Counter(word for count in counts for word in count)
    return [_unit({word: (1 + math.log(n)) * _idf(seen_in[word], len(texts)) for word, n in c.items()}) for c in counts]


def _idf(seen_in: int, total: int) -> float:
    return math.log((1 + total) / (1 + seen_in)) + 1 if total > 2 else 1.0


def _unit(vector: Vector) -> Vector:
    norm = math.sqrt(sum(value * value for value in vector.values()))
    return {word: value / norm for word, value in vector.items()} if norm else {}


def cosine(a: Vector, b: Vector) -> float:
    """Similarity of two vectors of length 1."""
    if len(b) < len(a):
        a, b = b, a
    return sum(value * b[word] for word, value in a.items() if word in b)


def centroid(members: Sequence[Vector]) -> Vector:
    """The direction that the members share."""
    total: dict[str, float] = defaultdict(float)
    for vector in members:
        for word, value in vector.items():
            total[word] += value
    return _unit(total)


def find_themes(memories: Sequence[Memory], min_size: int, max_themes: int = 8) -> list[Theme]:
    """The themes of at least `min_size` memories, the weightiest first, each with its most central memories first."""
    ordered = sorted(memories, key=lambda memory: memory.id)
    all_vectors = vectors([" ".join(split_sentences(memory.content)) for memory in ordered])
    everywhere = centroid(all_vectors)
    groups = _weighty([group for group in cluster(all_vectors) if len(group) >= min_size], all_vectors)
    return [_theme([ordered[i] for i in group], [all_vectors[i] for i in group], everywhere) for group in groups[:max_themes]]


def _weighty(groups: Sequence[list[int]], all_vectors: Sequence[Vector]) -> list[list[int]]:
    """The groups that are themes: tied by words of their own, and not by chance, as a group far lighter than others is."""
    seen_in = Counter(word for vector in all_vectors for word in vector)
    weighed = []
    for group in groups:
        words = ties([all_vectors[i] for i in group])
        weight = sum(words.values())
        inside = Counter(word for i in group for word in all_vectors[i])
        own = sum(tie * inside[word] / seen_in[word] for word, tie in words.items())
        if own >= OWN_SHARE * weight:
            weighed.append((weight, group))
    weighed.sort(key=lambda pair: (-pair[0], pair[1]))
    return [group for weight, group in weighed if weight * LIGHTEST_SHARE >= weighed[0][0]]


def ties(members: Sequence[Vector]) -> dict[str, float]:
    """What each word adds to a group's weight, which is its size times the average similarity of two of its members."""
    total: dict[str, float] = defaultdict(float)
    square: dict[str, float] = defaultdict(float)
    for vector in members:
        for word, value in vector.items():
            total[word] += value
            square[word] += value * value
    pairs = max(1, len(members) - 1)
    return {word: (total[word] ** 2 - square[word]) / pairs for word in total}


def _theme(members: Sequence[Memory], member_vectors: Sequence[Vector], everywhere: Vector) -> Theme:
    middle = centroid(member_vectors)
    ranked = sorted(zip(members, member_vectors, strict=True), key=lambda pair: (-cosine(pair[1], middle), pair[0].id))
    shared = Counter(word for vector in member_vectors for word in vector)
    common = {word: value - 0.5 * everywhere.get(word, 0) for word, value in middle.items() if shared[word] > 1}
    terms = sorted(common, key=lambda word: (-common[word], word))[:MAX_TERMS]
    written = _spelling([memory.content for memory in members])
    return Theme(tuple(written.get(term, term) for term in terms), tuple(memory for memory, _ in ranked))


def _spelling(texts: Sequence[str]) -> dict[str, str]:
    """How each stem is written most often."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for text in texts:
        for word in _WORD.findall(fold(text)):
            forms[stem(word.lower())][word] += 1
    return {root: min(seen, key=lambda form: (-seen[form], form)) for root, seen in forms.items()}


def cluster(all_vectors: Sequence[Vector], join: float = JOIN_SIMILARITY) -> list[list[int]]:
    """Groups of indices whose average similarity is at least `join`; what joins nothing is a group of its own."""
    merges = _merges(all_vectors)
    parent = list(range(len(all_vectors)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for similarity, a, b in merges:
        if similarity >= join:
            parent[root(b)] = root(a)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(all_vectors)):
        groups[root(i)].append(i)
    return sorted(groups.values())


def _merges(all_vectors: Sequence[Vector]) -> list[tuple[float, int, int]]:
    """Every merge of the average-linkage tree: (similarity, a member of one side, a member of the other)."""
    near = _similarities(all_vectors)
    size = dict.fromkeys(range(len(all_vectors)), 1)
    merges: list[tuple[float, int, int]] = []
    chain: list[int] = []
    while len(size) > 1:
        if not chain:
            chain.append(min(size))
        top = chain[-1]
        previous = chain[-2] if len(chain) > 1 else None
        # On a tie the previous one wins, else two equals could lead the chain in a circle.
        best = max((i for i in size if i != top), key=lambda i: (near[top][i], i == previous, -i))
        if best != previous:
            chain.append(best)
            continue
        del chain[-2:]
        keep, drop = sorted((top, best))
        merges.append((near[keep][drop], keep, drop))
        _join(near, size, keep, drop)
    return merges


def _similarities(all_vectors: Sequence[Vector]) -> list[list[float]]:
    count = len(all_vectors)
    near = [[0.0] * count for _ in range(count)]
    postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for i, vector in enumerate(all_vectors):
        for word, value in vector.items():
            for j, other in postings[word]:
                near[i][j] += value * other
                near[j][i] = near[i][j]
            postings[word].append((i, value))
    return near


def _join(near: list[list[float]], size: dict[int, int], keep: int, drop: int) -> None:
    weight = size[keep] + size[drop]
    for other in size:
        if other not in (keep, drop):
            mean = (size[keep] * near[keep][other] + size[drop] * near[drop][other]) / weight
            near[keep][other] = near[other][keep] = mean
    size[keep] = weight
    del size[drop]
