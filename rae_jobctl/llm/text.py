"""Text rules that every provider obeys: what counts as a quotation, how names are written, what is cut away."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MAX_EVIDENCE = 300
MAX_ENTITY = 200
MAX_RELATION = 100

_SPACE = re.compile(r"\s+")
#: Categories of characters that a reader does not see: controls, formats (zero-width, bidi), surrogates, private use.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_WORD = re.compile(r"\w+")
_RELATION = re.compile(r"[^\W_]\w*")


def fold(text: str) -> str:
    """NFKC, without invisible characters, each run of white space one space: one line, whatever was given."""
    normal = unicodedata.normalize("NFKC", text)
    # isprintable is False for the invisible categories and for separators alike, and true of nearly every text at once.
    if not normal.replace(" ", "").isprintable():
        normal = "".join(" " if c.isspace() else c for c in normal if c.isspace() or unicodedata.category(c) not in _INVISIBLE)
    return _SPACE.sub(" ", normal).strip()


def entity_name(name: str) -> str:
    """A node's id and label as RAE writes them: lower case, hyphens and underscores as spaces, single spaces.

    Empty when nothing is left that could name anything.
    """
    plain = _SPACE.sub(" ", fold(name).lower().replace("-", " ").replace("_", " ")).strip(" \"'`.,;:!?()[]{}<>“”‘’")
    return plain if _WORD.search(plain) else ""


def relation_name(name: str) -> str:
    """An edge's relation as RAE writes it: UPPER_SNAKE; empty when it holds anything but letters, digits and separators."""
    plain = re.sub(r"_+", "_", re.sub(r"[ \-]", "_", fold(name).upper())).strip("_")
    return plain if _RELATION.fullmatch(plain) else ""


def is_quotation(evidence: str, folded_text: str) -> bool:
    """Whether `evidence` stands word for word in a text that `fold` was applied to."""
    quote = fold(evidence)
    return bool(quote) and quote in folded_text


def is_named_in(name: str, folded_text: str) -> bool:
    """Whether a normalised name could have come from the text: at least one of its words is there.

    A model may write a name more fully than one sentence does, but a name without any word of the text is not from it.
    """
    words = _words_in(folded_text)
    return any(word in words for word in _WORD.findall(name))


# Every claim about a memory asks for the words of the same text.
@lru_cache(maxsize=4)
def _words_in(folded_text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(entity_name(folded_text)))


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, cut at a word where one is near."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    head, _, _ = cut.rpartition(" ")
    return (head if len(head) > limit // 2 else cut) + "…"


def estimate_tokens(text: str) -> int:
    """Tokens of a text, on the high side: four ASCII characters or one other character each (no tokenizer needs a network)."""
    if text.isascii():
        return len(text) // 4 + 1
    others = sum(1 for c in text if ord(c) > 127)
    return (len(text) - others) // 4 + others + 1


def split_long(text: str, limit: int) -> list[str]:
    """Pieces of at most `limit` characters, cut after a sentence where possible, else after a word."""
    pieces = []
    while len(text) > limit:
        window = text[:limit]
        cut = max(window.rfind(mark) + 1 for mark in (". ", "! ", "? "))
        if cut < limit // 2:
            cut = window.rfind(" ") + 1 or limit
        pieces.append(text[:cut].strip())
        text = text[cut:].strip()
    if text:
        pieces.append(text)
    return pieces
