"""A termination message comes from a container and may be anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rae_operator.api.status import RequestStatus
from rae_operator.status import with_result
from rae_operator.termination import parse_hint
from tests.unit.operator.builders import a_request


def message(**fields: Any) -> str:
    return json.dumps({"version": 1, **fields})


def test_a_hint_is_read() -> None:
    hint = parse_hint(message(reason="Done", message="12 triples", counters={"triples": 12}, runs=["r"], result={"a": 1}))
    assert hint is not None
    assert (hint.reason, hint.message, hint.counters, hint.runs, hint.summary) == (
        "Done",
        "12 triples",
        {"triples": 12},
        ("r",),
        {"a": 1},
    )


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", "null", '{"version": 2}', "{}", "x" * 5000, "[" * 4000, '{"version":1,"a":']
)
def test_what_is_no_hint_of_our_version_is_none(text: str) -> None:
    assert parse_hint(text) is None


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"reason": "has a space"}, "reason", ""),
        ({"reason": "x" * 65}, "reason", ""),
        ({"reason": 5}, "reason", ""),
        ({"message": "two\nlines\x1b[31m"}, "message", "two lines [31m"),
        ({"message": "m" * 900}, "message", "m" * 511 + "…"),
        ({"counters": {"a": "1", "b": True, "c": 2, "d": 2.5, "e": 10**30}}, "counters", {"c": 2}),
        ({"counters": {str(n): n for n in range(50)}}, "counters", {str(n): n for n in range(32)}),
        ({"runs": ["a", 5, "", "x" * 65, *"bcdefghijk"]}, "runs", ("a", *"bcdefgh")),
        ({"result": {"big": "x" * 3000}}, "summary", {}),
        ({"result": ["no", "object"]}, "summary", {}),
    ],
)
def test_each_part_is_kept_within_its_bounds(fields: dict[str, Any], name: str, expected: Any) -> None:
    hint = parse_hint(message(**fields))
    assert hint is not None and getattr(hint, name) == expected


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c))
FIELDS = st.sampled_from(["reason", "message", "counters", "result", "runs", "task", "retryAfter"])


@given(st.dictionaries(FIELDS, JSON))
def test_whatever_a_container_writes_fits_the_status(fields: dict[str, Any]) -> None:
    status = with_result(RequestStatus(), a_request(), parse_hint(message(**fields)))
    assert len(status.model_dump_json().encode()) < 16 * 1024
