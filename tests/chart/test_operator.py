"""The operator's Deployment, its settings file as its own code reads it, and its rights."""

from __future__ import annotations

from typing import Any

import yaml

from rae_operator.kinds import KINDS
from rae_operator.settings import Settings, parse_settings
from tests.chart.charts import Chart, Manifest, Rendered, container, environment

ALL_OF_IT: dict[str, Any] = {
    "watchNamespaces": ["tenants-a", "tenants-b"],
    "imagePullSecrets": [{"name": "registry"}],
    "pods": {
        "annotations": {"example.com/a": "b"},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "time": {"softLimitSeconds": 30, "graceSeconds": 10},
    "requests": {
        "maxActiveJobs": 5,
        "priorityClassName": "batch",
        "kinds": {"GraphExtractionRequest": {"softLimitSeconds": 900, "env": [{"name": "A", "value": "b"}]}},
    },
}


def _settings(rendered: Rendered) -> Settings:
    return parse_settings(rendered.one("ConfigMap", "rae-tasks-operator")["data"]["settings.yaml"])


def _operator(rendered: Rendered) -> Manifest:
    return dict(rendered.one("Deployment", "rae-tasks-operator")["spec"])


def test_the_operator_accepts_the_settings_that_the_chart_writes(chart: Chart) -> None:
    settings = _settings(chart.render())
    assert settings.namespaces == ["rae"]
    assert settings.task.image == "rae-tasks:0.1.0"
    assert settings.task.soft_limit_seconds == 540


def test_every_value_reaches_the_operator(chart: Chart) -> None:
    settings = _settings(chart.render(ALL_OF_IT))
    assert settings.namespaces == ["rae", "tenants-a", "tenants-b"]
    assert settings.max_active_jobs == 5
    assert settings.task.image_pull_secrets == [{"name": "registry"}]
    assert settings.task.node_selector == {"disk": "fast"}
    assert settings.task.tolerations == [{"key": "batch", "operator": "Exists"}]
    assert settings.task.priority_class_name == "batch"
    assert (settings.task.soft_limit_seconds, settings.task.termination_grace_period_seconds) == (30, 10)
    assert settings.kinds["GraphExtractionRequest"].soft_limit_seconds == 900


def test_every_kind_can_be_set_apart_and_no_other(chart: Chart) -> None:
    names = {kind.name for kind in KINDS}
    settings = _settings(chart.render({"requests": {"kinds": {name: {"softLimitSeconds": 9} for name in names}}}))
    assert set(settings.kinds) == names
    refusal = chart.refusal({"requests": {"kinds": {"NoSuchRequest": {}}}})
    assert "at '/requests/kinds': additional properties 'NoSuchRequest' not allowed" in refusal


def test_one_operator_is_at_work_at_a_time(chart: Chart) -> None:
    spec = _operator(chart.render())
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_a_changed_setting_restarts_the_operator_and_an_equal_one_does_not(chart: Chart) -> None:
    def checksum(values: dict[str, Any]) -> str:
        return str(_operator(chart.render(values))["template"]["metadata"]["annotations"]["checksum/settings"])

    assert checksum({}) == checksum({})
    assert checksum({}) != checksum({"requests": {"maxActiveJobs": 3}})
    assert checksum({}) != checksum({"llm": {"model": "another"}})


def test_the_operator_knows_itself_and_where_its_settings_are(chart: Chart) -> None:
    operator = container(_operator(chart.render()))
    variables = environment(operator)
    assert operator["command"] == ["rae-operator"]
    assert variables["POD_NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    assert variables["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert variables["RAE_OPERATOR_SETTINGS"] == "/etc/rae-operator/settings.yaml"
    assert {mount["mountPath"] for mount in operator["volumeMounts"]} == {"/etc/rae-operator", "/tmp"}


def test_the_probes_ask_the_port_that_the_operator_serves(chart: Chart) -> None:
    rendered = chart.render({"operator": {"port": 9999}})
    operator = container(_operator(rendered))
    assert operator["ports"] == [{"name": "http", "containerPort": 9999}]
    assert operator["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert operator["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert _settings(rendered).http.port == 9999


def _rights(role: Manifest) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_operators_rights_are_those_it_documents(chart: Chart) -> None:
    requests = [kind.plural for kind in KINDS]
    expected = {("tasks.rae.dev", name, verb) for name in requests for verb in ("get", "list", "watch", "delete")}
    expected |= {("tasks.rae.dev", f"{name}/status", "patch") for name in requests}
    expected |= {("batch", "jobs", verb) for verb in ("get", "list", "watch", "create", "delete")}
    expected |= {("", "pods", verb) for verb in ("get", "list", "watch")}
    expected |= {("", "pods/log", "get"), ("", "events", "create")}
    lease = {("coordination.k8s.io", "leases", verb) for verb in ("get", "create", "update")}
    rendered = chart.render({"watchNamespaces": ["other"]})
    assert _rights(rendered.one("Role", "rae-tasks-operator", "rae")) == expected | lease
    assert _rights(rendered.one("Role", "rae-tasks-operator", "other")) == expected


def test_every_role_is_bound_in_its_namespace_to_the_operator_of_the_release(chart: Chart) -> None:
    rendered = chart.render({"watchNamespaces": ["other"]})
    for namespace in ("rae", "other"):
        binding = rendered.one("RoleBinding", "rae-tasks-operator", namespace)
        assert binding["roleRef"]["name"] == "rae-tasks-operator"
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "rae-tasks-operator", "namespace": "rae"}]


def test_nothing_by_default_has_a_right_beyond_a_namespace(chart: Chart) -> None:
    rendered = chart.render({"watchNamespaces": ["other"], "demo": {"enabled": True}})
    assert not rendered.all("ClusterRole") and not rendered.all("ClusterRoleBinding")


def test_a_further_namespace_gets_what_jobs_need_there(chart: Chart) -> None:
    rendered = chart.render({"watchNamespaces": ["other"], "demo": {"enabled": True}})
    settings = _settings(rendered)
    assert (
        rendered.one("ServiceAccount", str(settings.task.service_account_name), "other")["automountServiceAccountToken"] is False
    )
    assert rendered.one("ConfigMap", "rae-tasks-settings", "other") and rendered.one("Secret", "rae-tasks-demo", "other")


def test_the_releases_own_namespace_named_again_is_there_once(chart: Chart) -> None:
    assert _settings(chart.render({"watchNamespaces": ["rae"]})).namespaces == ["rae"]


def test_the_lease_is_the_one_that_the_operator_may_update(chart: Chart) -> None:
    rendered = chart.render({"fullnameOverride": "other-name"})
    text = rendered.one("ConfigMap", "other-name-operator")["data"]["settings.yaml"]
    named = [rule for rule in rendered.one("Role", "other-name-operator")["rules"] if "resourceNames" in rule]
    assert [rule["resourceNames"] for rule in named] == [[yaml.safe_load(text)["lease"]["name"]]]


def test_without_the_operator_the_schedules_stay(chart: Chart) -> None:
    rendered = chart.render({"operator": {"enabled": False}})
    assert not rendered.all("Deployment")
    assert rendered.all("CronJob")
