"""Reads a prompt as a model would: finds the items that stand behind the boundary, and answers from their text alone.

A prompt that leaves an item out, merges two or numbers them wrongly therefore gives a wrong graph.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BOUNDARY = re.compile(r"Boundary: ([0-9a-f]{8})\. Items: (\d+)\.")
#: The only grammar that the fake knows: "Alice uses Redis", "Bob works at Acme".
_FACT = re.compile(
    r"\b([A-Z][\w-]*(?: [A-Z][\w-]*)*) (uses|works at|maintains|depends on|prefers|joined|owns) "
    r"((?:[A-Z][\w-]*)(?: [A-Z][\w-]*)*)"
)
_VERBS = {
    "uses": "USE",
    "works at": "WORK_AT",
    "maintains": "MAINTAIN",
    "depends on": "DEPEND_ON",
    "prefers": "PREFER",
    "joined": "JOIN",
    "owns": "OWN",
}


def items(user: str) -> dict[int, str]:
    """The items of a prompt by number."""
    head = _BOUNDARY.search(user)
    if head is None:
        raise ValueError("the prompt names no boundary")
    mark, count = head.group(1), int(head.group(2))
    found = dict((int(n), text) for n, text in re.findall(rf"^{mark} (\d+) \| (.*)$", user, re.MULTILINE))
    if sorted(found) != list(range(1, count + 1)):
        raise ValueError(f"the prompt announces {count} items and has {sorted(found)}")
    return found


def facts(text: str) -> list[tuple[str, str, str, str]]:
    """(subject, predicate, object, quotation) of each fact that the fake understands."""
    return [(m.group(1), _VERBS[m.group(2)], m.group(3), m.group(0)) for m in _FACT.finditer(text)]


def answer(schema_name: str, user: str) -> Mapping[str, Any]:
    """The answer to a prompt of the schema with this name."""
    numbered = items(user)
    if schema_name == "triples":
        return {"t": [_triple(n, *fact) for n, text in numbered.items() for fact in facts(text)]}
    if schema_name == "insights":
        texts = [text for text in numbered.values()]
        return {"insights": [{"text": f"Seen together: {texts[0][:80]}", "evidence": sorted(numbered)[:3], "confidence": 0.8}]}
    return {
        "summary": f"{len(numbered)} findings, first: {numbered[1][:80]}",
        "suggested_actions": ["Look at the first finding"],
        "novelty": 0.6,
        "importance": 0.8,
        "utility": 0.7,
        "confidence": 0.9,
    }


def _triple(number: int, subject: str, predicate: str, target: str, quotation: str) -> dict[str, Any]:
    return {"i": number, "s": subject, "st": "PERSON", "p": predicate, "o": target, "ot": "OTHER", "q": quotation, "c": 0.95}


def schema_of(request: Mapping[str, Any]) -> str:
    """Which answer a request asks for, by its strict schema or by the one written into the system message."""
    wanted = request.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        assert wanted["json_schema"]["strict"] is True
        return str(wanted["json_schema"]["name"])
    system = request["messages"][0]["content"]
    schema = json.loads(system[system.rindex("matches this schema:\n") :].partition("\n")[2])
    names = set(schema["properties"])
    return "triples" if "t" in names else "insights" if "insights" in names else "reflection"
