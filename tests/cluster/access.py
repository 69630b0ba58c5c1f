"""The running cluster as the tests, the demo and a person use it, whichever way it was made."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import containerd, kind, layout, native
from tests.cluster.commands import run
from tests.cluster.errors import ClusterError
from tests.cluster.layout import NEWEST, VERSIONS, cache_folder
from tests.cluster.locks import exclusively
from tests.cluster.programs import HELM, build
from tests.cluster.progress import step

OUR_CONTEXTS = (layout.CONTEXT, kind.CONTEXT)


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up, and the programs to drive it."""

    kubeconfig: Path
    kubectl: Path
    by_kind: bool

    @property
    def node_ip(self) -> str:
        """The address at which a pod reaches a server of this machine's. Raises ClusterError under kind."""
        if self.by_kind:
            gateway = ["docker", "network", "inspect", "kind", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
            return run(gateway).strip()
        return layout.NODE_IP

    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to find this cluster and no other."""
        path = os.pathsep.join([str(self.kubectl.parent), os.environ.get("PATH", "")])
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}


def wanted_version(asked: str | None = None) -> str:
    """The version of Kubernetes to run. Raises ClusterError for one that is not prepared."""
    version = asked or os.environ.get("RAE_TEST_KUBERNETES") or NEWEST
    if version not in VERSIONS:
        raise ClusterError(f"Kubernetes {version} is not prepared here; choose one of {', '.join(VERSIONS)}")
    return version


def up(version: str) -> Cluster:
    if kind.available():
        kind.up(version)
    else:
        native.up(version)
    return current()


def down(*, force: bool = False) -> None:
    if kind.available():
        kind.down()
    else:
        native.down(force=force)


def current() -> Cluster:
    """The running cluster. Raises ClusterError when there is none, or its kubeconfig points elsewhere."""
    if kind.available():
        found = Cluster(kind.KUBECONFIG, kind.kubectl(), by_kind=True)
    else:
        found = Cluster(layout.KUBECONFIG, Path(native.programs_of_running()["kubectl"]), by_kind=False)
    check_ours(found)
    return found


def check_ours(cluster: Cluster) -> None:
    """Raises ClusterError unless the kubeconfig's context is one that this package made."""
    command = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}", "config", "view", "--output=json"]
    context = json.loads(run(command)).get("current-context", "")
    if context not in OUR_CONTEXTS:
        raise ClusterError(f"refusing to touch the context {context!r}: the tests' own are {', '.join(OUR_CONTEXTS)}")


def helm(cluster_by_kind: bool | None = None) -> Path:
    """The helm to use: the machine's own beside kind, ours otherwise."""
    by_kind = kind.available() if cluster_by_kind is None else cluster_by_kind
    found = shutil.which("helm") if by_kind else None
    return Path(found) if found else build(HELM) / "helm"


def load(image: str, archive: Path | None = None) -> None:
    """Give the cluster an image that was built here, unless it has it already."""
    if kind.available():
        kind.load(image)
        return
    with exclusively(cache_folder() / "locks" / "load.lock", "it loads an image"):
        _load_native(image, archive)


def _load_native(image: str, archive: Path | None) -> None:
    programs = native.programs_of_running()
    identity = "" if archive else _image_id(image)
    if identity and containerd.has_image(programs, image, identity):
        return
    with step(f"loading {image} into the cluster"):
        if archive:
            containerd.import_archive(programs, archive)
            return
        with tempfile.TemporaryDirectory(dir=layout.STATE) as folder:
            exported = Path(folder, "image.tar")
            # Of the formats both sides know, the one without compression: it takes half the time.
            run(["buildah", "push", "--quiet", image, f"docker-archive:{exported}:{image}"], seconds=600)
            containerd.import_archive(programs, exported)
            containerd.remember_image(image, identity)


def _image_id(image: str) -> str:
    try:
        return run(["buildah", "inspect", "--type=image", "--format={{.FromImageID}}", image]).strip()
    except ClusterError:
        raise ClusterError(f"there is no image {image} here; build it first (make image)") from None
