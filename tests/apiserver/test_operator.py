"""The operator on a real API server with the real Job controller; the tests play the kubelet."""

from __future__ import annotations

import signal

import pytest

from tests.apiserver.client import Client, Refused, eventually
from tests.apiserver.conftest import StartOperator
from tests.apiserver.operator_process import OperatorProcess

pytestmark = pytest.mark.cluster

QUICK = {"maxAttempts": 3, "initialDelaySeconds": 1, "factor": 1, "jitter": 0}


def true_conditions(client: Client, name: str) -> set[str]:
    return {c["type"] for c in client.status(name).get("conditions", []) if c["status"] == "True"}


def test_a_request_runs_to_its_end_and_tells_of_it(client: Client, operator: OperatorProcess) -> None:
    client.create("weekly")
    client.pending_pod("weekly")
    client.pod_runs("weekly")
    running = client.wait_phase("weekly", "Running")
    assert running["podName"] == client.pods("weekly")[0]["metadata"]["name"]
    client.pod_ends("weekly", 0, {"reason": "Done", "message": "2 themes", "counters": {"themes": 2}, "runs": ["run-1"]})
    status = client.wait_phase("weekly", "Complete")
    assert (status["reason"], status["message"], status["attempts"]) == ("Done", "2 themes", 1)
    assert status["result"]["counters"] == {"themes": 2}
    assert status["resultRef"]["runs"] == ["run-1"]
    assert true_conditions(client, "weekly") == {"Accepted", "Started", "Complete", "Finished"}
    eventually(lambda: client.events("weekly") == ["JobCreated", "Complete"], why="two events")
    request = client.request("weekly")
    assert "finalizers" not in request["metadata"] and "annotations" not in request["metadata"]
    assert operator.writes() <= 8


def test_the_job_controller_takes_the_policy_as_it_is_meant(client: Client, operator: OperatorProcess) -> None:
    client.create("wrong")
    client.pod_ends("wrong", 65, {"reason": "BadData", "message": "there is no tenant named x"})
    status = client.wait_phase("wrong", "Failed")
    assert (status["reason"], status["message"], status["attempts"]) == ("BadData", "there is no tenant named x", 1)
    assert true_conditions(client, "wrong") >= {"Failed", "Finished"}
    (line,) = [entry for entry in operator.log_lines() if entry["event"] == "task_failed_permanently"]
    assert (line["task"], line["reason"], line["request"]) == ("generate-reflection", "BadData", "wrong")


def test_transient_failures_are_tried_again_and_the_last_is_the_end(client: Client, operator: OperatorProcess) -> None:
    client.create("locked", retry={**QUICK, "maxAttempts": 2})
    client.pod_ends("locked", 75, {"reason": "RunLocked", "message": "another run holds the lock"})
    eventually(lambda: len(client.jobs("locked")) == 2, why="a second Job")
    client.pod_ends("locked", 1)
    status = client.wait_phase("locked", "Failed")
    assert (status["attempts"], status["failures"], status["reason"]) == (2, 2, "Unexpected")
    assert {j["metadata"]["name"][-2:] for j in client.jobs("locked")} == {"-1", "-2"}


def test_slices_of_a_long_run_do_not_count(client: Client, operator: OperatorProcess) -> None:
    client.create("long", retry={"maxAttempts": 1})
    for part in (1, 2, 3):
        eventually(lambda p=part: client.status("long").get("attempts") == p, why=f"attempt {part}")  # type: ignore[misc]
        client.pod_ends("long", 75, {"reason": "TimeSliced", "message": f"{part} thirds"})
    eventually(lambda: client.status("long").get("attempts") == 4, why="attempt 4")
    client.pod_ends("long", 0, {"reason": "Done"})
    status = client.wait_phase("long", "Complete")
    assert (status["attempts"], status["failures"]) == (4, 0)


def test_an_evicted_pod_is_replaced_within_its_attempt(client: Client, operator: OperatorProcess) -> None:
    client.create("moved")
    pod = client.pending_pod("moved")
    path = f"/api/v1/namespaces/{client.namespace}/pods/{pod['metadata']['name']}/status"
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": ""}
    client.merge(path, {"status": {"conditions": [condition]}})
    client.end(pod, 137)
    replacement = client.pending_pod("moved")
    assert replacement["metadata"]["name"] != pod["metadata"]["name"]
    client.end(replacement, 0, {"reason": "Done"})
    status = client.wait_phase("moved", "Complete")
    assert (status["attempts"], status["failures"]) == (1, 0)


