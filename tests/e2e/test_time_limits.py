"""Work that takes longer than a pod may: it is sliced, goes on where it was, and ends Complete."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.release import Release, condition, ended, until
from tests.fake_llm.server import FakeLlm, fake_llm

pytestmark = pytest.mark.cluster

SOFT_LIMIT = 3
SLOWLY = "extract-slowly"
PENDING = ["extract-graph", "--tenant", "demo-tenant", "--project", "web-platform", "--pending", "--limit", "45"]


@pytest.fixture(scope="module")
def slow_model(release: Release) -> Iterator[FakeLlm]:
    """The release with a model that takes a second for five memories, and pods of three seconds."""
    with fake_llm(release.namespace.cluster.node_ip) as fake:
        fake.delay = 1.0
        one_at_a_time = [{"name": "RAE_LLM_CONCURRENCY", "value": "1"}, {"name": "RAE_LLM_BATCH_SIZE", "value": "5"}]
        task = {"schedule": "* * * * *", "suspend": True, "args": PENDING, "softLimitSeconds": SOFT_LIMIT, "graceSeconds": 10}
        release.upgrade(
            {
                "llm": {"provider": "openai", "baseUrl": fake.base_url},
                "extraEnv": one_at_a_time,
                "requests": {"kinds": {"GraphExtractionRequest": {"softLimitSeconds": SOFT_LIMIT}}},
                "tasks": {SLOWLY: task},
            }
        )
        yield fake
        release.upgrade(
            {
                "llm": {"provider": "local", "baseUrl": ""},
                "extraEnv": [],
                "requests": {"kinds": {}},
                "tasks": {SLOWLY: {"enabled": False}},
            }
        )


def test_a_request_of_three_soft_limits_ends_complete(release: Release, slow_model: FakeLlm) -> None:
    spec = {"tenantId": "acme-labs", "project": "database-operations", "limit": 35, "retry": {"maxAttempts": 1}}
    release.namespace.apply(
        {
            "apiVersion": "tasks.rae.dev/v1alpha1",
            "kind": "GraphExtractionRequest",
            "metadata": {"name": "long"},
            "spec": spec,
        }
    )

    request = release.finished("graphextractionrequest", "long")

    assert condition(request, "Complete")["status"] == "True", request["status"]
    ((attempts, failures, state),) = release.sql(
        f"SELECT attempt, failures, state FROM rae_jobs.task_runs WHERE request_uid = '{request['metadata']['uid']}'"
    )
    assert int(attempts) >= 3
    assert (failures, state) == ("0", "finished")


def test_a_cronjobs_work_of_three_soft_limits_ends_complete(release: Release, slow_model: FakeLlm) -> None:
    name = f"{release.prefix}-{SLOWLY}"
    _suspend(release, name, False)

    def jobs() -> list[dict[str, object]]:
        found = release.namespace.get("jobs", f"--selector=tasks.rae.dev/task={SLOWLY}")["items"]
        return list(found)

    first = until(jobs, "the CronJob has started a Job", seconds=90)[0]["metadata"]["name"]  # type: ignore[index]
    _suspend(release, name, True)
    until(lambda: ended(release.namespace.get("job", str(first))), "it ends", seconds=300)

    job = release.namespace.get("job", str(first))
    assert condition(job, "Complete").get("status") == "True", job["status"]
    ((attempts, failures, state),) = release.sql(f"SELECT attempt, failures, state FROM rae_jobs.task_runs WHERE job = '{first}'")
    assert int(attempts) >= 3
    assert (failures, state) == ("0", "finished")


def _suspend(release: Release, cronjob: str, suspended: bool) -> None:
    release.namespace.kubectl("patch", "cronjob", cronjob, "-p", json.dumps({"spec": {"suspend": suspended}}))
