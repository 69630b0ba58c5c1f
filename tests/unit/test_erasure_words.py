"""Whole words and nothing less: which texts name a person."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest

from rae_jobctl.errors import BadDataError, ConfigError, UsageError
from rae_jobctl.tasks.erasure.subject import checked_identifiers, erasure_key, subject_of
from rae_jobctl.tasks.erasure.words import Words
from tests.integration.memories import OTHER, TENANT

_KEY = b"0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    ["alice2", "malice", "alice.smith", "alice@x.org", "alice-bob", "alice_b", "bob+alice", "alicé", "alice\u0301"],
)
def test_a_longer_word_is_somebody_else(text: str) -> None:
    assert not Words(("alice",)).found(text)
    assert Words(("alice",)).replaced(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "alice",
        "ALICE",
        "I met alice.",
        '"alice"',
        "(alice)",
        "alice, bob",
        "alice's",
        "user:alice",
        "@alice",
        "alice...",
        "- alice -",
        "我和alice说",
    ],
)
def test_a_word_between_others_is_the_person(text: str) -> None:
    assert Words(("alice",)).found(text)
    assert not Words(("alice",)).found(Words(("alice",)).replaced(text))


@pytest.mark.parametrize(("text", "named"), [("joann@x.org", False), ("ann@x.org.uk", False), ("mail <ann@x.org>.", True)])
def test_an_address_is_a_word(text: str, named: bool) -> None:
    assert Words(("ann@x.org",)).found(text) is named


@pytest.mark.parametrize("identifier", ["a%c", "a_c", "a\\c", "a.c", "a*c", "a(c", "a[c", "a|c", "a^c", "a$c", "a{2}", "a?c+"])
def test_characters_of_patterns_are_literal(identifier: str) -> None:
    words = Words((identifier,))
    assert words.found(f"x {identifier} y")
    assert not words.found("abc aXc abcc aac ac")


def test_case_and_composition_do_not_matter() -> None:
    assert Words(("Straße",)).found("STRASSE")
    assert Words(("strasse",)).found("Straße")
    assert Words(("José",)).found(unicodedata.normalize("NFD", "josé"))
    assert Words(("Ωmega",)).found("ωMEGA")


def test_white_space_within_a_name_may_be_any() -> None:
    assert Words(("Alice  Smith",)).found("alice\n  smith")
    assert not Words(("Alice Smith",)).found("alicesmith")


def test_each_of_several_identifiers_is_replaced() -> None:
    assert Words(("alice", "ann@x.org")).replaced("Alice <ann@x.org>, malice") == "[erased] <[erased]>, malice"


@pytest.mark.parametrize("given", ["ab", "  a ", "x" * 321, "al\x00ice", "...", "---@", "default", "API", "[erased]"])
def test_an_identifier_that_stands_for_nobody_is_refused_without_being_repeated(given: str) -> None:
    with pytest.raises(BadDataError) as refused:
        checked_identifiers([given])
    assert given.strip() not in refused.value.message or len(given.strip()) < 3


def test_no_identifier_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        checked_identifiers(["", "  "])


def test_the_same_identifier_twice_is_one() -> None:
    assert checked_identifiers(["Alice", " alice ", "ALICE"]) == ("ALICE",)


@pytest.mark.parametrize("value", ["", "short"])
def test_without_a_key_nothing_is_erased(value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        erasure_key({"RAE_ERASURE_KEY": value})
    assert refused.value.hint


def test_the_hash_is_of_the_tenant_the_key_and_the_normal_form() -> None:
    def label(tenant: object, identifier: str, key: bytes) -> str:
        return subject_of(tenant, [identifier], key).label  # type: ignore[arg-type]

    mine = label(TENANT, "Alice", _KEY)
    assert mine == label(TENANT, "ALICE", _KEY)
    assert len({mine, label(OTHER, "Alice", _KEY), label(TENANT, "Alice", _KEY + b"x"), label(TENANT, "Bob", _KEY)}) == 4
    assert "alice" not in repr(subject_of(TENANT, ["Alice"], _KEY)).lower()


@pytest.mark.parametrize("identifier", ["alice", "Alice\tSmith", 'the "a"', "o\\b ab", "éa b"])
def test_what_is_named_in_json_passes_the_glance_at_its_text(identifier: str) -> None:
    words = Words((identifier,))
    written = json.dumps([f"x\n{identifier}\ty", {identifier.replace(" ", "\n"): 1}], ensure_ascii=False)
    assert re.search(words.hint, written)
    assert not words.hint or not re.search(words.hint, '["bob"]')
