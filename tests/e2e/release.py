"""A release of the chart on the test cluster, driven by helm and kubectl as a user would."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scripts import image
from tests.kube import Namespace

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "rae-tasks"


def local_images(*, by_kind: bool) -> dict[str, str]:
    """Chart values that name the images built here; kind pulls the public ones of the demo by itself."""
    values = {"image.repository": "localhost/rae-tasks", "image.tag": "dev"}
    if by_kind:
        return values
    postgres, valkey = image.IMAGES["demo-data"].tags
    return {**values, "demo.postgres.image": postgres, "demo.valkey.image": valkey}


@dataclass(frozen=True)
class Release:
    """One installation of the chart.

    Attributes:
        namespace: where it is.
        helm: the helm program.
        name: of the release.
    """

    namespace: Namespace
    helm: Path
    name: str = "rae"

    @property
    def prefix(self) -> str:
        """What the names of the release's objects begin with."""
        return f"{self.name}-rae-tasks"

    def install(self, **values: str) -> None:
        """`helm install` with the images that were built here."""
        self._helm("install", {**local_images(by_kind=self.namespace.cluster.by_kind), **values})

    def upgrade(self, tree: Mapping[str, Any] | None = None, **values: str) -> None:
        """`helm upgrade` with some values changed and the others as before."""
        self._helm("upgrade", values, "--reuse-values", "--values=-", stdin=json.dumps(tree or {}))

    def uninstall(self) -> None:
        """`helm uninstall`, waiting for what it deletes."""
        self._run("uninstall", self.name, "--wait", "--timeout=2m")

    def _helm(self, verb: str, values: Mapping[str, str], *flags: str, stdin: str | None = None) -> None:
        sets = [f"--set={key.replace('__', '.')}={value}" for key, value in values.items()]
        # A demo on this cluster owns the CRDs, which outlive their release.
        self._run(verb, self.name, str(CHART), "--wait", "--timeout=170s", "--take-ownership", *flags, *sets, stdin=stdin)

    def _run(self, *words: str, stdin: str | None = None) -> None:
        answer = self.namespace.run(self.helm, "--namespace", self.namespace.name, *words, text=stdin)
        assert answer.code == 0, f"helm {' '.join(words[:2])}: {answer.output}{answer.errors}"

    def finished(self, kind: str, name: str, seconds: int = 170) -> dict[str, Any]:
        """Wait until a request is finished, as its author would, and return it."""
        self.namespace.wait("condition=Finished", f"{kind}/{name}", seconds=seconds)
        request: dict[str, Any] = self.namespace.get(kind, name)
        return request

    def sql(self, query: str) -> list[list[str]]:
        """Rows of a query on the demo's database, each value as text."""
        script = 'PGPASSWORD="$POSTGRES_PASSWORD" exec psql -h 127.0.0.1 -U rae -d rae -AtqX -F "|" -c "$1"'
        pod = f"{self.prefix}-demo-postgres-0"
        out = self.namespace.kubectl("exec", pod, "--", "sh", "-c", script, "psql", query)
        return [line.split("|") for line in out.splitlines()]

    def run_task(self, name: str, *arguments: str, cronjob: str = "decay") -> str:
        """Run `rae-jobctl` once in a pod like that of a CronJob, and return its log."""
        template = self.namespace.get("cronjob", f"{self.prefix}-{cronjob}")["spec"]["jobTemplate"]["spec"]
        template["template"]["spec"]["containers"][0]["args"] = list(arguments)
        self.namespace.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": template})
        until(lambda: ended(self.namespace.get("job", name)), f"job {name} ends", seconds=240)
        log = self.namespace.logs(f"job/{name}")
        self.namespace.kubectl("delete", "job", name)
        return log


def ended(job: Mapping[str, Any]) -> bool:
    """Whether a Job is complete or failed."""
    return any(condition(job, kind).get("status") == "True" for kind in ("Complete", "Failed"))


def condition(thing: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A condition of an object, empty when it has none of that type."""
    found: list[dict[str, Any]] = [c for c in thing.get("status", {}).get("conditions", []) if c["type"] == kind]
    return found[0] if found else {}


def until(look: Callable[[], T], what: str, seconds: float = 120) -> T:
    """Look until the answer is true; raises AssertionError that names what was waited for."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(1)
    return found
