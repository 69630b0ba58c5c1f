"""A real control plane without a node: etcd, the API server and the controllers for Jobs and garbage, on loopback.

It starts in seconds and needs no privilege. Pods stay Pending, so a test plays the kubelet by writing a pod's status, which
makes every end of a pod reproducible, while the Job controller and the API server are the real ones.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ADMIN_TOKEN = "admin-token"
OPERATOR_TOKEN = "operator-token"
USERS = f'{ADMIN_TOKEN},admin,admin,"system:masters"\n{OPERATOR_TOKEN},rae-operator,rae-operator\n'
CONTROLLERS = ",".join(
    f"{name}-controller" for name in ("job", "garbage-collector", "namespace", "serviceaccount", "resourcequota")
)
#: More than the API server needs to wait for after its start, with other work on the machine.
START_SECONDS = 90


def find_program(name: str) -> str:
    """Path of a built Kubernetes program: from the folders in RAE_TEST_PROGRAMS, else from the test cluster's cache."""
    folders = os.environ.get("RAE_TEST_PROGRAMS", "")
    found = shutil.which(name, path=folders) if folders else None
    if found:
        return found
    from tests.cluster.layout import NEWEST
    from tests.cluster.programs import program

    return str(program(name, NEWEST))


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane: where it is and how to speak to it."""

    url: str
    folder: Path

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.folder / "admin.kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        """Of the user rae-operator, who may do nothing until a Role says so."""
        return self.folder / "operator.kubeconfig"


@contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """Start the programs, wait until they answer, and end them."""
    etcd, peer, api, manager = (_free_port() for _ in range(4))
    plane = ControlPlane(f"https://127.0.0.1:{api}", folder)
    _write_files(plane)
    with ExitStack() as running:
        running.enter_context(_process(folder, "etcd", _etcd(folder, etcd, peer)))
        running.enter_context(_process(folder, "kube-apiserver", _api_server(folder, etcd, api)))
        _wait(plane)
        running.enter_context(_process(folder, "kube-controller-manager", _manager(plane, manager)))
        yield plane


def _etcd(folder: Path, client: int, peer: int) -> list[str]:
    own, others = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    return [
        f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={own}", f"--advertise-client-urls={own}",
        f"--listen-peer-urls={others}", f"--initial-advertise-peer-urls={others}", f"--initial-cluster=default={others}",
        "--unsafe-no-fsync", "--log-level=warn",
    ]  # fmt: skip


def _api_server(folder: Path, etcd: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}", "--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={folder}",
        "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.231.0.0/24", "--authorization-mode=RBAC", f"--token-auth-file={folder / 'users.csv'}",
        f"--service-account-key-file={folder / 'sa.key'}", f"--service-account-signing-key-file={folder / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc", "--disable-admission-plugins=ServiceAccount",
    ]  # fmt: skip


def _manager(plane: ControlPlane, port: int) -> list[str]:
    return [
        f"--kubeconfig={plane.kubeconfig}", f"--controllers={CONTROLLERS}", "--leader-elect=false",
        "--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={plane.folder / 'manager'}",
        f"--authentication-kubeconfig={plane.kubeconfig}", f"--authorization-kubeconfig={plane.kubeconfig}",
    ]  # fmt: skip


def _write_files(plane: ControlPlane) -> None:
    plane.folder.mkdir(parents=True, exist_ok=True)
    (plane.folder / "users.csv").write_text(USERS)
    subprocess.run(
        ["openssl", "genrsa", "-out", plane.folder / "sa.key", "2048"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for path, token in ((plane.kubeconfig, ADMIN_TOKEN), (plane.operator_kubeconfig, OPERATOR_TOKEN)):
        path.write_text(json.dumps(_kubeconfig(plane.url, token)))


def _kubeconfig(url: str, token: str) -> dict[str, object]:
    # The API server makes a certificate of its own; on loopback there is nobody to tell it from.
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "rae-tasks-apiserver",
        "clusters": [{"name": "own", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "own", "user": {"token": token}}],
        "contexts": [{"name": "rae-tasks-apiserver", "context": {"cluster": "own", "user": "own", "namespace": "default"}}],
    }


@contextmanager
def _process(folder: Path, name: str, arguments: list[str]) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([find_program(name), *arguments], stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(plane: ControlPlane) -> None:
    import ssl

    context = ssl._create_unverified_context()
    request = Request(f"{plane.url}/readyz", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urlopen(request, timeout=2, context=context):
                return
        except (HTTPError, URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("the API server did not get ready:\n" + (plane.folder / "kube-apiserver.log").read_text()[-2000:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    with control_plane(Path(sys.argv[1])) as started:
        print(f"export KUBECONFIG={started.kubeconfig}", flush=True)
        sys.stdin.read()