def test_a_missing_secret_is_named(client: Client, start_operator: StartOperator) -> None:
    start_operator(configMissingGraceSeconds=1)
    client.create("unset")
    client.pod_waits("unset", "CreateContainerConfigError", 'secret "rae-secrets" not found')
    status = client.wait_phase("unset", "Failed")
    assert status["reason"] == "ConfigMissing" and '"rae-secrets" not found' in status["message"]
    assert client.pods("unset") == []


def test_a_pod_that_does_not_start_in_time_ends_the_request(client: Client, operator: OperatorProcess) -> None:
    client.create("stuck", preRunningDeadlineSeconds=2)
    client.pod_waits("stuck", "ImagePullBackOff", "no such image")
    status = client.wait_phase("stuck", "Failed")
    assert status["reason"] == "PreRunningDeadlineExceeded" and "no such image" in status["message"]


def test_suspend_takes_the_job_away_and_resume_goes_on(client: Client, operator: OperatorProcess) -> None:
    client.create("pausing")
    client.pod_runs("pausing")
    client.wait_phase("pausing", "Running")
    client.change("pausing", suspend=True)
    assert client.wait_phase("pausing", "Suspended")["attempts"] == 1
    assert client.pods("pausing") == [] and client.jobs("pausing") == []
    client.change("pausing", suspend=False)
    client.pod_ends("pausing", 0, {"reason": "Done"})
    status = client.wait_phase("pausing", "Complete")
    assert (status["attempts"], status["failures"]) == (2, 0)


def test_a_cancelled_request_fails_and_nothing_of_it_is_left(client: Client, operator: OperatorProcess) -> None:
    client.create("unwanted")
    client.pod_runs("unwanted")
    client.wait_phase("unwanted", "Running")
    client.change("unwanted", cancel=True)
    assert client.wait_phase("unwanted", "Failed")["reason"] == "Cancelled"
    assert client.pods("unwanted") == []


def test_a_job_that_somebody_deletes_is_made_again_under_a_new_name(client: Client, operator: OperatorProcess) -> None:
    client.create("robbed", retry=QUICK)
    client.pending_pod("robbed")
    (job,) = client.jobs("robbed")
    path = f"/apis/batch/v1/namespaces/{client.namespace}/jobs/{job['metadata']['name']}?propagationPolicy=Background"
    client.call("DELETE", path)
    eventually(lambda: client.status("robbed").get("attempts") == 2, why="a second attempt")
    assert client.status("robbed")["lastFailure"]["reason"] == "JobDeleted"
    client.pod_ends("robbed", 0, {"reason": "Done"})
    client.wait_phase("robbed", "Complete")


def test_deleting_a_request_takes_its_job_and_pod_along(client: Client, operator: OperatorProcess) -> None:
    client.create("dropped")
    client.pending_pod("dropped")
    client.call("DELETE", client.requests(name="dropped"))
    eventually(lambda: client.jobs() == [] and client.pods() == [], why="no Job and no pod")


def test_a_finished_request_goes_after_its_time(client: Client, operator: OperatorProcess) -> None:
    client.create("brief", ttlSecondsAfterFinished=1)
    client.pod_ends("brief", 0)

    def gone() -> bool:
        try:
            client.request("brief")
        except Refused as refused:
            return refused.status == 404
        return False

    eventually(gone, why="the request is deleted")


def test_a_job_that_the_api_server_refuses_is_told_on_the_request(client: Client, operator: OperatorProcess) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    path = f"/api/v1/namespaces/{client.namespace}/resourcequotas"
    client.call("POST", path, quota)
    eventually(lambda: client.call("GET", f"{path}/none").get("status", {}).get("hard"), why="the quota is in force")
    client.create("poor")
    status = client.wait_reason("poor", "JobRefused")
    assert "exceeded quota" in status["message"]


def test_the_limit_of_jobs_lets_the_highest_priority_go_first(client: Client, start_operator: StartOperator) -> None:
    start_operator(maxActiveJobs=1)
    client.create("first")
    client.pending_pod("first")
    for name, priority in (("low", 1), ("high", 50)):
        client.create(name, priority=priority)
        client.wait_reason(name, "Queued")
    client.pod_ends("first", 0)
    client.pod_ends("high", 0)
    client.pod_ends("low", 0)
    for name in ("first", "high", "low"):
        client.wait_phase(name, "Complete")
    started = {name: client.jobs(name)[0]["metadata"]["creationTimestamp"] for name in ("high", "low")}
    assert started["high"] <= started["low"]


