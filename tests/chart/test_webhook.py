"""Where notifications go, and that neither their secret nor a receiver without one gets into a manifest."""

from __future__ import annotations

from typing import Any

from tests.chart.charts import Chart, container, environment, job_spec

URL = "https://example.org/hooks/rae"


def _environments(chart: Chart, values: dict[str, Any]) -> list[dict[str, Any]]:
    rendered = chart.render(values)
    scheduler = container(job_spec(rendered.one("CronJob", "rae-tasks-schedule-reflections")))
    return [environment(scheduler), environment(rendered.operator_settings()["task"])]


def test_without_values_there_is_none(chart: Chart) -> None:
    for variables in _environments(chart, {}):
        assert not any(name.startswith("RAE_WEBHOOK") for name in variables)


def test_the_scheduler_and_the_requests_know_receiver_and_secret(chart: Chart) -> None:
    for variables in _environments(chart, {"webhook": {"url": URL, "existingSecret": "hooks"}}):
        assert variables["RAE_WEBHOOK_URL"] == URL
        assert variables["RAE_WEBHOOK_SECRET"] == {"secretKeyRef": {"name": "hooks", "key": "webhook-secret"}}
        assert "RAE_WEBHOOK_ALLOW_PRIVATE" not in variables


def test_a_receiver_that_is_a_secret_itself_comes_from_the_secret(chart: Chart) -> None:
    for variables in _environments(chart, {"webhook": {"existingSecret": "hooks", "allowPrivate": True}}):
        assert variables["RAE_WEBHOOK_URL"] == {"secretKeyRef": {"name": "hooks", "key": "webhook-url"}}
        assert variables["RAE_WEBHOOK_ALLOW_PRIVATE"] == "true"


def test_a_receiver_without_a_secret_and_one_with_a_password_are_refused(chart: Chart) -> None:
    assert "webhook.existingSecret" in chart.refusal({"webhook": {"url": URL}})
    assert "/webhook/url" in chart.refusal({"webhook": {"url": "https://user:pw@example.org", "existingSecret": "hooks"}})
    assert "looks like a secret" in chart.refusal({"settings": {"RAE_WEBHOOK_SECRET": "whsec_x"}})
