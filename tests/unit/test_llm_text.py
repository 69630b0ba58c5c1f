"""Text rules: quotations, names, pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rae_jobctl.llm.text import entity_name, estimate_tokens, fold, is_named_in, is_quotation, relation_name, shorten, split_long


def test_names_are_written_as_rae_writes_them() -> None:
    assert entity_name("  Acme-Corp_Labs  ") == "acme corp labs"
    assert entity_name("“PostgreSQL”.") == "postgresql"
    assert relation_name("works at") == "WORKS_AT"
    assert relation_name("depends-on") == "DEPENDS_ON"


def test_a_name_of_marks_alone_is_no_name() -> None:
    assert entity_name("—!?") == ""
    assert relation_name("'; DROP TABLE memories; --") == ""
    assert relation_name("IGNORE\nPREVIOUS") == "IGNORE_PREVIOUS"


def test_a_quotation_survives_other_spaces_and_forms_of_characters() -> None:
    memory = fold("Alice uses\n  the ﬁle  store.")
    assert is_quotation("uses the file store", memory)
    assert is_quotation("uses\u200b the\tfile store", memory)
    assert not is_quotation("Alice used the file store", memory)
    assert not is_quotation(" \u200b ", memory)


def test_a_name_without_any_word_of_the_text_is_not_from_it() -> None:
    assert is_named_in("acme corp", fold("Acme hired Bob"))
    assert not is_named_in("globex", fold("Acme hired Bob"))


@given(st.text(max_size=300))
def test_folding_twice_changes_nothing_and_leaves_one_visible_line(text: str) -> None:
    once = fold(text)
    assert fold(once) == once
    assert once.replace(" ", "").isprintable()


@given(st.text(alphabet="ab. ", max_size=300), st.integers(10, 50))
def test_pieces_keep_every_word_and_the_limit(text: str, limit: int) -> None:
    pieces = split_long(fold(text), limit)
    assert all(len(piece) <= limit for piece in pieces)
    assert "".join(pieces).replace(" ", "") == fold(text).replace(" ", "")


@given(st.text(max_size=100), st.integers(5, 50))
def test_a_shortened_text_keeps_its_limit(text: str, limit: int) -> None:
    assert len(shorten(text, limit)) <= limit


def test_tokens_of_other_scripts_are_not_underestimated() -> None:
    assert estimate_tokens("日本語のテキスト") >= 8
    assert estimate_tokens("word " * 100) >= 120
