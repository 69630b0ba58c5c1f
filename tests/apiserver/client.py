"""A small client for the tests, which also plays the kubelet: it writes the status of pods."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx

from tests.apiserver.controlplane import ADMIN_TOKEN

T = TypeVar("T")
Body = dict[str, Any]

GROUP = "/apis/tasks.rae.dev/v1alpha1"
#: Generous: other work may have the machine. Nothing waits for it when all goes well.
PATIENCE_SECONDS = 90.0


def eventually(look: Callable[[], T], *, why: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Look until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {why}")
        time.sleep(0.05)


class Refused(Exception):
    """The API server refused; `message` is what a user reads."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


@dataclass(frozen=True)
class Client:
    """The administrator's requests to one namespace."""

    http: httpx.Client
    namespace: str

    def call(self, method: str, path: str, body: Body | None = None, content_type: str = "application/json") -> Body:
        """One request. Raises Refused."""
        content = None if body is None else json.dumps(body)
        answer = self.http.request(method, path, content=content, headers={"Content-Type": content_type})
        if answer.status_code >= 400:
            is_status = answer.headers.get("Content-Type", "").startswith("application/json")
            raise Refused(answer.status_code, answer.json().get("message", "") if is_status else answer.text)
        return dict(answer.json())

    def merge(self, path: str, body: Body) -> Body:
        """A merge patch."""
        return self.call("PATCH", path, body, "application/merge-patch+json")

    # --- requests

    def requests(self, plural: str = "reflectionrequests", name: str = "") -> str:
        """The path of the custom resources."""
        return f"{GROUP}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def create(self, name: str, *, resource: str = "ReflectionRequest", **spec: Any) -> Body:
        """Create a request with the required fields."""
        return self.call(
            "POST",
            self.requests(resource.lower() + "s"),
            {
                "apiVersion": "tasks.rae.dev/v1alpha1",
                "kind": resource,
                "metadata": {"name": name},
                "spec": {"tenantId": "demo-tenant", "project": "ai-research", **spec},
            },
        )

    def request(self, name: str) -> Body:
        """A ReflectionRequest."""
        return self.call("GET", self.requests(name=name))

    def status(self, name: str) -> Body:
        """Its status."""
        return dict(self.request(name).get("status") or {})

    def change(self, name: str, **spec: Any) -> Body:
        """Change fields of its spec."""
        return self.merge(self.requests(name=name), {"spec": spec})

    def wait_phase(self, name: str, *phases: str) -> Body:
        """Wait for a phase and return the status."""

        def look() -> Body | None:
            status = self.status(name)
            return status if status.get("phase") in phases else None

        found = eventually(look, why=f"{name} is {' or '.join(phases)}; it is {self.status(name)}")
        assert found is not None
        return found

    def wait_reason(self, name: str, reason: str) -> Body:
        """Wait for a reason and return the status."""
        eventually(
            lambda: self.status(name).get("reason") == reason, why=f"{name} has reason {reason}; it is {self.status(name)}"
        )
        return self.status(name)

    # --- Jobs and pods

    def jobs(self, name: str | None = None) -> list[Body]:
        """The Jobs of a request, or all."""
        return self._owned(f"/apis/batch/v1/namespaces/{self.namespace}/jobs", name)

    def pods(self, name: str | None = None) -> list[Body]:
        """The pods of a request, or all."""
        return self._owned(f"/api/v1/namespaces/{self.namespace}/pods", name)

    def _owned(self, path: str, name: str | None) -> list[Body]:
        selector = f"?labelSelector=tasks.rae.dev/request={name}" if name else ""
        return list(self.call("GET", path + selector)["items"])

    def events(self, name: str) -> list[str]:
        """The reasons of a request's events, in the order they were written."""
        path = f"/api/v1/namespaces/{self.namespace}/events?fieldSelector=involvedObject.name={name}"
        items = self.call("GET", path)["items"]
        return [e["reason"] for e in sorted(items, key=lambda e: (e["firstTimestamp"], e["metadata"]["name"]))]

    def pending_pod(self, name: str) -> Body:
        """Wait for a pod of the request that has not ended."""

        def look() -> Body | None:
            return next((p for p in self.pods(name) if p["status"]["phase"] in ("Pending", "Running") and not _going(p)), None)

        found = eventually(look, why=f"{name} has a pod; it is {self.status(name)}")
        assert found is not None
        return found

    # --- the kubelet's part

    def pod_waits(self, name: str, reason: str, message: str) -> None:
        """The pod's container cannot start."""
        self._container(self.pending_pod(name), "Pending", {"waiting": {"reason": reason, "message": message}})

    def pod_runs(self, name: str) -> None:
        """The pod's container runs."""
        self._container(self.pending_pod(name), "Running", {"running": {"startedAt": _now()}})

    def pod_ends(self, name: str, code: int = 0, message: Body | str = "", reason: str = "Error") -> None:
        """The pod's container has ended."""
        self.end(self.pending_pod(name), code, message, reason)

    def end(self, pod: Body, code: int = 0, message: Body | str = "", reason: str = "Error") -> None:
        """This pod's container has ended."""
        text = message if isinstance(message, str) else json.dumps({"version": 1, **message})
        end = {"exitCode": code, "reason": reason, "message": text, "startedAt": _now(), "finishedAt": _now()}
        self._container(pod, "Failed" if code else "Succeeded", {"terminated": end})

    def delete_pod(self, pod: Body) -> None:
        """Delete a pod at once, as the garbage collector of a node does."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"
        self.call("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})

    def _container(self, pod: Body, phase: str, state: Body) -> None:
        container = {"name": "task", "image": "x", "imageID": "x", "ready": False, "restartCount": 0, "state": state}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        self.merge(path, {"status": {"phase": phase, "containerStatuses": [container]}})


def _going(pod: Body) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def connect(url: str, namespace: str) -> Iterator[Client]:
    """The administrator's client."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, verify=False, timeout=30) as http:
        yield Client(http, namespace)
