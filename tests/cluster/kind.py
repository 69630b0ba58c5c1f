"""The same cluster by kind, where a Docker engine answers: a thin path, since kind does the work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.cluster.commands import run, stream, succeeds
from tests.cluster.errors import ClusterError
from tests.cluster.layout import NAME, NEWEST, cache_folder
from tests.cluster.programs import KIND, build
from tests.cluster.progress import say, step

CONTEXT = f"kind-{NAME}"
KUBECONFIG = cache_folder() / "kind" / "kubeconfig"


def available() -> bool:
    """Whether a Docker engine answers; the client alone, without an engine, does not count."""
    return shutil.which("docker") is not None and succeeds(["docker", "info"], seconds=20)


def create_command(kind: Path, version: str) -> list[str]:
    """The newest version is whatever node image this kind was released with; any other is named."""
    image = os.environ.get("RAE_TEST_KIND_IMAGE") or ("" if version == NEWEST else f"kindest/node:v{version}")
    command = [str(kind), "create", "cluster", "--name", NAME, "--wait", "180s", "--kubeconfig", str(KUBECONFIG)]
    return [*command, "--image", image] if image else command


def load_command(kind: Path, image: str) -> list[str]:
    return [str(kind), "load", "docker-image", "--name", NAME, image]


def delete_command(kind: Path) -> list[str]:
    return [str(kind), "delete", "cluster", "--name", NAME, "--kubeconfig", str(KUBECONFIG)]


def up(version: str) -> None:
    """Have a cluster of this name; one that answers already is kept."""
    if healthy():
        say(f"the kind cluster {NAME} is up already")
        return
    down()
    KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
    with step("creating a kind cluster") as creating:
        stream(create_command(_kind(), version), lambda line: setattr(creating, "detail", line.strip()))


def down() -> None:
    run(delete_command(_kind()), seconds=180)
    KUBECONFIG.unlink(missing_ok=True)


def healthy() -> bool:
    return KUBECONFIG.exists() and succeeds([kubectl(), f"--kubeconfig={KUBECONFIG}", "get", "--raw=/readyz"])


def load(image: str) -> None:
    run(load_command(_kind(), image), seconds=600)


def kubectl() -> Path:
    found = shutil.which("kubectl")
    if found is None:
        raise ClusterError("kubectl is not installed; kind's clusters are driven with your own")
    return Path(found)


def _kind() -> Path:
    found = shutil.which("kind")
    return Path(found) if found else build(KIND) / "kind"
