"""Requests in Kubernetes that name the person go; the server speaks the part of the API that this needs, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.memories import OTHER, TENANT
from tests.integration.test_erase_user import World, world

__all__ = ["world"]

_GROUP = "/apis/tasks.rae.dev/v1alpha1"
_PLURALS = ("graphextractionrequests", "reflectionrequests", "requestsofalaterimage")


class ApiServer(ThreadingHTTPServer):
    """Discovery, paged lists, and deletions with a precondition, as the API server answers them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.items: dict[str, dict[str, dict[str, Any]]] = {plural: {} for plural in _PLURALS}
        self.policies: list[str] = []
        self.forbidden = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, plural: str, name: str, **body: Any) -> None:
        """Store a request."""
        self.items[plural][name] = {"metadata": {"name": name, "uid": f"uid-{name}"}, **body}


class _Handler(BaseHTTPRequestHandler):
    server: ApiServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        if self.server.forbidden:
            return self._answer(403, {"message": "requests is forbidden"})
        if place.path == _GROUP:
            kinds = [{"name": plural, "namespaced": True} for plural in _PLURALS]
            return self._answer(200, {"resources": [*kinds, {"name": f"{_PLURALS[0]}/status", "namespaced": True}]})
        prefix, _, plural = place.path.rpartition("/")
        assert prefix == f"{_GROUP}/namespaces/rae"
        begin = int(parse_qs(place.query).get("continue", ["0"])[0])
        items = list(self.server.items[plural].values())
        rest = {"continue": str(begin + 2)} if begin + 2 < len(items) else {}
        return self._answer(200, {"items": items[begin : begin + 2], "metadata": rest})

    def do_DELETE(self) -> None:
        plural, name = self.path.split("/")[-2:]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = self.server.items[plural].get(name)
        if found is None:
            return self._answer(404, {"message": "not found"})
        if body["preconditions"]["uid"] != found["metadata"]["uid"]:
            return self._answer(409, {"message": "the UID in the precondition does not match"})
        del self.server.items[plural][name]
        self.server.policies.append(body["propagationPolicy"])
        return self._answer(200, {"status": "Success"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture
def cluster() -> Iterator[ApiServer]:
    with ApiServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _fill(cluster: ApiServer, world: World) -> None:
    first, second, third = _PLURALS
    mine = {"tenantId": str(TENANT), "project": "p"}
    cluster.add(first, "by-memory", spec={**mine, "memoryIds": [str(world.memories[TENANT][0])]})
    cluster.add(first, "by-name", spec={"tenantId": "tenant-0", "project": "of alice"})
    cluster.add(first, "neighbour", spec={**mine, "project": "malice"})
    cluster.add(first, "other-tenant", spec={"tenantId": str(OTHER), "project": "alice"})
    cluster.add(second, "by-status", spec=mine, status={"conditions": [{"message": "Alice is unknown"}]})
    cluster.add(second, "plain", spec=mine, status={"phase": "Complete"})
    cluster.add(third, "later", spec={**mine, "who": "ann@x.org"})


def test_requests_that_name_the_person_or_her_memories_go(world: World, cluster: ApiServer) -> None:
    _fill(cluster, world)
    ended = world.erase("--yes", "--kubernetes", RAE_KUBE_API=cluster.url, RAE_NAMESPACE="rae")
    assert ended.code == 0, ended.errors
    assert ended.json["result"]["requests"] == 4
    assert {name for items in cluster.items.values() for name in items} == {"neighbour", "other-tenant", "plain"}
    assert cluster.policies == ["Background"] * 4


def test_a_dry_run_counts_requests_and_leaves_them(world: World, cluster: ApiServer) -> None:
    _fill(cluster, world)
    ended = world.erase("--dry-run", "--kubernetes", RAE_KUBE_API=cluster.url, RAE_NAMESPACE="rae")
    assert ended.json["result"]["requests"] == 4
    assert not cluster.policies


def test_a_refusal_is_a_matter_of_configuration_and_an_outage_is_not(world: World, cluster: ApiServer) -> None:
    cluster.forbidden = True
    refused = world.erase("--yes", "--kubernetes", RAE_KUBE_API=cluster.url, RAE_NAMESPACE="rae")
    assert (refused.code, refused.json["reason"]) == (78, "KubernetesForbidden")
    away = world.erase("--yes", "--kubernetes", RAE_KUBE_API="http://127.0.0.1:1", RAE_NAMESPACE="rae")
    assert (away.code, away.json["reason"]) == (75, "KubernetesUnreachable")


def test_without_the_flag_requests_are_skipped_with_a_word(world: World) -> None:
    assert world.erase("--yes").json["result"]["requests"] == "skipped: no --kubernetes"
