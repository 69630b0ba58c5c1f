"""Which memories are worth a call."""

from __future__ import annotations

import pytest

from rae_jobctl.tasks.extraction.gate import has_content


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hi!",
        "Hello there, good morning.",
        "ok, thanks",
        "Thanks for your help!",
        "👍👍",
        "12:30",
        "Hey!\nHow are you today?",
        "Done.",
    ],
)
def test_small_talk_holds_no_fact(text: str) -> None:
    assert not has_content(text)


@pytest.mark.parametrize(
    "text",
    [
        "Hi, Alice uses Redis.",
        "Meeting with Sarah about Q3 roadmap",
        "Thanks, Bob fixed it",
        "Привет, Анна работает в Acme",
        "v2.1 ok",
    ],
)
def test_anything_else_may(text: str) -> None:
    assert has_content(text)
