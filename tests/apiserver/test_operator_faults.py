"""Kills and a bad API server: nothing runs twice, and everything ends."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.apiserver.client import Client, Refused, eventually
from tests.apiserver.conftest import StartOperator
from tests.apiserver.controlplane import OPERATOR_TOKEN, ControlPlane, _kubeconfig
from tests.apiserver.fault_proxy import Faults, fault_proxy

pytestmark = pytest.mark.cluster

REQUESTS = 30


@contextmanager
def a_busy_kubelet(client: Client) -> Iterator[Counter[str]]:
    """Runs every pod to a good end; counts the pods that it started, by request."""
    started: Counter[str] = Counter()
    over = threading.Event()

    def work() -> None:
        seen: set[str] = set()
        while not over.is_set():
            for pod in client.pods():
                uid = pod["metadata"]["uid"]
                if uid not in seen and pod["status"]["phase"] == "Pending":
                    seen.add(uid)
                    started[pod["metadata"]["labels"]["tasks.rae.dev/request"]] += 1
                    try:
                        client.end(pod, 0, {"reason": "Done"})
                    except Refused:
                        continue
            time.sleep(0.1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield started
    finally:
        over.set()
        thread.join()


def all_ended(client: Client) -> bool:
    items = client.call("GET", client.requests())["items"]
    return len(items) == REQUESTS and all((i.get("status") or {}).get("phase") in ("Complete", "Failed") for i in items)


def assert_each_ran_once(client: Client, started: Counter[str]) -> None:
    items = client.call("GET", client.requests())["items"]
    assert [i["status"]["phase"] for i in items] == ["Complete"] * REQUESTS
    assert [i["status"]["attempts"] for i in items] == [1] * REQUESTS
    assert len(client.jobs()) == REQUESTS
    assert set(started.values()) == {1}


def test_an_operator_that_is_killed_again_and_again_runs_nothing_twice(client: Client, start_operator: StartOperator) -> None:
    operator = start_operator(
        lease={"namespace": client.namespace, "durationSeconds": 1, "renewDeadlineSeconds": 0.8, "retrySeconds": 0.2}
    )
    with a_busy_kubelet(client) as started:
        kills = 0
        for number in range(REQUESTS):
            client.create(f"r{number}")
            if number % 6 == 5:
                time.sleep(random.uniform(0, 0.4))
                operator.kill()
                operator.start(ready=False)
                kills += 1
        eventually(lambda: all_ended(client), why="every request ends")
    assert kills == 5
    assert_each_ran_once(client, started)


def test_errors_throttling_and_lost_answers_of_the_api_server_run_nothing_twice(
    client: Client, plane: ControlPlane, start_operator: StartOperator, tmp_path: Path
) -> None:
    faults = Faults(too_many=0.1, internal_error=0.1, lost_answer=0.1, reset=0.05)
    with fault_proxy(plane.url, faults) as url:
        kubeconfig = tmp_path / "through-the-proxy"
        kubeconfig.write_text(json.dumps(_kubeconfig(url, OPERATOR_TOKEN)))
        operator = start_operator(kubeconfig=kubeconfig)
        with a_busy_kubelet(client) as started:
            for number in range(REQUESTS):
                client.create(f"r{number}")
            eventually(lambda: all_ended(client), why="every request ends", seconds=180)
        assert faults.made > REQUESTS
        assert operator.stop() == 0
    assert_each_ran_once(client, started)
    assert not any(entry["event"] == "reconcile_broken" for entry in operator.log_lines())
