"""Pytest fixtures on the real cluster: one cluster a test run, one namespace a test, and what a failed test leaves behind."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import image
from tests.cluster import access
from tests.cluster.access import Cluster
from tests.kube import Namespace, create_namespace, keep_diagnostics

REPOSITORY = Path(__file__).parent.parent
ARTIFACTS = REPOSITORY / "test-artifacts"
# Set to keep a cluster that the tests started.
KEEP = "RAE_TEST_KEEP"
FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def no_other_cluster() -> Iterator[None]:
    """Nothing that a test starts finds the kubeconfig of the person at the keyboard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", os.devnull)
        yield


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The real cluster; ended afterwards unless it was there before, or RAE_TEST_KEEP is set."""
    there_before = drive_cluster("status").returncode == 0
    assert drive_cluster("up").returncode == 0, "the test cluster did not start; its messages are above"
    yield access.current()
    if not there_before and not os.environ.get(KEEP):
        drive_cluster("down")


def drive_cluster(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `python3 -m tests.cluster` as a person would, showing its progress."""
    return subprocess.run([sys.executable, "-m", "tests.cluster", *words], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE)


@pytest.fixture(scope="session")
def product_image(cluster: Cluster) -> str:
    """The image of this checkout, built and in the cluster."""
    return _in_cluster("rae-tasks")


@pytest.fixture(scope="session")
def demo_images(cluster: Cluster) -> None:
    """The images of the demo's PostgreSQL and Valkey, in the cluster; kind pulls the public ones by itself."""
    if not cluster.by_kind:
        _in_cluster("demo-data")


def _in_cluster(name: str) -> str:
    image.build(name)
    tags = image.IMAGES[name].tags
    for tag in tags:
        access.load(tag)
    return tags[0]


@pytest.fixture(scope="session")
def helm(cluster: Cluster) -> Path:
    """The helm program."""
    return access.helm(cluster.by_kind)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the test's own. When the test fails, its events, objects and logs are kept under test-artifacts/."""
    made = create_namespace(cluster, f"{_as_name(request.node.name)}-{secrets.token_hex(3)}")
    yield made
    if request.node.stash.get(FAILED, False):
        folder = ARTIFACTS / _as_name(request.node.nodeid.replace("/", "-"), longest=120)
        keep_diagnostics(made, folder)
        print(f"kept: {folder}")
    made.try_kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report: pytest.TestReport = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


def _as_name(text: str, *, longest: int = 40) -> str:
    """A DNS label out of any text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().removeprefix("test_"))[:longest].strip("-")
