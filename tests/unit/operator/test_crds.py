"""The CRDs that are written from the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rae_operator import crds
from rae_operator.kinds import KINDS, Kind

FOLDER = Path(__file__).parents[3] / "k8s" / "crds"


def walk(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += walk(child, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            found += walk(schema[part], f"{path}[]")
    return found


def schema_of(kind: Kind) -> dict[str, Any]:
    root: dict[str, Any] = crds.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def test_the_files_are_what_the_models_say() -> None:
    assert crds.stale(FOLDER) == [], "run `make manifests`"


def test_a_stale_a_missing_and_a_left_over_file_are_found_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crds.main([str(tmp_path)]) == 0
    first, second = sorted(tmp_path.iterdir())
    first.write_text("kind: Nothing\n")
    second.unlink()
    (tmp_path / "old.yaml").write_text("")
    assert crds.main([str(tmp_path), "--check"]) == 1
    assert "old.yaml is stale: run `make manifests`" in capsys.readouterr().err
    assert crds.main([str(tmp_path)]) == 0
    assert crds.main([str(tmp_path), "--check"]) == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_every_text_and_list_has_an_upper_bound(kind: Kind) -> None:
    for path, schema in walk(schema_of(kind)):
        if path.split(".")[1:2] not in (["spec"], ["status"]):
            continue
        if schema.get("type") == "string" and "enum" not in schema:
            assert "maxLength" in schema, path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path
        if schema.get("type") in ("integer", "number") and path.startswith(".spec"):
            assert {"minimum", "maximum"} <= schema.keys(), path


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_the_schema_is_structural(kind: Kind) -> None:
    for path, schema in walk(schema_of(kind)):
        assert not {"$ref", "$defs", "anyOf", "title", "const"} & schema.keys(), path
        assert not ("properties" in schema and "additionalProperties" in schema), path
        assert "type" in schema, path


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_every_field_of_the_spec_is_immutable_but_three(kind: Kind) -> None:
    spec = schema_of(kind)["properties"]["spec"]
    rules = {r["fieldPath"].removeprefix(".") for r in spec["x-kubernetes-validations"] if "immutable" in r["message"]}
    assert rules == spec["properties"].keys() - {"suspend", "cancel", "priority"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_a_task_is_given_only_fields_that_its_kind_has(kind: Kind) -> None:
    properties = schema_of(kind)["properties"]["spec"]["properties"]
    assert set(kind.task_fields) <= properties.keys()
    assert {name for e in kind.exclusions for name in (e.first, e.second)} <= properties.keys()
    assert not {"suspend", "cancel", "retry"} & set(kind.task_fields)
