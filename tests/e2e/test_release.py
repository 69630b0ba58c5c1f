"""The README's path on a real cluster: install, ask, wait, read, upgrade, uninstall."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.e2e.release import ROOT, Release, condition, until

pytestmark = pytest.mark.cluster
REQUESTS = ROOT / "examples" / "requests"


def test_the_example_requests_end_complete(release: Release) -> None:
    release.namespace.kubectl(
        "apply", "-f", str(REQUESTS / "graph-extraction-request.yaml"), "-f", str(REQUESTS / "reflection-request.yaml")
    )

    extraction = release.finished("graphextractionrequest", "extract-ai-research")
    reflection = release.finished("reflectionrequest", "reflect-on-ai-research")

    assert condition(extraction, "Complete")["status"] == "True", extraction["status"]
    assert condition(reflection, "Complete")["status"] == "True", reflection["status"]
    assert extraction["status"]["result"]["counters"]["triples"] > 20
    assert reflection["status"]["attempts"] == 1


def test_every_stored_triple_has_evidence_of_its_own_tenants_memory(release: Release) -> None:
    unfounded = release.sql(
        """
        SELECT count(*) FROM knowledge_graph_edges e
        WHERE NOT EXISTS (
            SELECT 1 FROM jsonb_array_elements(e.properties->'evidence') v
            JOIN memories m ON m.id = (v->>'memory_id')::uuid AND m.tenant_id = e.tenant_id AND m.project = e.project)
        """
    )
    total = release.sql("SELECT count(*) FROM knowledge_graph_edges")

    assert int(total[0][0]) > 20
    assert unfounded == [["0"]]


def test_get_reflectionrequests_says_at_a_glance_what_happened(release: Release) -> None:
    header, row = release.namespace.kubectl("get", "reflectionrequests", "reflect-on-ai-research").splitlines()

    assert header.split()[:2] == ["NAME", "TENANT"] or "PHASE" in header
    assert "Complete" in row
    assert "reflect-on-ai-research" in release.namespace.kubectl("get", "rae")


def test_a_wrong_tenant_fails_with_a_clear_reason_and_without_a_retry(release: Release) -> None:
    release.namespace.kubectl("apply", "-f", str(REQUESTS / "wrong-tenant-request.yaml"))

    request = release.finished("graphextractionrequest", "wrong-tenant")

    failed = condition(request, "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "TenantUnknown")
    assert "no-such-tenant" in failed["message"]
    assert request["status"]["attempts"] == 1


def test_an_invalid_spec_is_refused_by_the_api_server_naming_the_field(release: Release) -> None:
    refused = release.namespace.try_kubectl("apply", "-f", str(REQUESTS / "invalid-request.yaml"))

    assert refused.code != 0
    assert "spec.minConfidence" in refused.errors
    assert release.namespace.try_kubectl("get", "graphextractionrequest", "invalid").code != 0


@pytest.fixture
def stranger(release: Release) -> Iterator[str]:
    """A service account that may make requests, but acts for no tenant."""
    name = "stranger"
    release.namespace.kubectl("create", "serviceaccount", name)
    release.namespace.kubectl("create", "role", name, "--verb=create,get,patch", "--resource=reflectionrequests.tasks.rae.dev")
    release.namespace.kubectl(
        "create", "rolebinding", name, f"--role={name}", f"--serviceaccount={release.namespace.name}:{name}"
    )
    yield f"system:serviceaccount:{release.namespace.name}:{name}"
    release.namespace.kubectl("delete", f"rolebinding/{name}", f"role/{name}", f"serviceaccount/{name}")


def test_a_request_without_leave_for_the_tenant_is_refused(release: Release, stranger: str) -> None:
    """The chart's admission policy: acting for a tenant is plain RBAC."""
    manifest = (REQUESTS / "reflection-request.yaml").read_text().replace("name: reflect-on-ai-research", "name: stranger")

    refused = release.namespace.try_kubectl("create", "-f", "-", f"--as={stranger}", text=manifest)

    assert refused.code != 0
    assert "demo-tenant" in refused.errors


def test_decay_dry_run_changes_nothing(release: Release) -> None:
    before = release.sql("SELECT sum(strength), max(decayed_through) FROM memories")

    log = release.run_task("decay-preview", "decay", "--dry-run", "--output", "json")

    result = json.loads(next(line for line in log.splitlines() if line.startswith('{"task"')))
    assert result["dryRun"] is True
    assert release.sql("SELECT sum(strength), max(decayed_through) FROM memories") == before


@pytest.fixture
def every_minute(release: Release) -> Iterator[str]:
    """The decay CronJob, due every minute for as long as the test runs."""
    name = f"{release.prefix}-decay"
    schedule = release.namespace.get("cronjob", name)["spec"]["schedule"]
    release.namespace.kubectl("patch", "cronjob", name, "-p", json.dumps({"spec": {"schedule": "* * * * *"}}))
    yield name
    release.namespace.kubectl("patch", "cronjob", name, "-p", json.dumps({"spec": {"schedule": schedule}}))


def test_the_slot_of_a_cronjobs_run_is_its_scheduled_time(release: Release, every_minute: str) -> None:
    def rows() -> list[list[str]]:
        return release.sql("SELECT job, slot FROM rae_jobs.task_runs WHERE task = 'decay' AND slot LIKE 'cron:%' LIMIT 1")

    (job_name, slot), *_ = until(rows, "a scheduled run of decay is in the ledger", seconds=150)

    annotation = release.namespace.get("job", job_name)["metadata"]["annotations"][
        "batch.kubernetes.io/cronjob-scheduled-timestamp"
    ]
    scheduled = datetime.fromisoformat(annotation).astimezone(UTC)
    assert slot == f"cron:{scheduled:%Y-%m-%dT%H:%MZ}"
