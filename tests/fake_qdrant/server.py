"""A threaded HTTP server in front of `QdrantClient(":memory:")`.

Requests are read with the client's own generated models, which refuse unknown fields, and answered in the server's envelope; the
errors (key, collection, malformed body) have the status and form of the real server's.
"""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import pydantic
from qdrant_client import QdrantClient
from qdrant_client.http import models

#: As RAE's adapter makes its collection.
RAE_VECTORS = {
    "dense": models.VectorParams(size=384, distance=models.Distance.COSINE),
    "nomic": models.VectorParams(size=768, distance=models.Distance.COSINE),
}
_MAX_BODY = 32 * 1024 * 1024

Reply = tuple[int, Any]


class FakeQdrant:
    """A running server.

    Attributes:
        url: for QDRANT_URL.
        engine: Qdrant's client in its in-memory mode; ask it what is stored. Hold `lock` while other threads may call.
        api_key: what requests must bring; empty for none.
        requests: (method, path, body) of each request, in order.
        faults: for the next requests, one each: a reply in place of the engine's, or None to let it through.
        always: a fault for each request after `faults` are used up.
    """

    def __init__(self) -> None:
        self.engine = QdrantClient(":memory:")
        self.lock = threading.RLock()
        self.api_key = ""
        self.requests: list[tuple[str, str, Any]] = []
        self.faults: deque[Reply | None] = deque()
        self.always: Reply | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[FakeQdrant]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
            self.engine.close()

    def create(self, collection: str = "memories", vectors: Any = None) -> None:
        """A collection, by default of RAE's form."""
        self.engine.create_collection(
            collection,
            vectors_config=vectors or RAE_VECTORS,
            sparse_vectors_config={"text": models.SparseVectorParams()} if vectors is None else None,
        )

    def add(self, tenant: object, ids: Sequence[UUID | str | int], collection: str = "memories", **payload: Any) -> None:
        """Points as RAE writes them, with a dense vector; `tenant` None leaves the tenant_id out."""
        told = {} if tenant is None else {"tenant_id": tenant if isinstance(tenant, int) else str(tenant)}
        points = [
            models.PointStruct(
                id=one if isinstance(one, int) else str(one),
                vector={"dense": [1.0] + [0.0] * 383},
                payload={"memory_id": str(one), "content": f"memory {one}", **told, **payload},
            )
            for one in ids
        ]
        with self.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.engine.upsert(collection, points)

    def ids(self, tenant: object = None, collection: str = "memories") -> set[str | int]:
        """The ids that are stored, of one tenant or all."""
        return {one.id if isinstance(one.id, int) else str(one.id) for one in self._all(tenant, collection)}

    def point(self, id: UUID | str | int, collection: str = "memories") -> models.Record:
        """One stored point with its payload and vectors."""
        key = id if isinstance(id, int) else str(id)
        with self.lock:
            [found] = self.engine.retrieve(collection, [key], with_vectors=True)
        return found

    def _all(self, tenant: object, collection: str) -> list[models.Record]:
        condition = models.FieldCondition(key="tenant_id", match=models.MatchValue(value=str(tenant)))
        with self.lock:
            chosen = models.Filter(must=[condition]) if tenant is not None else None
            found, rest = self.engine.scroll(collection, chosen, limit=1_000_000)
        assert rest is None
        return list(found)

    def calls(self, ending: str) -> list[Any]:
        """The bodies of the requests whose path ends so."""
        return [body for _, path, body in self.requests if urlsplit(path).path.endswith(ending)]

    def answer(self, method: str, path: str, key: str, raw: bytes) -> Reply:
        """Status and body of one request."""
        body = json.loads(raw) if raw else None
        self.requests.append((method, path, body))
        fault = self.faults.popleft() if self.faults else self.always
        if fault is not None:
            return fault
        if self.api_key and key != self.api_key:
            return 401, "Must provide an API key or an Authorization bearer token" if not key else "Invalid API key or JWT"
        if len(raw) > _MAX_BODY:
            return error(413, "Payload too large")
        try:
            with self.lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return 200, {"result": self._route(method, unquote(urlsplit(path).path), body), "status": "ok", "time": 0.001}
        except pydantic.ValidationError as problem:
            return error(400, f"Format error in JSON body: {problem.errors()[0]['msg']}")
        except LookupError:
            return 404, ""
        except ValueError as problem:
            missing = re.fullmatch(r"Collection (.+) not found", str(problem))
            if missing:
                return error(404, f"Not found: Collection `{missing[1]}` doesn't exist!")
            return error(400, f"Wrong input: {problem}")

    def _route(self, method: str, path: str, body: Any) -> Any:
        if (method, path) == ("GET", "/collections"):
            return {"collections": [{"name": one.name} for one in self.engine.get_collections().collections]}
        matched = re.fullmatch(r"/collections/([^/]+)(/.*)?", path)
        if matched is None:
            raise LookupError(path)
        return _json(_ROUTES[method, matched[2] or ""](self.engine, matched[1], body))


def error(status: int, text: str) -> Reply:
    """An error in Qdrant's own form."""
    return status, {"status": {"error": text}, "time": 0.0}


def _scroll(engine: QdrantClient, collection: str, body: Mapping[str, Any]) -> Any:
    asked = models.ScrollRequest(**body)
    points, following = engine.scroll(
        collection,
        asked.filter,
        limit=asked.limit or 10,
        offset=asked.offset,
        with_payload=True if asked.with_payload is None else asked.with_payload,
        with_vectors=asked.with_vector or False,
    )
    return {"points": points, "next_page_offset": following}


def _retrieve(engine: QdrantClient, collection: str, body: Mapping[str, Any]) -> Any:
    asked = models.PointRequest(**body)
    payload = True if asked.with_payload is None else asked.with_payload
    return engine.retrieve(collection, asked.ids, with_payload=payload, with_vectors=asked.with_vector or False)


def _count(engine: QdrantClient, collection: str, body: Mapping[str, Any]) -> Any:
    asked = models.CountRequest(**body)
    return engine.count(collection, asked.filter, exact=bool(asked.exact))


def _delete(engine: QdrantClient, collection: str, body: Mapping[str, Any]) -> Any:
    asked = models.PointIdsList(**body) if "points" in body else models.FilterSelector(**body)
    return engine.delete(collection, asked)


def _upsert(engine: QdrantClient, collection: str, body: Mapping[str, Any]) -> Any:
    return engine.upsert(collection, models.PointsList(**body).points)


_ROUTES: dict[tuple[str, str], Callable[[QdrantClient, str, Any], Any]] = {
    ("GET", ""): lambda engine, collection, body: engine.get_collection(collection),
    ("POST", "/points/scroll"): _scroll,
    ("POST", "/points"): _retrieve,
    ("POST", "/points/count"): _count,
    ("POST", "/points/delete"): _delete,
    ("PUT", "/points"): _upsert,
}


def _json(value: Any) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {name: _json(one) for name, one in value.items()}
    return [_json(one) for one in value] if isinstance(value, list | tuple) else value


def _handler(fake: FakeQdrant) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, body = fake.answer(self.command, self.path, self.headers.get("api-key", ""), raw)
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("content-type", "text/plain" if isinstance(body, str) else "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def fake_qdrant() -> Iterator[FakeQdrant]:
    """A server on a free port for the length of the block."""
    with FakeQdrant().running() as fake:
        yield fake
