"""One control plane for all tests of this folder, a namespace for each test, and the operator as a process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver.client import Client, Refused, connect, eventually
from tests.apiserver.controlplane import ControlPlane, control_plane
from tests.apiserver.operator_process import OperatorProcess

ROOT = Path(__file__).parents[2]

StartOperator = Callable[..., OperatorProcess]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running control plane with the CRDs."""
    with control_plane(tmp_path_factory.mktemp("control-plane")) as running:
        with connect(running.url, "default") as client:
            _install_crds(client)
        yield running


def _install_crds(client: Client) -> None:
    for file in sorted((ROOT / "k8s" / "crds").glob("*.yaml")):
        body = yaml.safe_load(file.read_text())
        client.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
        plural = body["spec"]["names"]["plural"]
        eventually(lambda p=plural: _served(client, p), why=f"{plural} are served")  # type: ignore[misc]


def _served(client: Client, plural: str) -> bool:
    try:
        client.call("GET", client.requests(plural))
    except Refused:
        return False
    return True


@pytest.fixture
def client(plane: ControlPlane) -> Iterator[Client]:
    """The administrator in a namespace of the test's own, in which the operator may do what the docs say."""
    with connect(plane.url, f"t-{uuid.uuid4().hex[:8]}") as made:
        _prepare(made)
        yield made
        made.call("DELETE", f"/api/v1/namespaces/{made.namespace}")


def _prepare(made: Client) -> None:
    made.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}})
    for body in yaml.safe_load_all((ROOT / "tests/apiserver/role.yaml").read_text()):
        plural = body["kind"].lower() + "s"
        made.call("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{made.namespace}/{plural}", body)


@pytest.fixture
def start_operator(plane: ControlPlane, client: Client, tmp_path: Path) -> Iterator[StartOperator]:
    """Starts operators for the test's namespace and ends them."""
    started: list[OperatorProcess] = []

    def start(*, name: str = "operator", ready: bool = True, kubeconfig: Path | None = None, **settings: Any) -> OperatorProcess:
        made = OperatorProcess(tmp_path, kubeconfig or plane.operator_kubeconfig, client.namespace, settings, name)
        started.append(made)
        made.start(ready=ready)
        return made

    yield start
    for made in started:
        made.end()


@pytest.fixture
def operator(start_operator: StartOperator) -> OperatorProcess:
    """A running operator."""
    return start_operator()
