"""How far a name reaches around the noun that a parse puts at its head."""

from __future__ import annotations

import re
from typing import Any

from rae_jobctl.llm.words import words

# spaCy ships no types; a token of it.
Token = Any

_MODIFIERS = frozenset({"compound", "amod", "nmod", "nummod", "quantmod", "poss", "punct", "case", "advmod", "npadvmod"})
_WIDER = frozenset({"ORG", "PRODUCT", "GPE", "LOC", "FAC", "EVENT", "WORK_OF_ART"})
#: Nouns that name nothing when they stand alone.
GENERIC = words("generic_nouns")
VERSION = re.compile(r"v?\d+(\.\w+)+")
_MAX_WORDS = 7


def names_something(plain: str) -> bool:
    if len(plain) < 2 or plain in GENERIC or ", " in plain or plain.count(" ") >= _MAX_WORDS:
        return False
    return plain.count("(") == plain.count(")") and not plain.startswith(("%", "-", "="))


def phrase_text(token: Token) -> str:
    """The noun with its contiguous modifiers to the left, a version to its right, and the whole of a named entity."""
    start, end = token.i, token.i + 1
    left = {child.i for child in token.lefts if child.dep_ in _MODIFIERS and child.pos_ not in ("DET", "PRON")}
    # "latency and error rates" are two.
    left -= {child.i for child in token.lefts if any(inner.dep_ == "cc" for inner in child.children)}
    for child in sorted(left, reverse=True):
        inner = token.doc[child]
        if inner.right_edge.i + 1 != start:
            break
        start = inner.left_edge.i
    doc = token.doc
    is_number = token.pos_ == "NUM" or VERSION.fullmatch(token.text)
    if is_number and start == token.i > token.sent.start and doc[start - 1].pos_ == "PROPN":
        # "Django 5.2": the parser takes now the name, now the version for the head.
        start -= 1
    if (
        end < len(doc)
        and doc[end].pos_ == "NUM"
        and doc[end].dep_ in ("nummod", "appos")
        and any(c.isdigit() for c in doc[end].text)
    ):
        end += 1
    start, end = _widen_to_entity(token, start, end)
    while start < token.i and _leads_in(doc[start], token):
        start += 1
    while end - 1 > token.i and doc[end - 1].pos_ in ("ADV", "PUNCT", "SPACE"):
        end -= 1
    return str(doc[start:end].text)


def _leads_in(word: Token, head: Token) -> bool:
    """Whether a word before a name is no part of it; "out-of-bounds" and "fully featured" are."""
    if word.doc[word.i + 1].text == "-":
        return False
    return (
        word.pos_ in ("DET", "PUNCT", "PRON", "SPACE")
        or (word.is_stop and word.pos_ != "PROPN")
        or (word.pos_ == "ADV" and word.head == head)
    )


def _widen_to_entity(token: Token, start: int, end: int) -> tuple[int, int]:
    if not token.ent_type_:
        return start, end
    first, last = _entity_around(token)
    if token.ent_type_ == "PERSON":
        # "Acme's CTO Dana Lee" is Dana Lee.
        return first, last
    return (min(start, first), max(end, last)) if token.ent_type_ in _WIDER else (start, end)


def _entity_around(token: Token) -> tuple[int, int]:
    # Not by `ents` of the sentence: that goes through the whole document each time.
    doc, first, last = token.doc, token.i, token.i + 1
    while doc[first].ent_iob_ == "I" and first > 0:
        first -= 1
    while last < len(doc) and doc[last].ent_iob_ == "I":
        last += 1
    return first, last
