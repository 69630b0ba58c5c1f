"""The Job that an attempt becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rae_operator.decision import CreateJob
from rae_operator.jobs import active_deadline, build_job, request_json
from rae_operator.kinds import BY_NAME
from rae_operator.names import job_name
from rae_operator.settings import Settings, parse_settings
from tests.unit.operator.builders import SETTINGS, UID, a_request

CREATE = CreateJob("weekly-0451fa3f-1", 1, 1234)
MEMORY = "5f0c2f0e-5f0c-4f0c-9f0c-5f0c2f0e5f0c"


def built(settings: Settings = SETTINGS, **spec: Any) -> dict[str, Any]:
    return build_job(a_request(**spec), CREATE, settings)


def pod(job: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


def container(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod(job)["containers"][0]
    return found


def env(job: dict[str, Any]) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(job)["env"]}


def test_one_job_is_one_attempt() -> None:
    spec = built()["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["podReplacementPolicy"]) == (0, 1, "Failed")
    assert pod(built())["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 1234
    assert "ttlSecondsAfterFinished" not in spec


def test_an_eviction_is_ignored_before_exit_codes_are_judged() -> None:
    first, second = built()["spec"]["podFailurePolicy"]["rules"]
    assert (first["action"], first["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert second["action"] == "FailJob"
    assert second["onExitCodes"] == {"containerName": "task", "operator": "In", "values": [64, 65, 78, 126, 127]}


def test_the_request_controls_its_job_and_does_not_block_its_own_deletion() -> None:
    (owner,) = built()["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "tasks.rae.dev/v1alpha1",
        "kind": "ReflectionRequest",
        "name": "weekly",
        "uid": UID,
        "controller": True,
    }


def test_a_pod_has_no_token_and_the_restricted_security_context() -> None:
    job = built()
    assert pod(job)["automountServiceAccountToken"] is False
    assert pod(job)["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    security = container(job)["securityContext"]
    assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container(job)["terminationMessagePolicy"] == "File"


def test_the_pod_gets_the_tasks_fields_alone() -> None:
    body = json.loads(env(built(since="24h", suspend=True, priority=9))["RAE_REQUEST"])
    assert body == {
        "kind": "ReflectionRequest",
        "name": "weekly",
        "namespace": "rae",
        "uid": UID,
        "attempt": 1,
        "spec": {"tenantId": "demo-tenant", "project": "ai-research", "since": "24h", "maxMemories": 50, "minClusterSize": 3},
    }


def test_an_idempotency_key_is_handed_on() -> None:
    assert json.loads(env(built(idempotencyKey="week-47"))["RAE_REQUEST"])["idempotencyKey"] == "week-47"


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, {"limit": 50}), ({"limit": 7}, {"limit": 7}), ({"memoryIds": [MEMORY]}, {"memoryIds": [MEMORY]})],
)
def test_memories_are_named_or_limited_but_not_both(given: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = json.loads(request_json(a_request(kind="GraphExtractionRequest", **given), 1))["spec"]
    assert {k: v for k, v in spec.items() if k in ("limit", "memoryIds")} == expected
    assert (spec["minConfidence"], spec["autoStore"]) == (0.7, True)


def test_the_largest_request_fits_the_variable() -> None:
    many = a_request(kind="GraphExtractionRequest", memoryIds=[MEMORY] * 1000, tenantId="x" * 255, project="ż" * 255)
    assert len(request_json(many, 9999).encode()) <= 64 * 1024


def test_the_pod_learns_its_names_and_its_soft_limit() -> None:
    variables = env(built())
    assert variables["RAE_POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert variables["RAE_JOB_NAME"] == {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}
    assert variables["RAE_SOFT_LIMIT_SECONDS"] == "540"


def test_the_settings_shape_the_pod_and_cannot_overrule_the_contract() -> None:
    settings = parse_settings(
        """
task:
  image: registry/rae-tasks@sha256:abc
  serviceAccountName: jobs
  imagePullSecrets: [{name: registry}]
  env: [{name: A, value: "1"}, {name: RAE_REQUEST, value: forged}]
  envFrom: [{secretRef: {name: rae}}]
  resources: {limits: {memory: 1Gi}}
  podLabels: {app.kubernetes.io/name: mine, tasks.rae.dev/request: forged}
  volumes: [{name: ca, configMap: {name: ca}}]
  volumeMounts: [{name: ca, mountPath: /ca}]
kinds:
  ReflectionRequest: {softLimitSeconds: 60, resources: {limits: {memory: 2Gi}}, env: [{name: A, value: "2"}]}
"""
    )
    job = built(settings)
    assert container(job)["image"] == "registry/rae-tasks@sha256:abc"
    assert pod(job)["serviceAccountName"] == "jobs"
    assert (env(job)["A"], env(job)["RAE_SOFT_LIMIT_SECONDS"]) == ("2", "60")
    assert "forged" not in env(job)["RAE_REQUEST"]
    assert container(job)["resources"] == {"limits": {"memory": "2Gi"}}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/name"], labels["tasks.rae.dev/request"]) == ("mine", "weekly")
    assert [v["name"] for v in pod(job)["volumes"]] == ["tmp", "ca"]


def test_with_kueue_the_job_is_born_suspended_under_the_queues_label() -> None:
    job = built(queueName="team-a")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "suspend" not in built()["spec"]


def test_a_jobs_deadline_covers_a_slow_start_and_evictions_but_not_more_than_is_left() -> None:
    kind = BY_NAME["ReflectionRequest"]
    assert active_deadline(kind, SETTINGS, 1800, None) == 1800 + (540 + 60) * 4
    assert active_deadline(kind, SETTINGS, 1800, 99.5) == 101
    assert active_deadline(kind, SETTINGS, 1800, -5) == 1


def test_the_longest_names_still_fit_the_label_of_a_pod() -> None:
    assert len(job_name("a" * 48, UID, 9999)) <= 63
