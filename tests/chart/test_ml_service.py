"""Our own server of the ML service API, and who may reach it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.charts import Chart, Manifest, container, environment, job_spec

NAME = "rae-tasks-ml-service"
ON: dict[str, Any] = {"mlService": {"enabled": True}, "llm": {"provider": "ml-service"}}
URL = "http://rae-tasks-ml-service.rae.svc:8001"


def _deployment(chart: Chart, values: dict[str, Any]) -> Manifest:
    return chart.render(values).one("Deployment", NAME)


def test_it_is_off_by_default(chart: Chart) -> None:
    rendered = chart.render()
    assert NAME not in rendered.names("Deployment") | rendered.names("Service")


def test_the_tasks_use_it_unless_another_is_named(chart: Chart) -> None:
    rendered = chart.render(ON)
    task = environment(container(job_spec(rendered.one("CronJob", "rae-tasks-decay"))))
    assert task["ML_SERVICE_URL"] == URL == environment(rendered.operator_settings()["task"])["ML_SERVICE_URL"]
    other = chart.render({**ON, "llm": {"provider": "ml-service", "mlServiceUrl": "http://other:8001"}})
    assert environment(other.operator_settings()["task"])["ML_SERVICE_URL"] == "http://other:8001"


def test_the_url_the_service_and_the_server_have_one_port(chart: Chart) -> None:
    rendered = chart.render({**ON, "mlService": {"enabled": True, "port": 9001, "replicas": 3}})
    deployment, service = rendered.one("Deployment", NAME), rendered.one("Service", NAME)
    assert deployment["spec"]["replicas"] == 3
    assert "--port=9001" in container(deployment["spec"])["args"]
    assert container(deployment["spec"])["ports"] == [{"name": "http", "containerPort": 9001}]
    assert service["spec"]["ports"] == [{"name": "http", "port": 9001, "targetPort": "http"}]
    assert environment(rendered.operator_settings()["task"])["ML_SERVICE_URL"].endswith(":9001")


def test_its_arguments_are_those_of_the_command(chart: Chart) -> None:
    from typer.main import get_command

    from rae_jobctl.commands.serve_ml import app

    command = get_command(app)
    options = {option for parameter in command.params for option in parameter.opts}
    name, *arguments = container(_deployment(chart, ON)["spec"])["args"]
    assert name == "serve-ml"
    assert {argument.partition("=")[0] for argument in arguments} <= options


def test_it_has_no_secret_and_no_token(chart: Chart) -> None:
    pod = _deployment(chart, {**ON, "extraEnvFrom": [{"secretRef": {"name": "all"}}]})["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert environment(pod["containers"][0]).keys() == {"HOME", "TMPDIR"}
    assert "envFrom" not in pod["containers"][0]


def test_a_stop_leaves_time_for_what_is_under_way(chart: Chart) -> None:
    pod = _deployment(chart, {**ON, "mlService": {"enabled": True, "timeoutSeconds": 120}})["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert "--grace=120" in pod["containers"][0]["args"]
    assert pod["terminationGracePeriodSeconds"] > 120 + pause


def test_only_tasks_and_those_who_are_named_reach_it_and_it_reaches_nobody(chart: Chart) -> None:
    peer = {"podSelector": {"matchLabels": {"app": "rae-api"}}}
    values = {**ON, "networkPolicy": {"enabled": True, "mlServiceFrom": [peer]}, "watchNamespaces": ["other"]}
    policy = chart.render(values).one("NetworkPolicy", NAME)
    (rule,) = policy["spec"]["ingress"]
    *tasks, last = rule["from"]
    assert [one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in tasks] == ["rae", "other"]
    assert {one["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for one in tasks} == {"task"}
    assert last == peer
    assert rule["ports"] == [{"port": 8001, "protocol": "TCP"}]
    assert policy["spec"]["egress"] == []


@pytest.mark.parametrize("enabled", [True, False])
def test_tasks_may_leave_for_it_where_it_runs(chart: Chart, enabled: bool) -> None:
    values = {"networkPolicy": {"enabled": True}, "mlService": {"enabled": enabled}}
    rules = chart.render(values).one("NetworkPolicy", "rae-tasks-task")["spec"]["egress"]
    assert (8001 in {port["port"] for rule in rules for port in rule["ports"]}) is enabled
