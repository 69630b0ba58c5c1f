"""Every pod obeys the Pod Security Standard `restricted`, and takes its image and placement from the values."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.charts import Chart, pod_templates

EVERYTHING: dict[str, Any] = {"demo": {"enabled": True}, "mlService": {"enabled": True}, "watchNamespaces": ["other"]}


def test_every_pod_is_restricted(chart: Chart) -> None:
    for name, template in pod_templates(chart.render(EVERYTHING)).items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for box in pod["containers"]:
            assert box["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert box["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert box["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert "/tmp" in {mount["mountPath"] for mount in box["volumeMounts"]} or name.endswith("valkey"), name


def test_only_the_operator_and_the_schedulers_have_a_token(chart: Chart) -> None:
    with_token = {
        name
        for name, template in pod_templates(chart.render(EVERYTHING)).items()
        if template["spec"]["automountServiceAccountToken"]
    }
    assert with_token <= {
        "Deployment/rae-tasks-operator",
        "CronJob/rae-tasks-process-graph-queue",
        "CronJob/rae-tasks-schedule-reflections",
    }


def test_every_pod_says_what_it_needs(chart: Chart) -> None:
    for name, template in pod_templates(chart.render(EVERYTHING)).items():
        for box in template["spec"]["containers"]:
            assert box["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in box["resources"]["limits"], name


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"repository": "registry.example/rae"}, "registry.example/rae:0.1.0"),
        ({"repository": "r/rae", "tag": "dev"}, "r/rae:dev"),
        ({"repository": "r/rae", "tag": "dev", "digest": "sha256:" + "a" * 64}, "r/rae@sha256:" + "a" * 64),
    ],
)
def test_one_image_is_in_every_pod_of_ours(chart: Chart, image: dict[str, str], expected: str) -> None:
    rendered = chart.render({"image": image})
    found = {box["image"] for template in pod_templates(rendered).values() for box in template["spec"]["containers"]}
    assert found == {expected} == {rendered.operator_settings()["task"]["image"]}


def test_placement_labels_and_pull_secrets_are_on_every_pod(chart: Chart) -> None:
    values = {
        **EVERYTHING,
        "commonLabels": {"team": "memory"},
        "imagePullSecrets": [{"name": "registry"}],
        "pods": {"nodeSelector": {"disk": "fast"}, "tolerations": [{"operator": "Exists"}], "labels": {"a": "b"}},
    }
    rendered = chart.render(values)
    for name, template in pod_templates(rendered).items():
        assert template["spec"]["nodeSelector"] == {"disk": "fast"}, name
        assert template["spec"]["tolerations"] == [{"operator": "Exists"}], name
        assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}], name
        assert template["metadata"]["labels"].items() >= {"team": "memory", "a": "b"}.items(), name
    assert all(manifest["metadata"]["labels"]["team"] == "memory" for manifest in rendered.manifests)


def test_services_and_deployments_select_their_own_pods_alone(chart: Chart) -> None:
    rendered = chart.render(EVERYTHING)
    templates = pod_templates(rendered)
    for service in rendered.all("Service"):
        selector = service["spec"]["selector"].items()
        chosen = {
            name.split("/")[1] for name, template in templates.items() if selector <= template["metadata"]["labels"].items()
        }
        assert chosen == {service["metadata"]["name"]}
