"""`serve-ml` over real HTTP: RAE's shapes, limits, refusals that repeat nothing, and its end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from rae_jobctl.errors import ConfigError
from rae_jobctl.ml_server import work
from rae_jobctl.ml_server.app import Limits
from rae_jobctl.ml_server.schemas import MAX_BODY_BYTES, MAX_NODES, MAX_TEXT, MAX_TEXTS
from tests.ml_serving import ml_server, until_ready

SECRET = "Zanzibar-4711"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with ml_server() as url, httpx.AsyncClient(base_url=url, timeout=30) as opened:
        yield opened


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


# The API ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dependency", "simple"])
async def test_triples_have_raes_four_keys(client: httpx.AsyncClient, method: str) -> None:
    answer = await post(client, "/extract-triples", text="Alice uses Redis.", language="en", method=method)
    assert answer == {"triples": [{"subject": "alice", "predicate": "USE", "object": "redis", "confidence": 0.9}]}


async def test_groups_and_statistics_have_raes_keys(client: httpx.AsyncClient) -> None:
    labels = {"1": "Acme Inc.", "2": "ACME", "3": "Globex", "4": "Kubernets", "5": "kubernetes"}
    nodes = [{"id": key, "label": label} for key, label in labels.items()]
    answer = await post(client, "/resolve-entities", nodes=nodes, similarity_threshold=0.85)
    assert answer["merge_groups"] == [["1", "2"], ["4", "5"]]
    assert answer["statistics"] == {
        "nodes_processed": 5,
        "groups_found": 2,
        "total_clusters": 3,
        "similarity_threshold": 0.85,
        "average_group_similarity": pytest.approx(0.95),
    }


async def test_the_threshold_decides(client: httpx.AsyncClient) -> None:
    nodes = [{"id": "1", "label": "Kubernets"}, {"id": "2", "label": "Kubernetes"}]
    assert (await post(client, "/resolve-entities", nodes=nodes, similarity_threshold=0.99))["merge_groups"] == []


async def test_nothing_to_resolve_is_no_group(client: httpx.AsyncClient) -> None:
    answer = await post(client, "/resolve-entities", nodes=[])
    assert (answer["merge_groups"], answer["statistics"]["average_group_similarity"]) == ([], 0.0)


async def test_embeddings_say_by_which_model_they_are(client: httpx.AsyncClient) -> None:
    answer = await post(client, "/embeddings", texts=["Alice uses Redis.", ""])
    assert (answer["model"], answer["dimension"]) == ("rae-hash-384", 384)
    assert [len(vector) for vector in answer["embeddings"]] == [384, 384]


async def test_vectors_of_another_model_are_not_made_up(client: httpx.AsyncClient) -> None:
    response = await client.post("/embeddings", json={"texts": ["x"], "model": "nomic-embed-text"})
    assert response.status_code == 422
    assert "rae-hash-384" in response.json()["detail"]


async def test_health_and_readiness(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json()["status"] == "healthy"
    assert (await client.get("/ready")).json() == {"status": "ready"}


# Refusals --------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[str, bytes, int]] = {
    "no JSON": ("/extract-triples", f"text={SECRET}".encode(), 400),
    "half of it": ("/extract-triples", f'{{"text": "{SECRET}'.encode(), 400),
    "not UTF-8": ("/extract-triples", b'{"text": "\xff"}', 400),
    "half a character": ("/extract-triples", rb'{"text": "\ud800"}', 400),
    "a list": ("/extract-triples", f'["{SECRET}"]'.encode(), 422),
    "depth": ("/extract-triples", b"[" * 100_000, 400),
    "nothing": ("/extract-triples", b"", 400),
    "no text": ("/extract-triples", f'{{"txt": "{SECRET}"}}'.encode(), 422),
    "a number": ("/extract-triples", b'{"text": 4711}', 422),
    "too long a text": ("/extract-triples", json.dumps({"text": SECRET + "x" * MAX_TEXT}).encode(), 422),
    "another language": ("/extract-triples", json.dumps({"text": "x", "language": SECRET}).encode(), 422),
    "another method": ("/extract-triples", json.dumps({"text": "x", "method": SECRET}).encode(), 422),
    "too many nodes": (
        "/resolve-entities",
        json.dumps({"nodes": [{"id": str(n), "label": SECRET} for n in range(MAX_NODES + 1)]}).encode(),
        422,
    ),
    "two of one id": ("/resolve-entities", json.dumps({"nodes": [{"id": SECRET, "label": "x"}] * 2}).encode(), 422),
    "no label": ("/resolve-entities", json.dumps({"nodes": [{"id": SECRET}]}).encode(), 422),
    "no number": ("/resolve-entities", b'{"nodes": [], "similarity_threshold": NaN}', 422),
    "too high": ("/resolve-entities", b'{"nodes": [], "similarity_threshold": 1.01}', 422),
    "too many texts": ("/embeddings", json.dumps({"texts": [SECRET] * (MAX_TEXTS + 1)}).encode(), 422),
    "one long text": ("/embeddings", json.dumps({"texts": [SECRET + "x" * MAX_TEXT]}).encode(), 422),
    "too large a body": ("/embeddings", b'"' + b"x" * MAX_BODY_BYTES, 413),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_says_why_and_repeats_nothing(client: httpx.AsyncClient, name: str) -> None:
    path, body, status = REFUSALS[name]
    with capture_logs() as logs:
        response = await client.post(path, content=body)
    assert logs
    assert response.status_code == status
    assert set(response.json()) == {"detail", "code"}
    assert len(response.json()["detail"]) < 400
    assert SECRET not in response.text + str(logs)


async def test_a_body_of_unsaid_length_ends_at_the_limit_too(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b"x" * 65536

    assert (await client.post("/extract-triples", content=endless())).status_code == 413


async def test_a_compressed_body_is_refused_unread(client: httpx.AsyncClient) -> None:
    response = await client.post("/extract-triples", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (response.status_code, response.json()["code"]) == (415, "Compressed")


async def test_an_unknown_path_and_a_wrong_method(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/{SECRET}")).json() == {"detail": "there is no such path", "code": "NotFound"}
    response = await client.get("/extract-triples")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_what_nobody_foresaw_is_a_500_without_its_text(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(texts: list[str]) -> None:
        raise RuntimeError(texts[0])

    monkeypatch.setattr(work, "embed", broken)
    with capture_logs() as logs:
        response = await client.post("/embeddings", json={"texts": [SECRET]})
    told = response.text + str(logs)
    assert response.status_code == 500
    assert SECRET not in told
    assert "RuntimeError" in told


async def test_the_access_log_has_the_route_and_no_body(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await post(client, "/extract-triples", text=f"{SECRET} uses Redis.")
        await client.get(f"/{SECRET}?{SECRET}")
    requests = [(one["method"], one["path"], one["status"]) for one in logs if one["event"] == "request"]
    assert requests == [("POST", "/extract-triples", 200), ("GET", "unknown", 404)]
    assert SECRET not in str(logs)


# Load ------------------------------------------------------------------------------------------


async def test_beyond_its_queue_it_says_503_at_once_and_health_is_still_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "embeddings", slow(0.5))
    async with ml_server(Limits(waiting=2)) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        calls = [asyncio.create_task(client.post("/embeddings", json={"texts": []})) for _ in range(5)]
        await asyncio.sleep(0.2)
        assert (await client.get("/health")).status_code == 200
        assert (await client.post("/extract-triples", json={"text": "Alice uses Redis."})).status_code == 200
        responses = await asyncio.gather(*calls)
        assert sorted(response.status_code for response in responses) == [200, 200, 503, 503, 503]
        refused = next(response for response in responses if response.status_code == 503)
        assert (refused.headers["retry-after"], refused.json()["code"]) == ("1", "Busy")
        assert (await client.post("/embeddings", json={"texts": []})).status_code == 200


async def test_what_takes_too_long_is_a_503_and_keeps_its_place_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "embeddings", slow(0.6))
    async with ml_server(Limits(waiting=1, seconds=0.1)) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        first = await client.post("/embeddings", json={"texts": []})
        second = await client.post("/embeddings", json={"texts": []})
        assert "no answer within" in first.json()["detail"]
        assert "waiting already" in second.json()["detail"]


def slow(seconds: float) -> Any:
    def answer(body: bytes) -> bytes:
        time.sleep(seconds)
        return b"{}"

    return answer


async def test_a_body_that_does_not_come_is_a_408() -> None:
    async with ml_server(Limits(body_seconds=0.2)) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_many_at_once_are_all_answered_in_turn(client: httpx.AsyncClient) -> None:
    names = ["Alice", "Bob", "Carol"] * 7
    answers = await asyncio.gather(*[post(client, "/extract-triples", text=f"{name} uses Redis.") for name in names])
    assert [answer["triples"][0]["subject"] for answer in answers] == [name.lower() for name in names]


# The process -----------------------------------------------------------------------------------


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`rae-jobctl serve-ml` and its URL."""
    command = [sys.executable, "-m", "rae_jobctl", "serve-ml", "--port", "0", *arguments]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        found = re.search(r"http://\S+", started.stdout.readline())
        assert found
        yield started, found[0]
    finally:
        started.kill()
        started.communicate()


async def test_sigterm_ends_what_was_begun_and_then_the_process() -> None:
    with process() as (started, url):
        await until_ready(url)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            text = "Alice uses Redis for the cache of the shop. " * 200
            call = asyncio.create_task(client.post("/extract-triples", json={"text": text}))
            await asyncio.sleep(0.1)
            started.send_signal(signal.SIGTERM)
            assert (await call).status_code == 200
            assert await asyncio.to_thread(started.wait, 20) == 0
            with pytest.raises(httpx.TransportError):
                await client.get("/health")


async def test_it_answers_health_before_it_is_ready() -> None:
    with process() as (started, url):
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/health")).status_code == 200
        started.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(started.wait, 20) == 0


async def test_an_address_that_is_taken_is_said_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "rae_jobctl", "serve-ml", "--port", port]
        ended = await asyncio.to_thread(lambda: subprocess.run(command, capture_output=True, text=True, timeout=60))
    assert ended.returncode == 78
    assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in ended.stderr


async def test_without_its_parser_it_leaves_instead_of_never_being_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ConfigError("the local provider is not installed")

    monkeypatch.setattr(work, "warm_up", missing)
    with pytest.raises(ConfigError, match="not installed"):
        async with ml_server():
            pass
