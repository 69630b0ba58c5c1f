"""What the offline extractor reads from a sentence, and what it leaves alone."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from rae_jobctl.llm.local_provider import LocalProvider
from rae_jobctl.llm.text import MAX_EVIDENCE
from rae_jobctl.llm.types import EntityType, Memory, Triple


def read(text: str) -> list[Triple]:
    return list(asyncio.run(LocalProvider().extract([Memory(uuid4(), text)])).triples)


def facts(text: str) -> set[tuple[str, str, str]]:
    return {(t.subject, t.predicate, t.object) for t in read(text)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Alice Johnson works at Acme Corporation.", ("alice johnson", "WORK_AT", "acme corporation")),
        ("The deploy pipeline depends on Terraform and GitHub Actions.", ("deploy pipeline", "DEPEND_ON", "github actions")),
        ("PostgreSQL was migrated by Bob to Kubernetes.", ("bob", "MIGRATE", "postgresql")),
        ("PostgreSQL was migrated by Bob to Kubernetes.", ("postgresql", "MIGRATED_TO", "kubernetes")),
        ("Marie Curie, a physicist from Warsaw, won the Nobel Prize.", ("marie curie", "IS_A", "physicist")),
        ("Berlin is the capital of Germany.", ("berlin", "IS_CAPITAL_OF", "germany")),
        ("Acme acquired Globex and hired Dana.", ("acme", "HIRE", "dana")),
        ("Bob and Carol maintain the API gateway.", ("carol", "MAINTAIN", "api gateway")),
        ("Bob does not use Docker.", ("bob", "NOT_USE", "docker")),
        ("Bob no longer uses Docker.", ("bob", "NO_LONGER_USE", "docker")),
        ("Bob uses Docker. He prefers Podman.", ("bob", "PREFER", "podman")),
        ("Acme's CTO Dana Lee approved the budget.", ("dana lee", "APPROVE", "budget")),
        ("Omar joined Initech as an analyst.", ("omar", "IS_A", "analyst")),
        ("The council appointed Ruth Bader as treasurer.", ("ruth bader", "IS_A", "treasurer")),
        ("Omar is allergic to wasps.", ("omar", "IS_ALLERGIC_TO", "wasps")),
        ("Omar moved the archive from Oracle to PostgreSQL.", ("omar", "MOVE_TO", "postgresql")),
        ("The export failed because of a timeout.", ("export", "FAIL_BECAUSE_OF", "timeout")),
        ("Omar signed a contract with Initech.", ("omar", "SIGN_WITH", "initech")),
        ("Omar met Dana to review the budget.", ("omar", "REVIEW", "budget")),
        ("Acme hired Omar to audit the ledger.", ("omar", "AUDIT", "ledger")),
        ("Omar wrote the script and tested it.", ("omar", "TEST", "script")),
        ("The client supports Linux, macOS and Windows.", ("client", "SUPPORT", "windows")),
        ("The user likes jazz.", ("user", "LIKE", "jazz")),
        (
            "Tighten security checks in planner estimation functions (Dean Rasheed)",
            ("dean rasheed", "TIGHTEN", "security checks"),
        ),
    ],
)
def test_it_reads(text: str, expected: tuple[str, str, str]) -> None:
    assert expected in facts(text)


@pytest.mark.parametrize("text", ["hello there", "Does Bob use Docker?", "thanks a lot!", "12 34 56", "...", "", "Fix the build"])
def test_it_finds_nothing_where_nothing_is_stated(text: str) -> None:
    assert facts(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "Bob might use Docker.",
        "Bob will use Docker.",
        "Bob does not use Docker.",
        "Bob never used Docker.",
        "Bob plans to use Docker.",
        "If Acme agrees, Bob uses Docker.",
        "Perhaps Bob uses Docker.",
    ],
)
def test_what_is_denied_hedged_intended_or_conditional_falls_below_the_default_threshold(text: str) -> None:
    triples = read(text)
    assert all(triple.confidence < 0.7 for triple in triples)


def test_lists_mend_the_types_that_the_model_gets_wrong() -> None:
    types = {t.object: t.object_type for t in read("Carol uses PostgreSQL. Carol joined Initech Inc in May. Carol met Alice.")}
    assert types["postgresql"] is EntityType.TECHNOLOGY
    assert types["initech inc"] is EntityType.ORGANIZATION
    assert types["alice"] is EntityType.PERSON


def test_evidence_of_a_long_sentence_is_the_part_around_its_verb() -> None:
    text = "Alice uses Redis " + ", and also something that goes on and on" * 20 + "."
    triples = [t for t in read(text) if t.object == "redis"]
    assert triples
    assert all(len(t.evidence) <= MAX_EVIDENCE and "Alice uses Redis" in t.evidence for t in triples)


def test_the_same_text_gives_the_same_triples() -> None:
    text = "Bob and Carol maintain the API gateway, which is written in Go. It depends on Redis."
    assert facts(text) == facts(text)
