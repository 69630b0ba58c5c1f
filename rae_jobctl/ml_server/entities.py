"""Which names mean the same entity, by their spelling alone: cheap, and shy of merging what only looks alike.

Names are compared word by word: all words must find their partner, numbers and short words exactly. A slip of the pen in a
long word is forgiven, as measured by optimal string alignment (restricted Damerau-Levenshtein).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import OSA, JaroWinkler

#: Shorter words must be the same: "cat" and "car" are one letter apart.
_EXACT_BELOW = 4
#: A slip of the pen in a shorter word is more often another word: "staging" and "stating".
_SLIP_FROM = 8
#: A longer word may be written with up to two letters more at its end ("Postgres", "PostgreSQL").
_STEM, _ENDING = 8, 2
_PLURALS = ("s", "es")
#: Comparisons for one name, and names of a cluster that it is compared with: a block of thousands must not take their square.
_COMPARISONS, _SAMPLE = 100, 20
_LEGAL = frozenset(
    (
        *("inc", "incorporated", "corp", "corporation", "co", "company", "llc", "ltd", "limited", "llp", "plc", "pty", "pte"),
        *(
            "and",
            "gmbh",
            "ag",
            "kg",
            "ohg",
            "ug",
            "se",
            "sa",
            "sarl",
            "sas",
            "bv",
            "nv",
            "ab",
            "oy",
            "aps",
            "spa",
            "srl",
            "sl",
            "kk",
        ),
    )
)
_INITIALS = re.compile(r"\b(?:\w\.){2,}")
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b")
_INNER_DOT = re.compile(r"(?<=[^\W\d])\.(?=\w)|(?<=\w)\.(?=[^\W\d])|^\.(?=\w)")
_WORD = re.compile(r"[\w+#]+(?:\.\d+)*")


@dataclass(frozen=True)
class Group:
    """Names that mean one entity.

    Attributes:
        members: positions in the input, ascending, at least two.
        similarity: mean over the pairs of different spellings that were compared, 1 when there is one spelling.
    """

    members: tuple[int, ...]
    similarity: float


@dataclass(frozen=True)
class _Name:
    words: tuple[str, ...]
    members: list[int] = field(default_factory=list, compare=False)


@dataclass
class _Cluster:
    names: list[_Name]
    similarities: list[float] = field(default_factory=list)


def group_names(labels: Sequence[str], threshold: float) -> tuple[list[Group], int]:
    """Group labels of the same entity: each is at least `threshold` alike to every other of its group.

    Args:
        labels: names as they are written in the graph.
        threshold: 0 to 1; at 1 only spellings that differ in case, marks, order of words or legal form are the same.

    Returns:
        The groups of two or more, in the order of their first member, and how many entities there are in all.
    """
    names = _spellings(labels)
    clusters = [cluster for block in _blocks(names) for cluster in _cluster(block, threshold)]
    groups = [_group(cluster) for cluster in clusters]
    return sorted((group for group in groups if len(group.members) > 1), key=lambda group: group.members), len(groups)


def _spellings(labels: Sequence[str]) -> list[_Name]:
    """Each different name once; "node js" and "node.js" are the same as well as "Smith, Alice" and "Alice Smith"."""
    by_words: dict[tuple[str, ...], _Name] = {}
    by_letters: dict[str, _Name] = {}
    for position, label in enumerate(labels):
        in_order = words_of(label)
        key, letters = tuple(sorted(in_order)), "".join(in_order)
        name = by_words.get(key) or by_letters.get(letters) or _Name(key)
        name.members.append(position)
        by_words.setdefault(key, name)
        by_letters.setdefault(letters, name)
    return list({id(name): name for name in by_words.values()}.values())


def words_of(label: str) -> tuple[str, ...]:
    """A name's words in their order: without case, accents, marks, article and legal form."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", label) if not unicodedata.combining(c)).casefold()
    bare = _INITIALS.sub(lambda found: found[0].replace(".", ""), bare.strip())
    bare = _INNER_DOT.sub("", _POSSESSIVE.sub("", bare)).replace("&", " and ").replace("_", " ")
    found = _WORD.findall(bare)
    if len(found) > 1 and found[0] == "the":
        found = found[1:]
    while len(found) > 1 and found[-1] in _LEGAL:
        found = found[:-1]
    # A name of marks alone is like itself only.
    return tuple(found) or (label.strip(),)


def _blocks(names: Iterable[_Name]) -> list[list[_Name]]:
    """Only names of one block can be alike: the same exact words, and as many other words with the same first letters."""
    blocks: dict[tuple[tuple[str, ...], str], list[_Name]] = defaultdict(list)
    for name in names:
        exact = tuple(word for word in name.words if _is_exact(word))
        initials = "".join(word[0] for word in name.words if not _is_exact(word))
        blocks[exact, initials].append(name)
    return list(blocks.values())


def _is_exact(word: str) -> bool:
    return len(word) < _EXACT_BELOW or not word.isalpha()


def _cluster(block: Sequence[_Name], threshold: float) -> list[_Cluster]:
    """Complete linkage, greedily: each name goes to the cluster that it is most alike to, the most frequent spelling first.

    In a large block a name meets only those before it in the alphabet (sorted neighbourhood, Hernández and Stolfo 1995).
    """
    is_large = len(block) > _COMPARISONS
    clusters: list[_Cluster] = []
    for name in sorted(block, key=lambda one: (0 if is_large else -len(one.members), one.words)):
        best: tuple[float, _Cluster, list[float]] | None = None
        for cluster in _neighbours(clusters):
            found = _to_all(name, cluster, threshold)
            if found and (best is None or min(found) > best[0]):
                best = (min(found), cluster, found)
        if best is None:
            clusters.append(_Cluster([name]))
        else:
            best[1].names.append(name)
            best[1].similarities += best[2]
    return clusters


def _neighbours(clusters: Sequence[_Cluster]) -> Iterator[_Cluster]:
    left = _COMPARISONS
    for cluster in reversed(clusters):
        yield cluster
        left -= min(len(cluster.names), _SAMPLE)
        if left <= 0:
            return


def _to_all(name: _Name, cluster: _Cluster, threshold: float) -> list[float]:
    """Similarities to the names of a cluster; empty when one is too low."""
    found = []
    for other in cluster.names[:_SAMPLE]:
        value = similarity(name.words, other.words, threshold)
        if value < threshold or not value:
            return []
        found.append(value)
    return found


def similarity(a: Sequence[str], b: Sequence[str], threshold: float = 0.0) -> float:
    """How alike two names of one block are: the similarity of their least alike words, 0 below the threshold."""
    lowest = 1.0
    for left, right in zip(a, b, strict=True):
        if left != right:
            lowest = min(lowest, _of_words(left, right, threshold))
            if lowest < threshold or not lowest:
                return 0.0
    return lowest


def _of_words(a: str, b: str, threshold: float) -> float:
    if _is_exact(a) or _is_exact(b):
        return 0.0
    shorter, longer = sorted((a, b), key=len)
    if longer.startswith(shorter) and _is_ending(shorter, longer[len(shorter) :]):
        return float(JaroWinkler.similarity(a, b))
    if len(shorter) < _SLIP_FROM:
        return 0.0
    return float(OSA.normalized_similarity(a, b, score_cutoff=threshold))


def _is_ending(stem: str, rest: str) -> bool:
    return rest in _PLURALS or (len(stem) >= _STEM and len(rest) <= _ENDING)


def _group(cluster: _Cluster) -> Group:
    members = tuple(sorted(position for name in cluster.names for position in name.members))
    found = cluster.similarities
    return Group(members, sum(found) / len(found) if found else 1.0)
