"""The example memories, and what the loader makes of them without a database."""

import json
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from rae_jobctl.dev.examples import (
    RECENT_MEMORIES,
    RECENT_SPAN,
    ExampleMemory,
    examples_folder,
    make_recent,
    read_examples,
    tenant_id_of,
)
from rae_jobctl.errors import BadDataError

EXAMPLES = Path(__file__).parents[2] / "examples"
NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
LINE: dict[str, Any] = {
    "id": "00000000-0000-0000-0000-000000000001",
    "tenant": "t",
    "project": "p",
    "layer": "episodic",
    "content": "Grace wrote a compiler.",
    "source": "s",
    "created_at": "2026-01-01T00:00:00+00:00",
    "tags": ["x"],
    "importance": 0.5,
    "agent_id": "a",
}


@pytest.fixture(scope="module")
def memories() -> list[ExampleMemory]:
    return read_examples(EXAMPLES / "memories")


def test_there_are_enough_memories_for_a_demo(memories: list[ExampleMemory]) -> None:
    per_project = Counter((memory.tenant, memory.project) for memory in memories)
    assert len(memories) >= 360
    assert len({tenant for tenant, _ in per_project}) >= 2
    assert len({project for _, project in per_project}) >= 3
    assert per_project["demo-tenant", "ai-research"] >= 120


def test_one_project_name_occurs_in_two_tenants_so_that_a_mix_up_shows(memories: list[ExampleMemory]) -> None:
    assert {memory.tenant for memory in memories if memory.project == "ai-research"} == {"demo-tenant", "acme-labs"}


def test_no_memory_holds_an_e_mail_address(memories: list[ExampleMemory]) -> None:
    assert [m.id for m in memories if re.search(r"[\w.+-]+@[\w-]+\.\w", m.content + m.source)] == []


def test_every_id_is_unique_and_made_from_a_name(memories: list[ExampleMemory]) -> None:
    assert len({memory.id for memory in memories}) == len(memories)
    assert {memory.id.version for memory in memories} == {5}


def test_no_tenant_has_the_same_text_twice(memories: list[ExampleMemory]) -> None:
    assert len({(memory.tenant, memory.content) for memory in memories}) == len(memories)


def test_every_text_is_40_to_600_characters_and_ends_like_a_sentence(memories: list[ExampleMemory]) -> None:
    assert [m.id for m in memories if not 40 <= len(m.content) <= 600] == []
    assert [m.id for m in memories if not re.search(r"[.!?)]$", m.content)] == []


def test_every_value_fits_into_raes_columns(memories: list[ExampleMemory]) -> None:
    assert max(len(memory.source) for memory in memories) <= 255
    assert {memory.layer for memory in memories} == {"episodic", "semantic"}
    assert all(0 <= memory.importance <= 1 for memory in memories)
    assert all(memory.created_at < NOW for memory in memories)


def test_sources_md_names_every_package_with_version_licence_and_count(memories: list[ExampleMemory]) -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (EXAMPLES / "SOURCES.md").read_text().splitlines()
        if re.match(r"\| [\w-]+( \(Debian\))? \| [\d:]", line)
    ]
    named = {(row[0].removesuffix(" (Debian)"), row[4]): int(row[5]) for row in rows}
    used = Counter((memory.tags[0], f"{memory.project} ({memory.tenant})") for memory in memories)
    assert named == used
    assert {row[2] for row in rows} <= {"BSD-3-Clause", "BSD-2-Clause", "MIT", "Apache-2.0", "PostgreSQL"}
    for row in rows:
        of_package = [memory.source for memory in memories if memory.tags[0] == row[0]]
        assert all(row[1] in source for source in of_package), row[0]


def test_an_example_tenant_has_the_same_id_everywhere() -> None:
    assert tenant_id_of("demo-tenant") == UUID("f21bd6a4-3bf9-5867-9878-cf9f24a2947f")


def test_a_checkout_finds_its_own_example_files() -> None:
    assert examples_folder().name == "memories"
    assert list(examples_folder().glob("*.jsonl"))


def test_recent_moves_the_newest_of_each_project_into_the_last_day(memories: list[ExampleMemory]) -> None:
    moved: dict[tuple[str, str], list[ExampleMemory]] = defaultdict(list)
    for memory in make_recent(memories, NOW):
        if memory.original_date:
            moved[memory.tenant, memory.project].append(memory)
    assert len(moved) == 4
    for of_project in moved.values():
        assert len(of_project) == min(
            RECENT_MEMORIES,
            sum((m.tenant, m.project) == (of_project[0].tenant, of_project[0].project) for m in memories),
        )
        assert max(memory.created_at for memory in of_project) == NOW
        assert min(memory.created_at for memory in of_project) >= NOW - RECENT_SPAN


