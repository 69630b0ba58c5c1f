"""The fake's HTTP side: a threaded server of Python's library, with faults on request.

The faults follow what real endpoints do: status and error body, headers, finish_reason, usage.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fake_llm import reader


@dataclass(frozen=True)
class Reply:
    """What goes over the wire; `hang` seconds pass before it."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0


Fault = Callable[[Mapping[str, Any]], Reply | None]


def error(status: int, code: str, *, param: str | None = None, message: str = "no", **headers: str) -> Reply:
    """An error as OpenAI writes it; header names with underscores become hyphens."""
    body = {"error": {"message": message, "type": code, "param": param, "code": code}}
    return Reply(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def completion(content: str | None, *, finish: str = "stop", refusal: str | None = None, prompt: str = "") -> Reply:
    """A completion with usage counted at four characters a token."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    asked, answered = len(prompt) // 4, len(content or "") // 4
    used = {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {**used, "prompt_tokens_details": {"cached_tokens": 0}},
    }
    return Reply(200, json.dumps(body).encode())


class FakeLlm:
    """A running fake.

    Attributes:
        base_url: for OPENAI_BASE_URL.
        requests: the bodies that came, in order.
        arrivals: when each came, by the machine's monotonic clock.
        answered: usage of each completion that was made, good ones alone.
        faults: replies that the next requests get, one each; None lets a request through.
        always: asked for each request after `faults` are used up.
        delay: seconds before each good answer.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.requests: list[Mapping[str, Any]] = []
        self.arrivals: list[float] = []
        self.answered: list[Mapping[str, Any]] = []
        self.faults: deque[Reply | Fault | None] = deque()
        self.always: Fault = lambda request: None
        self.keys: list[str] = []
        self.delay = 0.0
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        self.base_url = f"http://{host}:{self._server.server_address[1]}/v1"

    @contextmanager
    def running(self) -> Iterator[FakeLlm]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def wait_for(self, count: int, patience: float = 60.0) -> None:
        """Return once so many requests have come, or patience ends."""
        limit = time.monotonic() + patience
        while len(self.requests) < count and time.monotonic() < limit:
            time.sleep(0.01)

    def reply_to(self, path: str, request: Mapping[str, Any]) -> Reply:
        """The reply to one request."""
        self.requests.append(request)
        self.arrivals.append(time.monotonic())
        fault = self.faults.popleft() if self.faults else self.always
        reply = fault if isinstance(fault, Reply) else fault(request) if fault else None
        if reply is not None:
            return reply
        if path == "/v1/extract-triples":
            return self._ml_service(request)
        if path != "/v1/chat/completions":
            return error(404, "not_found")
        user = request["messages"][1]["content"]
        content = json.dumps(reader.answer(reader.schema_of(request), user))
        sent = "".join(message["content"] for message in request["messages"])
        good = completion(content, prompt=sent)
        self.answered.append(json.loads(good.body)["usage"])
        return Reply(good.status, good.body, hang=self.delay)

    def _ml_service(self, request: Mapping[str, Any]) -> Reply:
        found = [{"subject": s, "predicate": p, "object": o, "confidence": 0.8} for s, p, o, _ in reader.facts(request["text"])]
        return Reply(200, json.dumps({"triples": found}).encode(), hang=self.delay)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body go out as two packets; without this the second waits 40 ms for the client's delayed ACK.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                fake.keys.append(self.headers.get("authorization", ""))
                try:
                    reply = fake.reply_to(self.path, json.loads(raw))
                except (AssertionError, ValueError, KeyError) as problem:
                    reply = error(400, "fake_rejects", message=repr(problem))
                time.sleep(reply.hang)
                self._send(reply)

            def _send(self, reply: Reply) -> None:
                try:
                    self.send_response(reply.status)
                    for name, value in {"content-type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)
                except OSError:
                    # The client gave up waiting: that is what a timeout test is about.
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


@contextmanager
def fake_llm(host: str = "127.0.0.1") -> Iterator[FakeLlm]:
    """A fake on a free port of an address of this machine, for the length of the block."""
    with FakeLlm(host).running() as fake:
        yield fake
