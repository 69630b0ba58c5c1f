"""PostgreSQL and Python give the same answer to whether a text names a person, and it is the one that the definition gives."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rae_jobctl.dev.postgres import PostgresServer
from rae_jobctl.tasks.erasure.words import Words, normal_form

_JOINERS = ".@+-\u2010\u2011"
_LETTERS = "aAlLiIcCeEsSßẞfFﬁkK\u212aéÉ\u0301İıʼñÑωΩσς0_9"
_OTHERS = " .,@+-'’%_\\*()[]{}|^$?/:\"\n\t\u00a0\u2010–—…我\u3000،"
_IDENTIFIERS = st.one_of(
    st.sampled_from(["alice", "ann@x.org", "a%b", "x_y", "c\\d", "a.b*c(", "ßß", "Alice Smith", "+48 123", "sss", "éﬁn", "ſſs"]),
    st.text(_LETTERS + _OTHERS, min_size=3, max_size=12),
)


@pytest.fixture(scope="module")
def matches(postgres_server: PostgresServer) -> Iterator[Any]:
    """Asks PostgreSQL."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(postgres_server.url("postgres")))

        def ask(words: Words, texts: list[str]) -> list[bool]:
            text = "t" if words.ascii else "normalize(t, NFC)"
            sql = f"SELECT {text} ~ $1 AS named FROM unnest($2::text[]) WITH ORDINALITY AS x (t, o) ORDER BY o"
            return [row["named"] for row in runner.run(connection.fetch(sql, words.pattern, texts))]

        yield ask
        runner.run(connection.close())


def _word(character: str) -> bool:
    """By Unicode's categories; the scripts without spaces that the alphabet here has are Han and none else."""
    letter = unicodedata.category(character)[0] in "LMN" or character == "_"
    return letter and not "\u2e80" <= character <= "\u9fff"


def named(identifier: str, text: str) -> bool:
    """The definition, in the plainest way: try every stretch of the text."""
    text, wanted = unicodedata.normalize("NFC", text), normal_form(identifier)
    spaced = " " in wanted
    for begin in range(len(text)):
        for end in range(begin + 1, len(text) + 1):
            stretch = text[begin:end]
            same = normal_form(stretch) == wanted and stretch == stretch.strip() if spaced else stretch.casefold() == wanted
            if same and not _part_of_longer(text, begin, end):
                return True
    return False


def _part_of_longer(text: str, begin: int, end: int) -> bool:
    before, after = text[max(0, begin - 2) : begin], text[end : end + 2]
    left = bool(before) and (_word(before[-1]) or (len(before) == 2 and before[1] in _JOINERS and _word(before[0])))
    right = bool(after) and (_word(after[0]) or (len(after) == 2 and after[0] in _JOINERS and _word(after[1])))
    return left or right


@st.composite
def _texts(draw: st.DrawFn) -> tuple[str, list[str]]:
    identifier = unicodedata.normalize("NFC", draw(_IDENTIFIERS)).strip()
    forms = [identifier, identifier.upper(), identifier.lower(), identifier.casefold(), unicodedata.normalize("NFD", identifier)]
    around = st.text(_LETTERS + _OTHERS, max_size=4)
    one = st.builds(lambda a, b, c: a + b + c, around, st.sampled_from([*forms, identifier[:-1], ""]), around)
    return identifier, draw(st.lists(one, min_size=1, max_size=8))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=_texts())
@example(case=("alice", ["alice2", "malice", "alice.smith", "alice.", "alice's", "bob+alice", "alice\u0301", "\nalice\n"]))
def test_postgresql_python_and_the_definition_agree(matches: Any, case: tuple[str, list[str]]) -> None:
    identifier, texts = case
    if len(identifier) < 3 or "  " in normal_form(identifier) or not normal_form(identifier):
        return
    words = Words((identifier,))
    expected = [named(identifier, text) for text in texts]
    assert [words.found(text) for text in texts] == expected
    assert matches(words, texts) == expected


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=_texts())
@example(case=("00[", ["00[00["]))
def test_nothing_is_named_after_the_replacement(matches: Any, case: tuple[str, list[str]]) -> None:
    identifier, texts = case
    if len(identifier) < 3 or Words((identifier,)).found("[erased]"):
        return
    words = Words((identifier,))
    assert not any(matches(words, [words.replaced(text) for text in texts]))


def test_a_long_text_takes_no_longer_than_its_length(matches: Any) -> None:
    assert matches(Words(("alice",)), ["malice." * 100_000, "malice." * 100_000 + " alice"]) == [False, True]