def test_recent_keeps_order_and_proportions(memories: list[ExampleMemory]) -> None:
    moved = [m for m in make_recent(memories, NOW) if m.original_date and m.project == "web-platform"]
    by_old = sorted(moved, key=lambda m: (m.original_date or NOW, m.id))
    by_new = sorted(moved, key=lambda m: (m.created_at, m.id))
    assert by_old == by_new
    first, middle, last = by_old[0], by_old[30], by_old[-1]
    assert first.original_date and middle.original_date and last.original_date
    was = (last.original_date - middle.original_date) / (last.original_date - first.original_date)
    now = (last.created_at - middle.created_at) / (last.created_at - first.created_at)
    assert now == pytest.approx(was, abs=1e-6)


def test_recent_leaves_memories_of_one_moment_together() -> None:
    one = ExampleMemory(UUID(int=1), "t", "p", "episodic", "x", "s", NOW - timedelta(days=900), (), 0.5, "a")
    assert [m.created_at for m in make_recent([one, one], NOW)] == [NOW, NOW]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "no JSON"),
        ("[]", "missing or unknown fields"),
        (json.dumps({k: v for k, v in LINE.items() if k != "tenant"}), "tenant"),
        (json.dumps({**LINE, "colour": "red"}), "colour"),
        (json.dumps({**LINE, "id": "mem_123"}), "id, created_at, tags or importance"),
        (json.dumps({**LINE, "id": 7}), "id, created_at, tags or importance"),
        (json.dumps({**LINE, "created_at": "2026-01-01T00:00:00"}), "id, created_at, tags or importance"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number_without_its_text(tmp_path: Path, line: str, complaint: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(LINE) + "\n\n" + line + "\n")
    with pytest.raises(BadDataError, match=complaint) as refused:
        read_examples([file])
    assert refused.value.message.startswith("mine.jsonl:3")
    assert "Grace" not in refused.value.message


def test_an_empty_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"no \*\.jsonl file"):
        read_examples(tmp_path)
    with pytest.raises(BadDataError, match="cannot be read"):
        read_examples(tmp_path / "none.jsonl")


def test_the_request_manifests_keep_the_names_of_the_original_readme() -> None:
    found = {path.stem: yaml.safe_load(path.read_text()) for path in (EXAMPLES / "requests").glob("*.yaml")}
    assert {name: manifest["kind"] for name, manifest in found.items()} == {
        "graph-extraction-request": "GraphExtractionRequest",
        "reflection-request": "ReflectionRequest",
        "invalid-request": "GraphExtractionRequest",
        "wrong-tenant-request": "GraphExtractionRequest",
    }
    assert {manifest["apiVersion"] for manifest in found.values()} == {"tasks.rae.dev/v1alpha1"}
    assert {manifest["spec"]["project"] for manifest in found.values()} == {"ai-research"}
    assert found["reflection-request"]["spec"] == {
        "tenantId": "demo-tenant",
        "project": "ai-research",
        "since": "7d",
        "maxMemories": 50,
        "minClusterSize": 3,
    }
    assert found["graph-extraction-request"]["spec"] == {
        "tenantId": "demo-tenant",
        "project": "ai-research",
        "limit": 50,
        "minConfidence": 0.7,
    }


def _spec_schemas() -> dict[str, dict[str, Any]]:
    """The schema of `spec` in the installed CRDs, by kind."""
    found = [yaml.safe_load(path.read_text()) for path in (EXAMPLES.parent / "k8s" / "crds").glob("*.yaml")]
    return {
        crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for crd in found
    }


def _violations(spec: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """The fields of a spec that are unknown, too small, too large or of the wrong form."""
    wrong = [name for name in schema.get("required", []) if name not in spec]
    for name, value in spec.items():
        rule = schema["properties"].get(name)
        fits = rule is not None and (
            re.search(rule.get("pattern", ""), value) is not None
            if isinstance(value, str)
            else rule.get("minimum", value) <= value <= rule.get("maximum", value)
        )
        wrong += [] if fits else [name]
    return wrong


def test_the_request_manifests_fit_the_crds_except_for_the_one_mistake() -> None:
    schemas = _spec_schemas()
    for path in (EXAMPLES / "requests").glob("*.yaml"):
        manifest = yaml.safe_load(path.read_text())
        expected = ["minConfidence"] if path.stem == "invalid-request" else []
        assert _violations(manifest["spec"], schemas[manifest["kind"]]) == expected, path.name
