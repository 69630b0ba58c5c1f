"""The values: complete, documented, and refused with their place when wrong."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.charts import CHART, Chart

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def test_the_chart_passes_helms_strict_lint(helm_binary: Path) -> None:
    done = subprocess.run([helm_binary, "lint", "--strict", CHART], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"shedule": 1}, "additional properties 'shedule' not allowed"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"tasks": {"decay": {"shedule": "@daily"}}}, "at '/tasks/decay': additional properties 'shedule' not allowed"),
        ({"tasks": {"decay": {"schedule": "daily"}}}, "/tasks/decay/schedule"),
        ({"tasks": {"decay": {"schedule": "TZ=UTC 0 * * * *"}}}, "/tasks/decay/schedule"),
        ({"tasks": {"decay": {"backoffLimit": -1}}}, "/tasks/decay/backoffLimit"),
        ({"tasks": {"mine": {"args": ["decay"]}}}, "at '/tasks/mine': missing property 'schedule'"),
        ({"tasks": {"Mine": {"schedule": "@daily"}}}, "additional properties 'Mine' not allowed"),
        ({"time": {"softLimitSeconds": "540s"}}, "/time/softLimitSeconds"),
        ({"operator": {"port": 80}}, "/operator/port"),
        ({"extraEnv": [{"name": "A", "value": 1}]}, "at '/extraEnv/0/value': got number, want string"),
        ({"llm": {"provider": "claude"}}, "value must be one of 'local', 'openai', 'ml-service'"),
        ({"watchNamespaces": ["Not_A_Name"]}, "/watchNamespaces/0"),
        ({"admission": {"grants": [{"tenants": ["a"]}]}}, "missing property 'subjects'"),
        ({"demo": {"postgres": {"size": "big"}}}, "/demo/postgres/size"),
        ({"requests": {"resources": {"limits": {"memory": "1 GB"}}}}, "/requests/resources/limits/memory"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(chart: Chart, values: dict[str, Any], place: str) -> None:
    assert place in chart.refusal(values)


def test_the_schema_knows_every_value_and_no_other() -> None:
    assert _paths(VALUES) == _schema_paths(SCHEMA)


def test_no_part_of_the_schema_lets_an_unknown_name_pass() -> None:
    # A name without a kind is one that Kubernetes defines; its API server checks what is in it.
    for node in _nodes(SCHEMA):
        if "properties" in node:
            assert node["additionalProperties"] is False


def test_every_value_has_a_line_that_explains_it_or_a_neighbours_that_does() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    top = [number for number, line in enumerate(lines) if re.match(r"^[a-zA-Z]+:", line)]
    assert len(top) == len(VALUES)
    for number in top:
        assert lines[number - 1].startswith("#"), f"nothing explains {lines[number]!r}"


SWITCHES = (
    {"demo": {"enabled": True}},
    {"networkPolicy": {"enabled": True}},
    {"operator": {"enabled": False}},
    {"watchNamespaces": ["other"]},
    {"migrate": {"enabled": False}},
    {"database": {"host": "db"}},
    {"admission": {"grants": [{"tenants": ["*"], "subjects": [{"kind": "User", "name": "api"}]}]}},
)


#: None, each alone, each two together, and all.
COMBINATIONS = [chosen for size in (0, 1, 2, len(SWITCHES)) for chosen in combinations(SWITCHES, size)]


@pytest.mark.parametrize("chosen", COMBINATIONS, ids=lambda chosen: "+".join(next(iter(switch)) for switch in chosen) or "none")
def test_every_combination_renders_to_distinct_objects(chart: Chart, chosen: tuple[dict[str, Any], ...]) -> None:
    values = {name: value for switch in chosen for name, value in switch.items()}
    manifests = chart.render(values).manifests
    identities = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests]
    assert len(identities) == len(set(identities))
    assert all(m["metadata"]["labels"]["app.kubernetes.io/instance"] == "rae-tasks" for m in manifests)


def _paths(values: dict[str, Any]) -> set[str]:
    found = set()
    for key, value in values.items():
        # Maps with free keys, or a part of Kubernetes' own API.
        if isinstance(value, dict) and value and key not in ("tasks", "settings", "resources", "securityContext"):
            found |= {f"{key}.{below}" for below in _paths(value)}
        else:
            found.add(key)
    return found


def _schema_paths(schema: dict[str, Any]) -> set[str]:
    found = set()
    for key, value in schema["properties"].items():
        if key == "global":
            continue
        if "properties" in value:
            found |= {f"{key}.{below}" for below in _schema_paths(value)}
        else:
            found.add(key)
    return found


def _nodes(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [below for item in node for below in _nodes(item)]
    if not isinstance(node, dict):
        return []
    return [node, *(below for item in node.values() for below in _nodes(item))]
