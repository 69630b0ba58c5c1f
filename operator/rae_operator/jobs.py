"""Build the Job of an attempt. One Job is one attempt; the operator, not the Job, makes the next."""

from __future__ import annotations

import json
import math
from typing import Any

from rae_operator import labels
from rae_operator.api import GROUP, VERSION
from rae_operator.attempt import PERMANENT
from rae_operator.decision import CreateJob
from rae_operator.kinds import Kind
from rae_operator.observe import RequestView
from rae_operator.settings import PodSettings, Settings

Manifest = dict[str, Any]

_NOTHING = PodSettings()
#: An installation's own labels overrule these: its NetworkPolicies select by them.
_APP_LABELS = {
    "app.kubernetes.io/name": "rae-tasks",
    "app.kubernetes.io/component": "task",
    "app.kubernetes.io/managed-by": "rae-operator",
}
_POD_SECURITY: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


def soft_limit(kind: Kind, settings: Settings) -> int:
    """Seconds after which the kind's task stops at its next safe point."""
    return settings.kinds.get(kind.name, _NOTHING).soft_limit_seconds or settings.task.soft_limit_seconds


def active_deadline(kind: Kind, settings: Settings, pre_running: int, remaining: float | None) -> int:
    """A Job's activeDeadlineSeconds: time to start, and time for a pod and for those that replace it after evictions.

    Args:
        pre_running: seconds that a pod may take to start.
        remaining: seconds that the request has left.
    """
    one_pod = soft_limit(kind, settings) + settings.task.termination_grace_period_seconds
    whole = pre_running + one_pod * (1 + settings.disruption_allowance)
    # Rounded up, so that the request's own deadline is over when the Job's is.
    return whole if remaining is None else max(1, min(whole, math.ceil(remaining) + 1))


def build_job(request: RequestView, create: CreateJob, settings: Settings) -> Manifest:
    """The manifest of the Job for an attempt of a request whose spec is valid."""
    if request.spec is None:
        raise ValueError(f"{request.name} has no valid spec")
    own_labels = {**_APP_LABELS, **settings.task.pod_labels, **_labels(request, create)}
    queue = request.spec.queue_name
    spec: Manifest = {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _failure_rules()},
        "activeDeadlineSeconds": create.active_deadline_seconds,
        "template": {
            "metadata": _without_empty({"labels": own_labels, "annotations": settings.task.pod_annotations}),
            "spec": _pod(request, create, settings),
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": create.name,
            "namespace": request.namespace,
            "labels": {**own_labels, **({labels.KUEUE_QUEUE: queue} if queue else {})},
            "ownerReferences": [_owner(request)],
        },
        # With Kueue the Job is born suspended, and from then on the field is Kueue's.
        "spec": {**spec, **({"suspend": True} if queue else {})},
    }


def _failure_rules() -> list[Manifest]:
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": labels.CONTAINER, "operator": "In", "values": sorted(PERMANENT)},
        },
    ]


def _owner(request: RequestView) -> Manifest:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": request.kind.name,
        "name": request.name,
        "uid": request.uid,
        "controller": True,
    }


def _labels(request: RequestView, create: CreateJob) -> dict[str, str]:
    return {
        labels.KIND: request.kind.name,
        labels.REQUEST: request.name,
        labels.REQUEST_UID: request.uid,
        labels.ATTEMPT: str(create.attempt),
    }


def _pod(request: RequestView, create: CreateJob, settings: Settings) -> Manifest:
    task, own = settings.task, settings.kinds.get(request.kind.name, _NOTHING)
    return _without_empty(
        {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "serviceAccountName": task.service_account_name,
            "imagePullSecrets": task.image_pull_secrets,
            "securityContext": {**_POD_SECURITY, **task.pod_security_context},
            "terminationGracePeriodSeconds": task.termination_grace_period_seconds,
            "nodeSelector": task.node_selector if own.node_selector is None else own.node_selector,
            "tolerations": task.tolerations if own.tolerations is None else own.tolerations,
            "affinity": task.affinity,
            "topologySpreadConstraints": task.topology_spread_constraints,
            "priorityClassName": own.priority_class_name or task.priority_class_name,
            "runtimeClassName": task.runtime_class_name,
            "containers": [_container(request, create, settings, own)],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": task.tmp_size_limit}}, *task.volumes],
        }
    )


def _container(request: RequestView, create: CreateJob, settings: Settings, own: PodSettings) -> Manifest:
    task = settings.task
    return _without_empty(
        {
            "name": labels.CONTAINER,
            "image": task.image,
            "imagePullPolicy": task.image_pull_policy,
            "command": [*task.command, request.kind.task],
            "args": task.args,
            "env": _env(request, create, settings, own),
            "envFrom": task.env_from,
            "resources": task.resources if own.resources is None else own.resources,
            "securityContext": {**_CONTAINER_SECURITY, **task.security_context},
            # Never the log's end: it may hold what a status must not.
            "terminationMessagePolicy": "File",
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *task.volume_mounts],  # noqa: S108
        }
    )


def _env(request: RequestView, create: CreateJob, settings: Settings, own: PodSettings) -> list[Manifest]:
    contract: list[Manifest] = [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
        {"name": "TMPDIR", "value": "/tmp"},  # noqa: S108
        {"name": "RAE_REQUEST", "value": request_json(request, create.attempt)},
        {"name": "RAE_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "RAE_JOB_NAME", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{labels.JOB_NAME}']"}}},
        {"name": "RAE_SOFT_LIMIT_SECONDS", "value": str(soft_limit(request.kind, settings))},
    ]
    # A name that is given twice is refused by some ways of applying; the contract's comes last and counts.
    named: dict[str, Manifest] = {entry["name"]: entry for entry in [*settings.task.env, *own.env, *contract]}
    return list(named.values())


def request_json(request: RequestView, attempt: int) -> str:
    """RAE_REQUEST: what the request's task is to do, and none of what the operator does with it."""
    kind = request.kind
    given = request.spec.model_dump(mode="json", by_alias=True, exclude_none=True) if request.spec else {}
    spec = {name: given[name] for name in kind.task_fields if name in given}
    for name, value in kind.defaults:
        excluded = any(name in (e.first, e.second) and (e.first in spec or e.second in spec) for e in kind.exclusions)
        if name not in spec and not excluded:
            spec[name] = value
    body: Manifest = {
        "kind": kind.name,
        "name": request.name,
        "namespace": request.namespace,
        "uid": request.uid,
        "attempt": attempt,
        "spec": spec,
    }
    if request.spec and request.spec.idempotency_key:
        body["idempotencyKey"] = request.spec.idempotency_key
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def _without_empty(manifest: Manifest) -> Manifest:
    return {name: value for name, value in manifest.items() if value is not None and value not in ({}, [], "")}
