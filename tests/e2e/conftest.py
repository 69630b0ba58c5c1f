"""One release of the chart, with its demo database, for the tests of this folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.access import Cluster
from tests.cluster_fixtures import ARTIFACTS
from tests.e2e.release import Release
from tests.kube import create_namespace, keep_diagnostics


@pytest.fixture(scope="package")
def release(
    cluster: Cluster, product_image: str, demo_images: None, helm: Path, request: pytest.FixtureRequest
) -> Iterator[Release]:
    """The release; when a test of it failed, its namespace's events, objects and logs are kept."""
    namespace = create_namespace(cluster, f"e2e-{secrets.token_hex(3)}")
    made = Release(namespace, helm)
    failed_before = request.session.testsfailed
    try:
        # The schedulers are run by the tests that want them, not every few minutes beside all others.
        quiet = {f"tasks.{name}.suspend": "true" for name in ("process-graph-queue", "schedule-reflections")}
        made.install(**{"demo.enabled": "true", **quiet})
        yield made
    finally:
        # An error of the installation itself is not counted before the fixture has ended.
        keep_diagnostics(namespace, ARTIFACTS / "e2e") if request.session.testsfailed > failed_before else None
        namespace.try_kubectl("delete", "namespace", namespace.name, "--wait=false")
