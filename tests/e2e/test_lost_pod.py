"""A pod that is gone before the operator looks: the Job's own condition decides, and the ledger has the result."""

from __future__ import annotations

import json

import pytest

from tests.e2e.release import Release, condition, ended, until

pytestmark = pytest.mark.cluster


def test_a_pod_deleted_between_its_end_and_the_operators_look_ends_its_request_rightly(release: Release) -> None:
    operator = f"deployment/{release.prefix}-operator"
    release.namespace.apply(
        {
            "apiVersion": "tasks.rae.dev/v1alpha1",
            "kind": "GraphExtractionRequest",
            "metadata": {"name": "lost-pod"},
            "spec": {"tenantId": "acme-labs", "project": "ai-research", "limit": 20},
        }
    )
    job = until(lambda: release.namespace.get("jobs", "--selector=tasks.rae.dev/request=lost-pod")["items"], "its Job is there")[
        0
    ]
    release.namespace.kubectl("scale", operator, "--replicas=0")
    try:
        name = job["metadata"]["name"]
        until(lambda: ended(release.namespace.get("job", name)), "its Job ends", seconds=90)
        release.namespace.kubectl("delete", "pods", f"--selector=batch.kubernetes.io/job-name={name}")
    finally:
        release.namespace.kubectl("scale", operator, "--replicas=1")

    request = release.finished("graphextractionrequest", "lost-pod")

    assert condition(request, "Complete")["status"] == "True", request["status"]
    log = release.run_task("show-lost-pod", "runs", "show", "--request", request["metadata"]["uid"], "--output", "json")
    run = json.loads(next(line for line in log.splitlines() if line.startswith("{")))
    assert (run["status"], run["counters"]["memories"]) == ("finished", 20)
