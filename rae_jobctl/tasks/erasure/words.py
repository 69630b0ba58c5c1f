"""Where a text names a person: the identifier as a whole word, never a part of a longer one.

A letter, digit or underscore beside the identifier makes it part of a longer word, and so does one of `. @ + -` that has such a
character on its other side: `alice` is not named by `alice.smith`, `alice-bob` or `bob+alice`, but by `alice.`, `alice's` and
`(alice)`. Case is ignored as Unicode's full case folding has it, and text is compared in normal form C.

One table of characters serves PostgreSQL and Python, so that both give the same answer whatever the database's locale is: a
locale "C" would neither fold nor know a letter beyond ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

ERASED = "[erased]"
_JOINERS = r".@+\-\u2010\u2011"
_SPACES = r"\t-\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# What is no part of a word, the joiners apart: punctuation, symbols, spaces; and scripts that put no space between words (Han,
# kana, Hangul with its particles, Thai, ...), where a name in another script ends with its last letter.
_OUTSIDE = (
    r"\u0001-*,/:-?\[-\^`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u037e\u0387\u055a-\u055f\u0589\u05be\u05c0\u05c3"
    r"\u05f3\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1680\u1780-\u17ff\u1fef"
    r"\u2000-\u200b\u200e\u200f\u2012-\u206f\u20a0-\u20cf\u2190-\u2bff\u2e00-\u2e7f\u2e80-\u9fff\ua000-\ua4cf\ua960-\ua97f\uac00-\ud7ff"
    r"\ue000-\ufaff\ufe10-\ufe1f\ufe30-\ufe6f\ufeff\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uffff"
    r"\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
_WORD = f"[^{_OUTSIDE}{_JOINERS}]"
# PostgreSQL evaluates a look-behind from the beginning of the text, at each place anew: a long text would take minutes. To know
# whether there is a match, the neighbours may as well be part of it.
_BEFORE = f"(?:^|[{_OUTSIDE}]|(?:^|[{_OUTSIDE}{_JOINERS}])[{_JOINERS}])"
_AFTER = f"(?:$|[{_OUTSIDE}]|[{_JOINERS}](?:$|[{_OUTSIDE}{_JOINERS}]))"
#: Beyond this, a run of letters that overlapping expansions cover ("ssssss...") is cut, and only expansions within a piece count.
_MOST_OVERLAP = 12
_MOST_REPLACEMENTS = 20
_FOLDS_END = 0x1E944


def normal_form(identifier: str) -> str:
    """The identifier as it is compared and hashed: NFC, case folded, each run of white space one space."""
    return re.sub(rf"[{_SPACES}]+", " ", unicodedata.normalize("NFC", identifier)).strip().casefold()


@cache
def _unfolded() -> dict[str, str]:
    """By case-folded text, the single characters that fold to it."""
    found: dict[str, str] = defaultdict(str)
    for number in range(_FOLDS_END):
        if not 0xD800 <= number <= 0xDFFF:
            found[chr(number).casefold()] += chr(number)
    return dict(found)


def _escaped(character: str) -> str:
    """A character that means itself in both dialects of regular expressions."""
    if character.isascii() and character.isalnum():
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _one_of(characters: str) -> str:
    return _escaped(characters) if len(characters) == 1 else "[" + "".join(map(_escaped, characters)) + "]"


def _options(folded: str, begin: int, end: int) -> list[tuple[int, str]]:
    """What a single character of the text may stand for at `begin`: how many folded ones, and which characters."""
    table = _unfolded()
    known = [(size, table.get(folded[begin : begin + size], "")) for size in (1, 2, 3) if begin + size <= end]
    if known and not known[0][1]:
        known[0] = (1, folded[begin])
    return [(size, characters) for size, characters in known if characters]


def _piece(folded: str, begin: int, end: int) -> str:
    """The expression of folded[begin:end], every way of expanding characters included."""
    if begin == end:
        return ""
    ways = [_one_of(characters) + _piece(folded, begin + size, end) for size, characters in _options(folded, begin, end)]
    return ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})"


def _pieces(folded: str) -> Iterable[tuple[int, int]]:
    """The smallest stretches over whose borders no character expands."""
    begin, reach = 0, 0
    for place in range(len(folded)):
        if place and (place >= reach or place - begin >= _MOST_OVERLAP):
            yield begin, place
            begin, reach = place, place
        reach = max([reach, *(place + size for size, _ in _options(folded, place, len(folded)))])
    yield begin, len(folded)


def _body(identifier: str) -> str:
    words = []
    for word in normal_form(identifier).split(" "):
        words.append("".join(_piece(word, begin, end) for begin, end in _pieces(word)))
    return f"[{_SPACES}]+".join(words)


def _alternatives(identifiers: Sequence[str]) -> str:
    return "(?:" + "|".join(_body(identifier) for identifier in identifiers) + ")"


def _plain_words(identifier: str) -> list[str]:
    return [word for word in normal_form(identifier).split(" ") if not set(word) & {'"', "\\"}]


def postgres_pattern(identifiers: Sequence[str]) -> str:
    """The regular expression for PostgreSQL's `~` that is true of a text in NFC which names one of them."""
    return _BEFORE + _alternatives(identifiers) + _AFTER


@dataclass(frozen=True)
class Words:
    """Looks for one person's identifiers in texts, and takes them out.

    Attributes:
        identifiers: as given; never shown.
    """

    identifiers: tuple[str, ...] = field(repr=False)

    @cached_property
    def pattern(self) -> str:
        """For PostgreSQL's `~`."""
        return postgres_pattern(self.identifiers)

    @cached_property
    def hint(self) -> str:
        """For PostgreSQL's `~`: a JSON document, written as text, that does not match it names nobody in its texts.

        The longest word of each identifier, without its neighbours; empty, which matches all, where JSON may write it otherwise.
        """
        plain = [max(_plain_words(identifier), key=len, default="") for identifier in self.identifiers]
        return _alternatives(plain) if all(plain) else ""

    @property
    def ascii(self) -> bool:
        """Whether text need not be normalised: nothing beyond ASCII composes to an ASCII identifier."""
        return all(identifier.isascii() for identifier in self.identifiers)

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        before = f"(?<!{_WORD})(?<!{_WORD}[{_JOINERS}])"
        after = f"(?![{_JOINERS}]?{_WORD})"
        return re.compile(before + _alternatives(self.identifiers) + after)

    def found(self, text: str) -> bool:
        """Whether the text names the person."""
        return self._expression.search(unicodedata.normalize("NFC", text)) is not None

    def replaced(self, text: str) -> str:
        """The text with ERASED for each identifier; the very same text when it names nobody."""
        normal = unicodedata.normalize("NFC", text)
        if not self._expression.search(normal):
            return text
        # What is put in may end a longer word: "00[00[" names "00[" once, and again after the replacement.
        for _ in range(_MOST_REPLACEMENTS):
            normal = self._expression.sub(ERASED, normal)
            if not self._expression.search(normal):
                return normal
        return ERASED

    def found_within(self, value: Any) -> bool:
        """Whether any text of a JSON value names the person, keys and numbers included."""
        if isinstance(value, dict):
            return any(self.found(key) or self.found_within(item) for key, item in value.items())
        if isinstance(value, list):
            return any(map(self.found_within, value))
        return not isinstance(value, bool | None) and self.found(str(value))
