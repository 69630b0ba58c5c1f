"""Drive one namespace of the test cluster with kubectl, as a person would, and keep what it holds when a test fails."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.access import Cluster, check_ours

COMMAND_SECONDS = 180
KEPT_KINDS = ("pods", "jobs", "cronjobs", "deployments", "statefulsets", "services", "persistentvolumeclaims", "configmaps")
OUR_GROUP = "tasks.rae.dev"


@dataclass(frozen=True)
class Answer:
    """What a program said, and how it ended."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True)
class Namespace:
    """One test's own namespace."""

    cluster: Cluster
    name: str

    def run(self, program: str | Path, *words: str, text: str | None = None) -> Answer:
        """Run a program against this cluster, whatever kubeconfig the person at the keyboard has."""
        done = subprocess.run(
            [str(program), *words],
            input=text,
            text=True,
            capture_output=True,
            env=self.cluster.environment(),
            timeout=COMMAND_SECONDS,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def try_kubectl(self, *words: str, text: str | None = None) -> Answer:
        """kubectl within this namespace, for calls that are meant to fail."""
        return self.run(self.cluster.kubectl, f"--namespace={self.name}", *words, text=text)

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """kubectl within this namespace. Raises AssertionError with its message when it fails."""
        answer = self.try_kubectl(*words, text=text)
        assert answer.code == 0, f"kubectl {' '.join(words)}: {answer.errors.strip()}"
        return answer.output

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", text="\n".join(json.dumps(each) for each in objects))

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "--output=json"))

    def wait(self, condition: str, *what: str, seconds: int = 120) -> None:
        self.kubectl("wait", f"--for={condition}", f"--timeout={seconds}s", *what)

    def logs(self, *words: str) -> str:
        return self.kubectl("logs", *words)


def create_namespace(cluster: Cluster, name: str) -> Namespace:
    """Make it, in a cluster that is checked to be the tests' own."""
    check_ours(cluster)
    namespace = Namespace(cluster, name)
    namespace.kubectl("create", "namespace", name)
    return namespace


def keep_diagnostics(namespace: Namespace, folder: Path) -> None:
    """Write the namespace's events, objects, requests and logs into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _keep(namespace, folder / "events.txt", "get", "events", "--sort-by=.lastTimestamp")
    _keep(namespace, folder / "pods.txt", "describe", "pods")
    requests = namespace.try_kubectl("api-resources", f"--api-group={OUR_GROUP}", "--output=name").output.split()
    for kind in (*KEPT_KINDS, *requests):
        _keep(namespace, folder / f"{kind}.yaml", "get", kind, "--output=yaml")
    for pod in namespace.try_kubectl("get", "pods", "--output=name").output.split():
        name = pod.removeprefix("pod/")
        _keep(namespace, folder / f"{name}.log", "logs", name, "--all-containers", "--prefix", "--timestamps")
        _keep(namespace, folder / f"{name}.previous.log", "logs", name, "--all-containers", "--previous")


def _keep(namespace: Namespace, file: Path, *words: Sequence[str] | str) -> None:
    answer = namespace.try_kubectl(*(str(word) for word in words))
    if answer.output:
        file.write_text(answer.output)
