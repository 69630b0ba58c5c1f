"""The two schedulers, as their CronJobs run them: they make requests, and the operator serves them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.release import Release, condition, ended, until

pytestmark = pytest.mark.cluster


def run_now(release: Release, task: str) -> None:
    """Run a CronJob out of schedule, to its end."""
    name = f"{task}-now"
    release.namespace.kubectl("create", "job", name, f"--from=cronjob/{release.prefix}-{task}")
    until(lambda: ended(release.namespace.get("job", name)), f"job {name} ends")
    job = release.namespace.get("job", name)
    assert condition(job, "Complete").get("status") == "True", release.namespace.logs(f"job/{name}")
    release.namespace.kubectl("delete", "job", name)


def requests(release: Release, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = release.namespace.get(kind)["items"]
    return found


def test_what_waits_in_the_queue_is_extracted_to_the_last_memory(release: Release) -> None:
    pending = "SELECT count(*) FROM memories WHERE NOT graph_extracted AND layer = 'episodic'"
    assert int(release.sql(pending)[0][0]) > 0
    before = {each["metadata"]["name"] for each in requests(release, "graphextractionrequests")}

    run_now(release, "process-graph-queue")

    made = {each["metadata"]["name"] for each in requests(release, "graphextractionrequests")} - before
    assert made
    for name in made:
        request = release.finished("graphextractionrequest", name)
        assert condition(request, "Complete").get("status") == "True", json.dumps(request["status"])
    assert release.sql(pending) == [["0"]]


def test_projects_with_new_memories_are_reflected_upon(release: Release) -> None:
    before = {each["metadata"]["name"] for each in requests(release, "reflectionrequests")}

    run_now(release, "schedule-reflections")

    made = {each["metadata"]["name"] for each in requests(release, "reflectionrequests")} - before
    assert made
    for name in made:
        request = release.finished("reflectionrequest", name)
        assert condition(request, "Complete").get("status") == "True", json.dumps(request["status"])
