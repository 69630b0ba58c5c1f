"""Who may reach whom: a table worked out from the policies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.charts import Chart, Manifest, Rendered, pod_templates

ON: dict[str, Any] = {"networkPolicy": {"enabled": True}, "demo": {"enabled": True}}
DNS, POSTGRES, REDIS, HTTPS, API = 53, 5432, 6379, 443, 6443


def _selects(policy: Manifest, labels: dict[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    exact = selector["matchLabels"].items() <= labels.items()
    return exact and all(labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", []))


def _of(rendered: Rendered, pod: str) -> list[Manifest]:
    labels = pod_templates(rendered)[pod]["metadata"]["labels"]
    policies = [policy for policy in rendered.all("NetworkPolicy") if _selects(policy, labels)]
    assert policies, f"no policy selects {pod}"
    return policies


def _ports(policies: list[Manifest], direction: str) -> set[int]:
    return {port["port"] for policy in policies for rule in policy["spec"][direction] for port in rule["ports"]}


def test_off_by_default(chart: Chart) -> None:
    assert not chart.render().all("NetworkPolicy")


def test_a_task_reaches_its_database_its_cache_its_model_and_nothing_reaches_it(chart: Chart) -> None:
    policies = _of(chart.render(ON), "CronJob/rae-tasks-decay")
    assert _ports(policies, "egress") == {DNS, POSTGRES, REDIS, HTTPS}
    assert _ports(policies, "ingress") == set()


def test_the_tasks_that_create_requests_reach_the_api_server_too(chart: Chart) -> None:
    policies = _of(chart.render(ON), "CronJob/rae-tasks-schedule-reflections")
    assert _ports(policies, "egress") == {DNS, POSTGRES, REDIS, HTTPS, API}


def test_the_operator_reaches_the_api_server_and_no_database(chart: Chart) -> None:
    policies = _of(chart.render(ON), "Deployment/rae-tasks-operator")
    assert _ports(policies, "egress") == {DNS, HTTPS, API}
    assert _ports(policies, "ingress") == set()


def test_metrics_are_for_those_who_are_named(chart: Chart) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    rendered = chart.render({"networkPolicy": {"enabled": True, "metricsFrom": [peer]}, "operator": {"port": 9000}})
    ingress = _of(rendered, "Deployment/rae-tasks-operator")[0]["spec"]["ingress"]
    assert ingress == [{"from": [peer], "ports": [{"port": 9000, "protocol": "TCP"}]}]


def test_the_demos_database_answers_pods_of_the_release_alone(chart: Chart) -> None:
    (policy,) = _of(chart.render(ON), "StatefulSet/rae-tasks-demo-postgres")
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "rae-tasks", "app.kubernetes.io/instance": "rae-tasks"}}}
    ]
    assert policy["spec"]["egress"] == []


def test_the_pods_of_requests_are_under_the_policy_of_tasks_wherever_they_run(chart: Chart) -> None:
    rendered = chart.render({**ON, "watchNamespaces": ["other"]})
    labels = rendered.operator_settings()["task"]["podLabels"]
    for namespace in ("rae", "other"):
        assert _selects(rendered.one("NetworkPolicy", "rae-tasks-task", namespace), labels)


def test_a_databases_own_port_is_the_one_that_is_opened(chart: Chart) -> None:
    rendered = chart.render({"networkPolicy": {"enabled": True, "llmPorts": [11434]}, "database": {"host": "db", "port": 6432}})
    assert _ports(_of(rendered, "CronJob/rae-tasks-decay"), "egress") == {DNS, 6432, REDIS, 11434}


@pytest.mark.parametrize(
    ("qdrant", "port"),
    [
        ({"host": "q"}, 6333),
        ({"host": "q", "port": 7000}, 7000),
        ({"url": "http://q:6334/base"}, 6334),
        ({"url": "https://q"}, 443),
        ({"url": "http://q"}, 80),
    ],
)
def test_qdrants_port_is_opened_where_there_is_one(chart: Chart, qdrant: dict[str, Any], port: int) -> None:
    rendered = chart.render({**ON, "qdrant": qdrant})
    assert _ports(_of(rendered, "CronJob/rae-tasks-decay"), "egress") == {DNS, POSTGRES, REDIS, HTTPS, port}
