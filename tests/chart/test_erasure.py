"""The template for erasing a person."""

from __future__ import annotations

from tests.chart.charts import Chart, container, job_spec

ON = {"erasure": {"enabled": True, "existingSecret": "rae-erasure"}}


def test_it_is_rendered_on_request_alone_and_needs_its_key(chart: Chart) -> None:
    assert "rae-tasks-erase-user" not in chart.render().names("CronJob")
    assert "existingSecret" in chart.refusal({"erasure": {"enabled": True}})


def test_it_never_runs_by_the_clock_and_names_nobody(chart: Chart) -> None:
    cronjob = chart.render(ON).one("CronJob", "rae-tasks-erase-user")
    task = container(job_spec(cronjob))
    assert cronjob["spec"]["suspend"] is True
    assert task["args"] == ["erase-user", "--yes", "--kubernetes", "--wait"]
    secrets = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in task["env"] if "secretKeyRef" in one.get("valueFrom", {})}
    assert secrets["RAE_ERASURE_KEY"] == {"name": "rae-erasure", "key": "erasure-key"}
    assert secrets["RAE_ERASE_TENANT"] == {"name": "rae-erase-request", "key": "tenant"}
    assert secrets["RAE_ERASE_IDENTIFIER"] == {"name": "rae-erase-request", "key": "identifiers"}


def test_its_pods_may_delete_requests_and_nothing_else(chart: Chart) -> None:
    rendered = chart.render(ON)
    (rule,) = rendered.one("Role", "rae-tasks-eraser")["rules"]
    assert set(rule["verbs"]) == {"get", "list", "delete"}
    assert set(rule["resources"]) == {"graphextractionrequests", "reflectionrequests"}
    pod = job_spec(rendered.one("CronJob", "rae-tasks-erase-user"))["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("rae-tasks-eraser", True)
    assert "rae-tasks-eraser" not in chart.render().names("ServiceAccount")
