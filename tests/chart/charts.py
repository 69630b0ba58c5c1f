"""The chart as a test sees it: rendered by the real helm, parsed, and asked for objects."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "rae-tasks"

Manifest = dict[str, Any]


class Refused(Exception):
    """helm would not render; the text is what it said."""


@dataclass(frozen=True)
class Rendered:
    """The objects of one rendering."""

    manifests: tuple[Manifest, ...]

    def all(self, kind: str) -> list[Manifest]:
        """Every object of a kind."""
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        """The names of the objects of a kind."""
        return {manifest["metadata"]["name"] for manifest in self.all(kind)}

    def one(self, kind: str, name: str, namespace: str | None = None) -> Manifest:
        """The object of that name; with several namespaces, the one in the namespace given."""
        found = [
            manifest
            for manifest in self.all(kind)
            if manifest["metadata"]["name"] == name and namespace in (None, manifest["metadata"].get("namespace"))
        ]
        assert len(found) == 1, f"{len(found)} objects {kind}/{name}; there are {sorted(self.names(kind))}"
        return found[0]

    def operator_settings(self) -> dict[str, Any]:
        """The operator's settings file, parsed."""
        text = self.one("ConfigMap", "rae-tasks-operator")["data"]["settings.yaml"]
        return dict(yaml.safe_load(text))


@dataclass(frozen=True)
class Chart:
    """Renders the chart under values, each once; the release is `rae-tasks` in namespace `rae` unless it is said otherwise."""

    helm: Path
    seen: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def render(self, values: Mapping[str, Any] | None = None, *flags: str, release: str = "rae-tasks") -> Rendered:
        """Render all templates. Raises Refused when helm does not."""
        output = self._run("template", release, values, *flags)
        return Rendered(tuple(manifest for manifest in yaml.safe_load_all(output) if manifest))

    def notes(self, values: Mapping[str, Any] | None = None) -> str:
        """What a person reads after the installation."""
        output = self._run("install", "rae-tasks", values, "--dry-run=client")
        return output.partition("NOTES:\n")[2]

    def refusal(self, values: Mapping[str, Any], release: str = "rae-tasks") -> str:
        """What helm says when it does not render; the test fails when it does."""
        try:
            self.render(values, release=release)
        except Refused as refused:
            return str(refused)
        raise AssertionError(f"helm accepts {values}")

    def _run(self, verb: str, release: str, values: Mapping[str, Any] | None, *flags: str) -> str:
        command: list[str | Path] = [self.helm, verb, release, CHART, "--namespace=rae", "--values=-", *flags]
        text = yaml.safe_dump(dict(values or {}))
        # No kubeconfig: what the tests see must not depend on a cluster that happens to be near.
        env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "KUBECONFIG": "/dev/null"}
        key = repr((verb, release, text, flags))
        if key in self.seen:
            return self.seen[key]
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=env)
        if done.returncode:
            raise Refused(done.stderr)
        self.seen[key] = done.stdout
        return done.stdout


def container(job_spec: Manifest) -> Manifest:
    """The one container of a Job's (or Deployment's) pods."""
    containers = job_spec["template"]["spec"]["containers"]
    assert len(containers) == 1
    return dict(containers[0])


def job_spec(cronjob: Manifest) -> Manifest:
    """The Job that a CronJob makes."""
    return dict(cronjob["spec"]["jobTemplate"]["spec"])


def environment(container: Manifest) -> dict[str, Any]:
    """The variables by name: a value, or where it comes from. A name that is there twice fails the test."""
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names)), f"a variable is there twice: {names}"
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


def pod_templates(rendered: Rendered) -> dict[str, Manifest]:
    """Every template of a pod, by kind and name."""
    found = {}
    for manifest in rendered.manifests:
        spec = manifest.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", {}).get("template") or spec.get("template")
        if template:
            found[f"{manifest['kind']}/{manifest['metadata']['name']}"] = template
    return found
