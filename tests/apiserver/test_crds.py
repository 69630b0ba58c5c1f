"""What the API server itself makes of the CRDs: a bad request is refused with a message that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.client import Client, Refused

pytestmark = pytest.mark.cluster
MEMORY = "5f0c2f0e-5f0c-4f0c-9f0c-5f0c2f0e5f0c"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"tenantId": ""}, "spec.tenantId"),
        ({"project": "x" * 256}, "spec.project"),
        ({"limit": 0}, "spec.limit"),
        ({"limit": 1001}, "spec.limit"),
        ({"minConfidence": 1.5}, "spec.minConfidence"),
        ({"memoryIds": ["mem_123"]}, "spec.memoryIds[0]"),
        ({"memoryIds": []}, "spec.memoryIds"),
        ({"memoryIds": [MEMORY] * 1001}, "spec.memoryIds"),
        ({"memoryIds": [MEMORY], "limit": 5}, "spec.memoryIds and spec.limit exclude each other"),
        ({"retry": {"maxAttempts": 0}}, "spec.retry.maxAttempts"),
        ({"deadlineSeconds": 0}, "spec.deadlineSeconds"),
        ({"priority": 101}, "spec.priority"),
        ({"idempotencyKey": "x" * 201}, "spec.idempotencyKey"),
        ({"queueName": "no spaces"}, "spec.queueName"),
    ],
)
def test_a_bad_extraction_request_is_refused_and_the_field_named(client: Client, spec: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused) as refused:
        client.create("bad", resource="GraphExtractionRequest", **spec)
    assert refused.value.status == 422
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("spec", "told"),
    [({"since": "yesterday"}, "spec.since"), ({"kind": "dream"}, "spec.kind"), ({"minClusterSize": 51}, "spec.minClusterSize")],
)
def test_a_bad_reflection_request_is_refused_and_the_field_named(client: Client, spec: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match="422") as refused:
        client.create("bad", **spec)
    assert told in refused.value.message


@pytest.mark.parametrize(("name", "told"), [("a" * 49, "48 characters"), ("a.b", "a dot")])
def test_a_name_that_does_not_fit_into_a_jobs_name_is_refused(client: Client, name: str, told: str) -> None:
    with pytest.raises(Refused) as refused:
        client.create(name)
    assert told in refused.value.message


def test_defaults_are_written_into_the_request(client: Client) -> None:
    spec = client.create("plain", resource="GraphExtractionRequest")["spec"]
    assert (spec["minConfidence"], spec["autoStore"], spec["priority"], spec["suspend"]) == (0.7, True, 0, False)
    assert spec["retry"] == {"maxAttempts": 3, "initialDelaySeconds": 60, "factor": 2, "maxDelaySeconds": 3600, "jitter": 0.1}


@pytest.mark.parametrize("change", [{"project": "other"}, {"maxMemories": 9}, {"since": "7d"}, {"retry": {"maxAttempts": 9}}])
def test_what_was_asked_for_cannot_be_changed(client: Client, change: dict[str, Any]) -> None:
    client.create("fixed")
    with pytest.raises(Refused) as refused:
        client.change("fixed", **change)
    assert f"spec.{next(iter(change))} is immutable" in refused.value.message


def test_only_suspend_cancel_and_priority_can_be_changed_and_a_cancel_stays(client: Client) -> None:
    client.create("movable")
    client.change("movable", suspend=True, priority=7)
    client.change("movable", suspend=False, cancel=True)
    with pytest.raises(Refused, match="cannot be taken back"):
        client.change("movable", cancel=False)


def finished(kind: str, reason: str = "Done", status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-24T00:00:00Z"}


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        ({"conditions": []}, "a terminal condition never changes"),
        ({"conditions": [finished("Finished"), finished("Complete", status="False")]}, "a terminal condition never changes"),
        ({"conditions": [finished("Finished", "Other"), finished("Complete")]}, "a terminal condition never changes"),
        ({"conditions": [finished("Finished"), finished("Complete"), finished("Failed")]}, "Complete or Failed, not both"),
        ({"phase": "Running"}, "a terminal phase never changes"),
        (None, "the status of a finished request cannot be removed"),
    ],
)
def test_an_end_is_an_end(client: Client, patch: dict[str, Any] | None, told: str) -> None:
    client.create("ended")
    path = client.requests(name="ended") + "/status"
    client.merge(path, {"status": {"phase": "Complete", "conditions": [finished("Complete"), finished("Finished")]}})
    with pytest.raises(Refused) as refused:
        client.merge(path, {"status": patch})
    assert told in refused.value.message


def test_requests_can_be_selected_by_phase_tenant_and_project(client: Client) -> None:
    client.create("one")
    client.create("two", project="other")
    client.merge(client.requests(name="two") + "/status", {"status": {"phase": "Failed"}})
    for selector in ("status.phase=Failed", "spec.project=other", "spec.tenantId=demo-tenant,status.phase=Failed"):
        items = client.call("GET", f"{client.requests()}?fieldSelector={selector}")["items"]
        assert [i["metadata"]["name"] for i in items] == ["two"], selector


def test_kubectl_get_says_at_a_glance_what_happened(client: Client) -> None:
    client.create("one")
    client.merge(
        client.requests(name="one") + "/status",
        {"status": {"phase": "Failed", "reason": "BadData", "attempts": 1, "duration": "4s", "message": "no tenant named x"}},
    )
    answer = client.http.get(client.requests(), headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}).json()
    columns = {
        c["name"]: (c["priority"], cell) for c, cell in zip(answer["columnDefinitions"], answer["rows"][0]["cells"], strict=True)
    }
    assert [columns[n][1] for n in ("Phase", "Reason", "Tenant", "Project", "Attempts", "Duration")] == [
        "Failed",
        "BadData",
        "demo-tenant",
        "ai-research",
        1,
        "4s",
    ]
    assert columns["Message"] == (1, "no tenant named x")
