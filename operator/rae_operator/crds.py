"""Write the CustomResourceDefinitions from the models: `python -m rae_operator.crds [--check] [folder]`.

pydantic gives JSON Schema; Kubernetes wants a structural OpenAPI v3 schema: no references, no unions with null, no titles.
Rules between fields and between an object's old and new state are CEL, written here from the table of kinds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from rae_operator.api import CATEGORY, GROUP, VERSION
from rae_operator.api.status import RequestStatus
from rae_operator.kinds import KINDS, Kind

Schema = dict[str, Any]

#: `<name>-<uid8>-<attempt>` has at most 63 characters, the limit of the label that Kubernetes puts on a Job's pods.
MAX_NAME = 48
MUTABLE = frozenset({"suspend", "cancel", "priority"})
_KEPT = frozenset({
    "type", "format", "description", "default", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "maxProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
})  # fmt: skip

HEADER = "# Generated from operator/rae_operator/api by `make manifests`. Do not edit.\n"


def structural(model: type[Any]) -> Schema:
    """The structural schema of a pydantic model, with every reference inlined."""
    whole = model.model_json_schema(by_alias=True)
    return _convert(whole, whole.get("$defs", {}))


def _convert(node: Schema, definitions: Schema) -> Schema:
    node = _flatten(node, definitions)
    kept = {key: value for key, value in node.items() if key in _KEPT}
    if isinstance(kept.get("default", 0), dict):
        # Each property has its own default, so the empty object is enough and never goes stale.
        kept["default"] = {}
    if "properties" in node:
        kept["properties"] = {name: _convert(child, definitions) for name, child in node["properties"].items()}
        if node.get("required"):
            kept["required"] = sorted(node["required"])
    elif isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _convert(node["additionalProperties"], definitions)
    if "items" in node:
        kept["items"] = _convert(node["items"], definitions)
    return kept


def _flatten(node: Schema, definitions: Schema) -> Schema:
    """Resolve a reference, drop the null of an optional field; what stands beside either wins."""
    node = dict(node)
    options = [o for o in node.pop("anyOf", ()) if o.get("type") != "null"]
    if options:
        node = {**_flatten(options[0], definitions), **node}
    if "$ref" in node:
        target = definitions[node.pop("$ref").rsplit("/", 1)[-1]]
        node = {**_flatten(target, definitions), **node}
    if node.get("default", 0) is None:
        del node["default"]
    if "const" in node:
        node["enum"] = [node.pop("const")]
    return node


def spec_rules(kind: Kind, spec: Schema) -> list[Schema]:
    """CEL rules of `spec`: what excludes what, and what may change."""
    rules = [
        {
            "rule": f"!(has(self.{e.first}) && has(self.{e.second}))",
            "message": f"spec.{e.first} and spec.{e.second} exclude each other",
            "fieldPath": f".{e.second}",
            "reason": "FieldValueForbidden",
        }
        for e in kind.exclusions
    ]
    rules += [_immutable(name, "default" in spec["properties"][name] or name in spec["required"]) for name in _frozen(spec)]
    rules.append(
        {
            "rule": "!oldSelf.cancel || self.cancel",
            "message": "spec.cancel cannot be taken back; make a new request",
            "fieldPath": ".cancel",
            "reason": "FieldValueForbidden",
        }
    )
    return rules


def _frozen(spec: Schema) -> list[str]:
    return [name for name in spec["properties"] if name not in MUTABLE]


def _immutable(name: str, always_there: bool) -> Schema:
    both = f"self.{name} == oldSelf.{name}"
    optional = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {both})"
    return {
        "rule": both if always_there else optional,
        "message": f"spec.{name} is immutable; make a new request",
        "fieldPath": f".{name}",
        "reason": "FieldValueForbidden",
    }


def status_rules() -> list[Schema]:
    """CEL rules of `status`: an end is an end."""
    ended = "c.type in ['Complete', 'Failed', 'Finished'] && c.status == 'True'"
    return [
        {
            "rule": f"!has(oldSelf.conditions) || oldSelf.conditions.all(c, !({ended}) || (has(self.conditions) && "
            "self.conditions.exists(d, d.type == c.type && d.status == 'True' && d.reason == c.reason)))",
            "message": "a terminal condition never changes",
        },
        {
            "rule": "!has(oldSelf.phase) || !(oldSelf.phase in ['Complete', 'Failed']) || "
            "(has(self.phase) && self.phase == oldSelf.phase)",
            "message": "a terminal phase never changes",
        },
        {
            "rule": "!has(self.conditions) || !(self.conditions.exists(c, c.type == 'Complete' && c.status == 'True') && "
            "self.conditions.exists(c, c.type == 'Failed' && c.status == 'True'))",
            "message": "a request is Complete or Failed, not both",
        },
    ]


def root_rules() -> list[Schema]:
    """CEL rules of the whole object."""
    return [
        {
            "rule": f"self.metadata.name.size() <= {MAX_NAME}",
            "message": f"metadata.name has more than {MAX_NAME} characters; its Jobs' names would not fit",
        },
        {
            "rule": "!self.metadata.name.contains('.')",
            "message": "metadata.name contains a dot; it becomes part of the Jobs' and pods' names",
        },
        {
            "rule": "!has(oldSelf.status) || !has(oldSelf.status.phase) || "
            "!(oldSelf.status.phase in ['Complete', 'Failed']) || has(self.status)",
            "message": "the status of a finished request cannot be removed",
        },
    ]


def _column(name: str, path: str, kind: str = "string", priority: int = 0, description: str = "") -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path}
    return {**column, **({"priority": priority} if priority else {}), **({"description": description} if description else {})}


COLUMNS = [
    _column("Phase", ".status.phase"),
    _column("Reason", ".status.reason"),
    _column("Tenant", ".spec.tenantId"),
    _column("Project", ".spec.project"),
    _column("Attempts", ".status.attempts", "integer"),
    _column("Progress", ".status.progress"),
    _column("Started", ".status.startTime", "date"),
    _column("Duration", ".status.duration"),
    _column("Age", ".metadata.creationTimestamp", "date"),
    _column("Job", ".status.jobName", priority=1),
    _column("Message", ".status.message", priority=1),
]
SELECTABLE = [".status.phase", ".spec.tenantId", ".spec.project"]


def definition(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind."""
    spec = structural(kind.spec)
    spec["x-kubernetes-validations"] = spec_rules(kind, spec)
    status = structural(RequestStatus)
    status["x-kubernetes-validations"] = status_rules()
    # Status fields carry Python's defaults, which would make the API server write them on every new object.
    for field in status["properties"].values():
        field.pop("default", None)
    root = {
        "type": "object",
        "description": kind.spec.__doc__,
        "required": ["spec"],
        "x-kubernetes-validations": root_rules(),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": COLUMNS,
                    "selectableFields": [{"jsonPath": path} for path in SELECTABLE],
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


class _Plain(yaml.SafeDumper):
    """YAML without anchors: the same list twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> dict[str, str]:
    """The files, by name."""
    return {
        f"{GROUP}_{kind.plural}.yaml": HEADER
        + yaml.dump(definition(kind), Dumper=_Plain, sort_keys=False, width=130, allow_unicode=True)
        for kind in KINDS
    }


def stale(folder: Path) -> list[str]:
    """Names of the files in `folder` that are missing, differ, or belong to no kind any more."""
    wanted = render()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(argv: list[str] | None = None) -> int:
    """Write the files, or with --check only compare; 1 when a file is stale."""
    parser = argparse.ArgumentParser(prog="python -m rae_operator.crds", description="Write the CRDs from the models.")
    parser.add_argument("folder", nargs="?", default="k8s/crds", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when a file is stale")
    arguments = parser.parse_args(argv)
    names = stale(arguments.folder)
    if arguments.check:
        for name in names:
            print(f"{arguments.folder / name} is stale: run `make manifests`", file=sys.stderr)
        return int(bool(names))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    wanted = render()
    for name in names:
        path = arguments.folder / name
        if name in wanted:
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
