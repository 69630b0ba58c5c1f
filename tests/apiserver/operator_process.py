"""The operator as a process of its own, which a test may stop, kill, pause and start again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.apiserver.client import eventually

COMMAND = [sys.executable, "-c", "from rae_operator.main import main; main()"]
#: Short, so that a takeover after a kill does not take the tests' time.
LEASE = {"durationSeconds": 4, "renewDeadlineSeconds": 3, "retrySeconds": 0.5}


@dataclass
class OperatorProcess:
    """One operator for one namespace."""

    folder: Path
    kubeconfig: Path
    namespace: str
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = "operator"
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it leads and has seen every object."""
        self.port = _free_port()
        file = self.folder / f"{self.name}.yaml"
        file.write_text(yaml.safe_dump(self._settings()))
        own = {"KUBECONFIG": str(self.kubeconfig), "RAE_OPERATOR_SETTINGS": str(file), "POD_NAME": self.name}
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(COMMAND, env={**os.environ, **own}, stdout=log, stderr=log)
        if ready:
            try:
                eventually(self.is_ready, why="the operator is ready")
            except AssertionError as error:
                raise AssertionError(f"{error}; its log ends {self.log_lines()[-3:]}") from None

    def _settings(self) -> dict[str, Any]:
        return {
            "namespaces": [self.namespace],
            "resyncSeconds": 5,
            "lease": {"namespace": self.namespace, **LEASE},
            "http": {"host": "127.0.0.1", "port": self.port},
            "task": {"image": "rae-tasks:test"},
            **self.settings,
        }

    def is_ready(self) -> bool:
        """Whether /readyz says so."""
        return self.probe("readyz") == 200

    def probe(self, path: str) -> int:
        """The HTTP status of a probe; 0 while nobody listens."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/{path}", timeout=5).status_code
        except httpx.HTTPError:
            return 0

    def metrics(self) -> dict[str, float]:
        """Each series with its value."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).text
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def writes(self, resource: str = "") -> float:
        """How many writes it has made, the Lease's left out."""
        found = self.metrics()
        reads = ('verb="get"', 'resource="leases"')
        return sum(
            count
            for name, count in found.items()
            if name.startswith("rae_operator_api_requests_total") and resource in name and not any(r in name for r in reads)
        )

    def log_lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        text = (self.folder / f"{self.name}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a node that loses its power."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """As Kubernetes stops a pod. Returns the exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end."""
        assert self.process is not None
        code = self.process.wait(60)
        self.process = None
        return code

    def end(self) -> None:
        """Whatever state it is in."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
