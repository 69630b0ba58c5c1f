"""The operator with a real kubelet: pods that really run out of memory, miss a Secret, are evicted or stopped.

The operator runs as a process beside the cluster, in a namespace of the test's own; the task's command is a line of shell in the
product's image, so that each end of a pod can be had at will.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.operator_process import OperatorProcess
from tests.cluster.access import Cluster
from tests.e2e.release import Release, condition, until
from tests.kube import Namespace

pytestmark = pytest.mark.cluster

Start = Callable[..., OperatorProcess]


def says(code: int, reason: str, message: str) -> str:
    """A task that leaves a message and ends."""
    text = json.dumps({"version": 1, "reason": reason, "message": message})
    return f"printf %s '{text}' > /dev/termination-log; exit {code}"


@pytest.fixture
def start(cluster: Cluster, namespace: Namespace, product_image: str, tmp_path: Path, release: Release) -> Iterator[Start]:
    """Starts an operator whose tasks run a line of shell. The release has brought the CRDs; its own operator looks elsewhere."""
    started: list[OperatorProcess] = []

    def begin(script: str, **task: Any) -> OperatorProcess:
        pod = {"image": product_image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], **task}
        made = OperatorProcess(tmp_path, cluster.kubeconfig, namespace.name, {"task": pod, "configMissingGraceSeconds": 2})
        started.append(made)
        made.start()
        return made

    yield begin
    for made in started:
        made.end()


def ask(namespace: Namespace, **spec: Any) -> None:
    """A request that waits no longer than it must."""
    fields = {"tenantId": "demo-tenant", "project": "ai-research", "retry": {"initialDelaySeconds": 1, "jitter": 0}, **spec}
    namespace.apply(
        {
            "apiVersion": "tasks.rae.dev/v1alpha1",
            "kind": "ReflectionRequest",
            "metadata": {"name": "weekly"},
            "spec": fields,
        }
    )


def request(namespace: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = namespace.get("reflectionrequest", "weekly")
    return found


def finished(namespace: Namespace) -> dict[str, Any]:
    """Wait as a user would, and return the status."""
    namespace.wait("condition=Finished", "reflectionrequest/weekly")
    status: dict[str, Any] = request(namespace)["status"]
    return status


def wait_phase(namespace: Namespace, phase: str) -> None:
    until(lambda: request(namespace).get("status", {}).get("phase") == phase, f"the request is {phase}")


def test_progress_and_message_of_a_real_pod_reach_the_status(namespace: Namespace, start: Start) -> None:
    line = '{"event": "progress", "done": 3, "total": 10}'
    start(f"echo '{line}' >&2; sleep 20; {says(0, 'Done', '2 themes')}")
    ask(namespace)

    until(lambda: request(namespace).get("status", {}).get("progress") == "3/10", "the progress is told")
    status = finished(namespace)

    assert (status["phase"], status["message"], status["attempts"]) == ("Complete", "2 themes", 1)


def test_a_permanent_failure_of_a_real_pod_is_not_tried_again(namespace: Namespace, start: Start) -> None:
    start(says(65, "TenantUnknown", "there is no tenant named demo-tenant"))
    ask(namespace)

    status = finished(namespace)

    assert (status["phase"], status["reason"], status["attempts"]) == ("Failed", "TenantUnknown", 1)
    assert condition({"status": status}, "Failed")["message"] == "there is no tenant named demo-tenant"


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ({"envFrom": [{"secretRef": {"name": "rae-secrets"}}]}, 'secret "rae-secrets" not found'),
        ({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "none"}}}]}, "none"),
    ],
    ids=["secret", "key"],
)
def test_what_is_missing_in_the_namespace_is_named(namespace: Namespace, start: Start, task: dict[str, Any], named: str) -> None:
    start("exit 0", **task)
    ask(namespace)

    status = finished(namespace)

    assert (status["phase"], status["reason"]) == ("Failed", "ConfigMissing")
    assert named in status["message"]


def test_an_image_that_does_not_come_is_told_while_it_is_waited_for(namespace: Namespace, start: Start) -> None:
    start("exit 0", image="localhost/there-is-no-such-image:1", imagePullPolicy="Never")
    ask(namespace, preRunningDeadlineSeconds=20)

    until(lambda: request(namespace).get("status", {}).get("reason") == "ImagePullError", "the reason is ImagePullError")

    assert finished(namespace)["reason"] == "PreRunningDeadlineExceeded"


def test_a_pod_without_enough_memory_says_so(namespace: Namespace, start: Start) -> None:
    # One process, so that it is the container's own that is killed.
    start("exec python3 -c 'x = bytearray(400_000_000); print(len(x))'", resources={"limits": {"memory": "64Mi"}})
    ask(namespace, retry={"maxAttempts": 1})

    status = finished(namespace)

    assert (status["reason"], status["lastFailure"]["exitCode"]) == ("OOMKilled", 137)


def test_an_evicted_pod_is_replaced_within_its_attempt(namespace: Namespace, start: Start) -> None:
    start("trap 'exit 75' TERM; for second in $(seq 20); do sleep 1; done; exit 0", terminationGracePeriodSeconds=5)
    ask(namespace)
    wait_phase(namespace, "Running")
    pod = request(namespace)["status"]["podName"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace.name}}
    path = f"/api/v1/namespaces/{namespace.name}/pods/{pod}/eviction"
    namespace.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))

    status = finished(namespace)

    assert (status["phase"], status["attempts"], status["failures"]) == ("Complete", 1, 0)
    assert status["podName"] != pod


def test_a_suspended_request_has_no_pod_and_goes_on_afterwards(namespace: Namespace, start: Start) -> None:
    start(f"trap 'exit 75' TERM; for second in $(seq 10); do sleep 1; done; {says(0, 'Done', 'whole')}")
    ask(namespace)
    wait_phase(namespace, "Running")

    namespace.kubectl("patch", "reflectionrequest", "weekly", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    wait_phase(namespace, "Suspended")
    assert namespace.get("pods", "-l", "tasks.rae.dev/request=weekly")["items"] == []
    namespace.kubectl("patch", "reflectionrequest", "weekly", "--type=merge", "-p", '{"spec": {"suspend": false}}')

    status = finished(namespace)
    assert (status["phase"], status["attempts"], status["failures"]) == ("Complete", 2, 0)


def test_a_cancelled_request_is_failed_only_when_its_pod_is_gone(namespace: Namespace, start: Start) -> None:
    start("trap '' TERM; sleep 300", terminationGracePeriodSeconds=4)
    ask(namespace)
    wait_phase(namespace, "Running")

    namespace.kubectl("patch", "reflectionrequest", "weekly", "--type=merge", "-p", '{"spec": {"cancel": true}}')

    assert finished(namespace)["reason"] == "Cancelled"
    assert namespace.get("pods", "-l", "tasks.rae.dev/request=weekly")["items"] == []


def test_deleting_a_request_ends_its_pod(namespace: Namespace, start: Start) -> None:
    start("trap 'exit 75' TERM; sleep 300 & wait", terminationGracePeriodSeconds=5)
    ask(namespace)
    wait_phase(namespace, "Running")

    namespace.kubectl("delete", "reflectionrequest", "weekly", "--wait=true")

    until(lambda: namespace.get("pods", "-l", "tasks.rae.dev/request=weekly")["items"] == [], "its pod is gone")