def test_with_kueue_the_job_waits_suspended(client: Client, operator: OperatorProcess) -> None:
    client.create("queued", queueName="team-a")
    status = client.wait_reason("queued", "Queued")
    assert "team-a" in status["message"]
    (job,) = client.jobs("queued")
    assert job["spec"]["suspend"] is True
    client.merge(f"/apis/batch/v1/namespaces/{client.namespace}/jobs/{job['metadata']['name']}", {"spec": {"suspend": False}})
    client.pod_ends("queued", 0)
    client.wait_phase("queued", "Complete")


# --- restarts


def test_a_pod_that_is_gone_before_the_operator_looks_still_ends_its_request(client: Client, operator: OperatorProcess) -> None:
    client.create("unseen", idempotencyKey="week-47")
    client.pod_runs("unseen")
    client.wait_phase("unseen", "Running")
    assert operator.stop() == 0
    (pod,) = client.pods("unseen")
    client.end(pod, 0, {"reason": "Done"})
    eventually(lambda: client.jobs("unseen")[0]["status"].get("succeeded"), why="the Job is complete")
    client.delete_pod(pod)
    operator.start()
    status = client.wait_phase("unseen", "Complete")
    assert status["resultRef"] == {"slot": "week-47"} and "result" not in status


def test_a_job_that_was_created_just_before_a_kill_is_adopted(client: Client, operator: OperatorProcess) -> None:
    client.create("twice")
    client.pending_pod("twice")
    operator.kill()
    path = client.requests(name="twice") + "/status"
    client.merge(path, {"status": None})
    operator.start()
    eventually(lambda: client.status("twice").get("attempts") == 1, why="the attempt is known again")
    assert len(client.jobs("twice")) == 1
    client.pod_ends("twice", 0)
    client.wait_phase("twice", "Complete")


def test_a_foreign_job_of_the_name_is_a_conflict(client: Client, operator: OperatorProcess) -> None:
    operator.stop()
    uid = client.create("taken")["metadata"]["uid"]
    container = {"name": "c", "image": "x"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"taken-{uid[:8]}-1"},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    client.call("POST", f"/apis/batch/v1/namespaces/{client.namespace}/jobs", job)
    operator.start()
    assert client.wait_phase("taken", "Failed")["reason"] == "Conflict"


def test_a_restart_writes_nothing_for_what_has_ended(client: Client, operator: OperatorProcess) -> None:
    for number in range(5):
        client.create(f"old-{number}")
        client.pod_ends(f"old-{number}", 0)
        client.wait_phase(f"old-{number}", "Complete")
    before = [client.request(f"old-{n}")["metadata"]["resourceVersion"] for n in range(5)]
    assert operator.stop() == 0
    operator.start()
    eventually(lambda: operator.metrics()['rae_operator_reconciles_total{result="ok"}'] >= 5, why="all were looked at")
    assert operator.writes() == 0
    assert [client.request(f"old-{n}")["metadata"]["resourceVersion"] for n in range(5)] == before


# --- the one leader


def test_a_second_operator_waits_and_takes_over_when_the_first_is_stopped(client: Client, start_operator: StartOperator) -> None:
    first = start_operator(name="first")
    second = start_operator(name="second", ready=False)
    eventually(lambda: second.probe("healthz") == 200, why="the second is alive")
    assert second.probe("readyz") == 503
    assert first.stop() == 0
    eventually(second.is_ready, why="the second leads")
    client.create("after")
    client.pod_ends("after", 0)
    client.wait_phase("after", "Complete")


def test_an_operator_that_was_paused_beyond_its_lease_ends_without_a_write(client: Client, start_operator: StartOperator) -> None:
    first = start_operator(name="first")
    second = start_operator(name="second", ready=False)
    first.send(signal.SIGSTOP)
    eventually(second.is_ready, why="the second leads")
    client.create("once")
    client.pending_pod("once")
    first.send(signal.SIGCONT)
    assert first.wait() == 1
    assert any(entry["event"] == "lease_lost" for entry in first.log_lines())
    assert not any(entry["event"] == "job_created" for entry in first.log_lines())
    client.pod_ends("once", 0)
    client.wait_phase("once", "Complete")
    assert len(client.jobs("once")) == 1
