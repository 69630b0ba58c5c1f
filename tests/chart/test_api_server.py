"""The chart against a real API server: what it accepts, who may do what, and what survives an upgrade or an uninstall.

No node is needed for that; hooks, whose Jobs would have to run, are left out here and run in tests/e2e.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.apiserver.controlplane import ADMIN_TOKEN, ControlPlane, control_plane, find_program
from tests.chart.charts import CHART, Chart

pytestmark = pytest.mark.cluster

EVERYTHING: dict[str, Any] = {
    "demo": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "rbac": {"aggregate": True},
    "watchNamespaces": ["other"],
    "admission": {
        "grants": [
            {
                "tenants": ["demo-tenant"],
                "subjects": [{"kind": "ServiceAccount", "name": "rae-api"}, {"kind": "User", "name": "ann"}],
            }
        ]
    },
}
WITH_OPENAI: dict[str, Any] = {
    "database": {"host": "db", "checkSecret": False},
    "llm": {"provider": "openai", "existingSecret": "keys"},
    "extraEnv": [{"name": "POSTGRES_HOST", "value": "another"}],
    "taskDefaults": {"ttlSecondsAfterFinished": 60, "priorityClassName": "batch"},
}


@dataclass(frozen=True)
class ApiServer:
    """A control plane and the two programs that people use with it."""

    plane: ControlPlane
    kubectl_path: str
    helm_path: Path

    def kubectl(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl; the answer's code may be anything."""
        return self._run([self.kubectl_path, *words], text)

    def helm(self, *words: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Run helm on the release's namespace."""
        return self._run(
            [self.helm_path, *words, "--namespace=rae", *(["--values=-"] if values is not None else [])], yaml.safe_dump(values)
        )

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script in which `kubectl` is the one of this API server."""
        folder = Path(self.kubectl_path).parent
        return self._run(["sh", "-c", f"PATH={folder}:$PATH; {script}"], None)

    def get(self, what: str, namespace: str = "rae") -> list[dict[str, Any]]:
        """All objects of a kind."""
        done = self.kubectl("get", what, f"--namespace={namespace}", "--output=json")
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["items"])

    def may(self, user: str, verb: str, resource: str, namespace: str = "rae", *flags: str) -> bool:
        """Whether the API server lets this user do that."""
        return (
            self.kubectl("auth", "can-i", verb, resource, f"--as={user}", f"--namespace={namespace}", *flags).stdout.strip()
            == "yes"
        )

    def _run(self, command: list[Any], text: str | None) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "KUBECONFIG": str(self.plane.kubeconfig)}
        return subprocess.run(command, input=text, capture_output=True, text=True, env=env, timeout=120)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, helm_binary: Path) -> Iterator[ApiServer]:
    """An API server with the namespaces of the tests."""
    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        server = ApiServer(plane, find_program("kubectl"), helm_binary)
        for namespace in ("rae", "other"):
            assert server.kubectl("create", "namespace", namespace).returncode == 0
            _until(
                lambda name=namespace: server.kubectl("get", "serviceaccount", "default", f"--namespace={name}").returncode == 0
            )
        yield server


@pytest.fixture
def installed(api: ApiServer) -> Iterator[ApiServer]:
    """The release with everything switched on, removed afterwards."""
    done = api.helm("install", "rae-tasks", str(CHART), "--no-hooks", values=EVERYTHING)
    assert done.returncode == 0, done.stderr
    yield api
    api.helm("uninstall", "rae-tasks", "--no-hooks")
    api.kubectl("delete", "pvc,secret", "--all", "--namespace=rae", "--wait=false")


def _until(look: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.mark.parametrize("values", [{}, EVERYTHING, WITH_OPENAI], ids=["defaults", "everything", "openai"])
def test_the_api_server_accepts_every_object_without_an_unknown_field(
    api: ApiServer, chart: Chart, values: dict[str, Any]
) -> None:
    manifests = [manifest for manifest in chart.render(values).manifests]
    text = yaml.safe_dump_all(manifests)
    done = api.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", text=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(manifests)
    assert "Warning" not in done.stderr


def test_the_operator_may_do_its_work_and_not_read_a_secret(installed: ApiServer) -> None:
    operator = "system:serviceaccount:rae:rae-tasks-operator"
    for namespace in ("rae", "other"):
        assert installed.may(operator, "create", "jobs.batch", namespace)
        assert installed.may(operator, "patch", "reflectionrequests.tasks.rae.dev", namespace, "--subresource=status")
        assert not installed.may(operator, "get", "secrets", namespace)
        assert not installed.may(operator, "create", "reflectionrequests.tasks.rae.dev", namespace)
    assert not installed.may(operator, "list", "jobs.batch", "default")
    assert installed.may(operator, "update", "leases.coordination.k8s.io/rae-tasks-operator")
    assert not installed.may(operator, "update", "leases.coordination.k8s.io/another")


def test_a_task_may_do_nothing_and_a_scheduler_create_requests(installed: ApiServer) -> None:
    task, scheduler = "system:serviceaccount:rae:rae-tasks-task", "system:serviceaccount:rae:rae-tasks-scheduler"
    for verb, resource in (("get", "secrets"), ("create", "jobs.batch"), ("create", "reflectionrequests.tasks.rae.dev")):
        assert not installed.may(task, verb, resource)
    assert installed.may(scheduler, "create", "graphextractionrequests.tasks.rae.dev")
    assert not installed.may(scheduler, "delete", "graphextractionrequests.tasks.rae.dev")
    assert not installed.may(scheduler, "get", "secrets")


def _ask(api: ApiServer, user: str, tenant: str, namespace: str = "rae") -> subprocess.CompletedProcess[str]:
    request = {
        "apiVersion": "tasks.rae.dev/v1alpha1",
        "kind": "ReflectionRequest",
        "metadata": {"name": "try", "namespace": namespace},
        "spec": {"tenantId": tenant, "project": "ai-research"},
    }
    return api.kubectl("create", "--dry-run=server", f"--as={user}", "-f", "-", text=json.dumps(request))


def test_who_may_create_a_request_may_not_therefore_name_any_tenant(installed: ApiServer) -> None:
    for namespace in ("rae", "other"):
        installed.kubectl(
            "create", "role", "asks", f"--namespace={namespace}", "--verb=create", "--resource=reflectionrequests.tasks.rae.dev"
        )
        installed.kubectl("create", "rolebinding", "asks", f"--namespace={namespace}", "--role=asks", "--user=ann", "--user=bob")
    _until(lambda: "may not use tenant" in _ask(installed, "bob", "demo-tenant").stderr)

    refused = _ask(installed, "bob", "demo-tenant")
    assert refused.returncode != 0
    assert "user bob may not use tenant demo-tenant: it takes the verb use on tenants.tasks.rae.dev" in refused.stderr
    assert "may not use tenant other-tenant" in _ask(installed, "ann", "other-tenant").stderr
    for namespace in ("rae", "other"):
        allowed = _ask(installed, "ann", "demo-tenant", namespace)
        assert allowed.returncode == 0, allowed.stderr


def test_the_schedulers_work_for_every_tenant(installed: ApiServer) -> None:
    done = _ask(installed, "system:serviceaccount:rae:rae-tasks-scheduler", "any-tenant")
    assert done.returncode == 0, done.stderr


def test_the_operators_status_writes_are_not_asked_for_a_tenant(installed: ApiServer) -> None:
    request = {
        "apiVersion": "tasks.rae.dev/v1alpha1",
        "kind": "ReflectionRequest",
        "metadata": {"name": "kept", "namespace": "rae"},
        "spec": {"tenantId": "any-tenant", "project": "ai-research"},
    }
    assert installed.kubectl("create", "-f", "-", text=json.dumps(request)).returncode == 0
    path = "/apis/tasks.rae.dev/v1alpha1/namespaces/rae/reflectionrequests/kept/status"
    status = _patch(installed, path, {"status": {"phase": "Running"}}, "system:serviceaccount:rae:rae-tasks-operator")
    installed.kubectl("delete", "reflectionrequest", "kept", "--namespace=rae")
    assert status == 200


def _patch(api: ApiServer, path: str, body: dict[str, Any], user: str) -> int:
    """The status code of a PATCH as the operator sends it; kubectl's own would read first, which takes a right of its own."""
    headers = {
        "Authorization": f"Bearer {ADMIN_TOKEN}",
        "Impersonate-User": user,
        "Content-Type": "application/merge-patch+json",
    }
    request = Request(api.plane.url + path, json.dumps(body).encode(), headers, method="PATCH")
    with urlopen(request, timeout=30, context=ssl._create_unverified_context()) as answer:
        return int(answer.status)


def _password(api: ApiServer) -> str:
    (secret,) = [item for item in api.get("secrets") if item["metadata"]["name"] == "rae-tasks-demo"]
    return b64decode(secret["data"]["POSTGRES_PASSWORD"]).decode()


def test_an_upgrade_keeps_the_demos_password_and_touches_no_other_object(installed: ApiServer) -> None:
    before, generation = _password(installed), [item["metadata"]["generation"] for item in installed.get("statefulsets")]
    done = installed.helm("upgrade", "rae-tasks", str(CHART), "--no-hooks", values=EVERYTHING)
    assert done.returncode == 0, done.stderr
    assert _password(installed) == before
    assert [item["metadata"]["generation"] for item in installed.get("statefulsets")] == generation


def test_data_that_are_to_be_kept_are_there_for_the_next_installation_with_their_password(api: ApiServer) -> None:
    values = {"demo": {"enabled": True, "keep": True}}
    assert api.helm("install", "rae-tasks", str(CHART), "--no-hooks", values=values).returncode == 0
    password = _password(api)
    assert api.helm("uninstall", "rae-tasks", "--no-hooks").returncode == 0
    assert {item["metadata"]["name"] for item in api.get("pvc")} == {"rae-tasks-demo-postgres", "rae-tasks-demo-valkey"}
    again = api.helm("install", "rae-tasks", str(CHART), "--no-hooks", values=values)
    assert again.returncode == 0, again.stderr
    assert _password(api) == password
    assert api.helm("uninstall", "rae-tasks", "--no-hooks").returncode == 0
    api.kubectl("delete", "pvc,secret", "--all", "--namespace=rae", "--wait=false")


def test_uninstalling_leaves_the_crds_and_nothing_else(api: ApiServer) -> None:
    assert api.helm("install", "rae-tasks", str(CHART), "--no-hooks", values=EVERYTHING).returncode == 0
    assert api.helm("uninstall", "rae-tasks", "--no-hooks").returncode == 0
    kinds = (
        "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,roles,rolebindings,cronjobs,jobs,networkpolicies,"
        "clusterroles,validatingadmissionpolicies,validatingadmissionpolicybindings,customresourcedefinitions"
    )
    label = "--selector=app.kubernetes.io/instance=rae-tasks"

    def left() -> list[str]:
        return api.kubectl("get", kinds, "--all-namespaces", label, "--output=name").stdout.split()

    _until(lambda: all(name.startswith("customresourcedefinition") for name in left()))
    assert len(left()) == 2


def test_an_installation_without_its_secret_is_refused_with_the_way_out(api: ApiServer) -> None:
    refused = api.helm("install", "rae-tasks", str(CHART), "--no-hooks", values={})
    assert refused.returncode != 0
    assert 'there is no Secret "rae-secrets" in namespace "rae"' in refused.stderr
    assert "kubectl -n rae create secret generic rae-secrets --from-literal=database-url=..." in refused.stderr
    assert "--set demo.enabled=true" in refused.stderr


def test_a_secret_without_the_key_is_refused_with_the_keys_that_it_has(api: ApiServer) -> None:
    api.kubectl("create", "secret", "generic", "pg", "--namespace=rae", "--from-literal=password=not-to-be-shown")
    refused = api.helm("install", "rae-tasks", str(CHART), "--no-hooks", values={"database": {"existingSecret": "pg"}})
    assert 'has no key "database-url" (it has: password)' in refused.stderr
    assert "not-to-be-shown" not in refused.stderr
    fits = {"database": {"existingSecret": "pg", "host": "db", "passwordKey": "password"}}
    accepted = api.helm("install", "rae-tasks", str(CHART), "--no-hooks", values=fits)
    assert accepted.returncode == 0, accepted.stderr
    api.helm("uninstall", "rae-tasks", "--no-hooks")
    api.kubectl("delete", "secret", "pg", "--namespace=rae")


def test_the_notes_way_to_a_dry_run_works_as_it_is_written(installed: ApiServer) -> None:
    notes = installed.helm("get", "notes", "rae-tasks").stdout
    start = notes.index("kubectl -n rae create job --from=cronjob/rae-tasks-decay decay-try")
    command = notes[start : notes.index("create -f -", start) + len("create -f -")]
    done = installed.shell(command)
    assert done.returncode == 0, done.stderr
    (job,) = [item for item in installed.get("jobs") if item["metadata"]["name"] == "decay-try"]
    installed.kubectl("delete", "job", "decay-try", "--namespace=rae", "--wait=false")
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["decay", "--dry-run"]
