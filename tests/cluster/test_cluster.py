"""The cluster behaves as a real one does, as far as the product's tests lean on it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.access import Cluster
from tests.cluster_fixtures import drive_cluster
from tests.kube import Namespace

pytestmark = pytest.mark.cluster

HARDENED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod(name: str, image: str, program: str, **spec: Any) -> dict[str, Any]:
    """A pod that runs a Python program in the product's image, locked down as the chart's pods are."""
    container = {
        "name": "task",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", program],
        "securityContext": HARDENED,
        **spec.pop("container", {}),
    }
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    body = {"restartPolicy": "Never", "securityContext": security, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def succeed(namespace: Namespace, *objects: dict[str, Any]) -> str:
    """Apply, wait until the pod named `probe` has ended well, and return what it said."""
    namespace.apply(*objects)
    namespace.wait("jsonpath={.status.phase}=Succeeded", "pod/probe", seconds=60)
    return namespace.logs("probe")


def test_the_node_is_ready_and_of_the_version_asked_for(cluster: Cluster, namespace: Namespace) -> None:
    nodes = namespace.get("nodes")["items"]
    conditions = {each["type"]: each["status"] for each in nodes[0]["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    if not cluster.by_kind:
        assert nodes[0]["status"]["nodeInfo"]["kubeletVersion"] in drive_cluster("status").stdout.replace(
            "Kubernetes ", "Kubernetes v"
        )


def test_a_pod_resolves_services_and_learns_at_once_that_a_name_does_not_exist(namespace: Namespace, product_image: str) -> None:
    program = """
import socket
print(socket.gethostbyname("kubernetes.default.svc.cluster.local"), socket.gethostbyname("kubernetes.default"))
try:
    socket.gethostbyname("no-such-service")
except socket.gaierror as error:
    print("unknown:", error.errno == socket.EAI_NONAME)
"""
    said = succeed(namespace, pod("probe", product_image, program)).split("\n")
    first, second = said[0].split()
    assert first == second
    assert said[1] == "unknown: True"


def test_a_pod_reaches_the_api_server_at_its_service_address_with_its_own_token(namespace: Namespace, product_image: str) -> None:
    program = """
import json, pathlib, ssl, urllib.request
folder = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
trusted = ssl.create_default_context(cafile=folder / "ca.crt")
headers = {"Authorization": f"Bearer {(folder / 'token').read_text()}"}
request = urllib.request.Request("https://kubernetes.default.svc/version", headers=headers)
print(json.load(urllib.request.urlopen(request, context=trusted))["major"])
"""
    assert succeed(namespace, pod("probe", product_image, program)).strip() == "1"


def test_a_pod_reaches_another_pod_and_itself_through_a_service(namespace: Namespace, product_image: str) -> None:
    serve = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8080)"
    server = pod("server", product_image, serve, container={"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}})
    server["metadata"]["labels"] = {"app": "server"}
    spec = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "greeter"}, "spec": spec}
    namespace.apply(server, service)
    namespace.wait("condition=Ready", "pod/server", seconds=60)
    ask = """
import time, urllib.request
for attempt in range(50):
    try:
        print(urllib.request.urlopen("http://greeter", timeout=2).status)
        break
    except OSError:
        time.sleep(0.2)
"""
    assert succeed(namespace, pod("probe", product_image, ask)).strip() == "200"
    assert namespace.kubectl("exec", "server", "--", "python3", "-c", ask).strip() == "200"


def test_a_pod_reaches_a_server_of_this_machine(cluster: Cluster, namespace: Namespace, product_image: str) -> None:
    if cluster.by_kind:
        pytest.skip("under kind the API server runs in the node's container")
    program = f"import socket; socket.create_connection(('{cluster.node_ip}', 6443), 5); print('reached')"
    assert succeed(namespace, pod("probe", product_image, program)).strip() == "reached"


def test_a_claim_is_bound_on_its_own_and_keeps_its_data_over_pods_that_are_not_root(
    namespace: Namespace, product_image: str
) -> None:
    resources = {"requests": {"storage": "16Mi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept"}, "spec": spec}
    volume = {"volumes": [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}]}
    mounted = {"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]}
    program = "import pathlib; file = pathlib.Path('/kept/file'); print(file.exists()); file.write_text('data')"
    probe = pod("probe", product_image, program, container=mounted, **volume)
    assert succeed(namespace, claim, probe).strip() == "False"
    namespace.kubectl("delete", "pod", "probe")
    assert succeed(namespace, probe).strip() == "True"


def test_an_admission_policy_refuses_what_it_is_told_to(namespace: Namespace) -> None:
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
    name = namespace.name
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": "object.metadata.name != 'unwanted'", "message": "this one is unwanted"}],
        },
    }
    only_here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": only_here},
    }
    unwanted = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "unwanted"}})
    try:
        namespace.apply(policy, binding)
        assert "this one is unwanted" in until_refused(namespace, unwanted)
    finally:
        namespace.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", name)


def until_refused(namespace: Namespace, text: str) -> str:
    # A policy takes effect a moment after it is created.
    for _attempt in range(50):
        answer = namespace.try_kubectl("create", "--dry-run=server", "-f", "-", text=text)
        if answer.code:
            return answer.errors
    return ""
