"""Where the database, Redis and the language model are, and that no secret is in a manifest."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.charts import Chart, container, environment, job_spec

SECRET = {"secretKeyRef": {"name": "rae-secrets", "key": "database-url"}}


def _task(chart: Chart, values: dict[str, Any]) -> dict[str, Any]:
    return environment(container(job_spec(chart.render(values).one("CronJob", "rae-tasks-decay"))))


def _of_requests(chart: Chart, values: dict[str, Any]) -> dict[str, Any]:
    return environment(chart.render(values).operator_settings()["task"])


def test_the_database_comes_from_a_secret_by_default(chart: Chart) -> None:
    assert _task(chart, {})["DATABASE_URL"] == SECRET
    assert _of_requests(chart, {})["DATABASE_URL"] == SECRET


def test_with_a_host_the_secret_holds_the_password_alone(chart: Chart) -> None:
    values = {
        "database": {
            "host": "db.rae",
            "port": 6432,
            "name": "rae_db",
            "user": "jobs",
            "existingSecret": "pg",
            "passwordKey": "password",
        }
    }
    for variables in (_task(chart, values), _of_requests(chart, values)):
        assert variables["POSTGRES_HOST"] == "db.rae"
        assert variables["POSTGRES_PORT"] == "6432"
        assert variables["POSTGRES_DB"] == "rae_db"
        assert variables["POSTGRES_USER"] == "jobs"
        assert variables["POSTGRES_PASSWORD"] == {"secretKeyRef": {"name": "pg", "key": "password"}}
        assert "DATABASE_URL" not in variables


def test_a_way_round_a_pooler_is_given_beside(chart: Chart) -> None:
    variables = _task(chart, {"database": {"directUrlKey": "direct-url"}})
    assert variables["RAE_DATABASE_DIRECT_URL"] == {"secretKeyRef": {"name": "rae-secrets", "key": "direct-url"}}


def test_without_a_secret_the_environment_is_ones_own(chart: Chart) -> None:
    values = {"database": {"existingSecret": ""}, "extraEnvFrom": [{"secretRef": {"name": "all-of-it"}}]}
    rendered = chart.render(values)
    task = container(job_spec(rendered.one("CronJob", "rae-tasks-decay")))
    assert "DATABASE_URL" not in environment(task)
    assert {"secretRef": {"name": "all-of-it"}} in task["envFrom"]
    assert {"secretRef": {"name": "all-of-it"}} in rendered.operator_settings()["task"]["envFrom"]


def test_an_extra_variable_replaces_the_charts_own_rather_than_standing_beside_it(chart: Chart) -> None:
    extra = [{"name": "RAE_LLM_PROVIDER", "value": "openai"}, {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]
    for variables in (_task(chart, {"extraEnv": extra}), _of_requests(chart, {"extraEnv": extra})):
        assert variables["RAE_LLM_PROVIDER"] == "openai"
        assert variables["HTTPS_PROXY"] == "http://proxy:3128"


def test_budgets_and_limits_reach_scheduled_tasks_and_requests_alike(chart: Chart) -> None:
    llm = {"budget": {"dailyUsd": 0, "monthlyUsd": 12.5}, "requestsPerMinute": 500, "tokensPerMinute": 2_000_000}
    for variables in (_task(chart, {"llm": llm}), _of_requests(chart, {"llm": llm})):
        assert variables["RAE_LLM_DAILY_BUDGET_USD"] == "0"
        assert variables["RAE_LLM_MONTHLY_BUDGET_USD"] == "12.5"
        assert variables["RAE_LLM_REQUESTS_PER_MINUTE"] == "500"
        assert variables["RAE_LLM_TOKENS_PER_MINUTE"] == "2000000"
    assert not [name for name in _task(chart, {}) if name.startswith("RAE_LLM_") and name != "RAE_LLM_PROVIDER"]


def test_a_budget_below_nothing_is_refused(chart: Chart) -> None:
    assert "dailyUsd" in chart.refusal({"llm": {"budget": {"dailyUsd": -1}}})


def test_the_offline_model_needs_nothing(chart: Chart) -> None:
    variables = _task(chart, {})
    assert variables["RAE_LLM_PROVIDER"] == "local"
    assert not {"OPENAI_API_KEY", "ML_SERVICE_URL"} & variables.keys()


def test_an_openai_compatible_model(chart: Chart) -> None:
    values = {"llm": {"provider": "openai", "baseUrl": "http://ollama:11434/v1", "model": "qwen2.5", "existingSecret": "keys"}}
    for variables in (_task(chart, values), _of_requests(chart, values)):
        assert variables["OPENAI_BASE_URL"] == "http://ollama:11434/v1"
        assert variables["MINI_MODEL"] == "qwen2.5"
        assert variables["OPENAI_API_KEY"] == {"secretKeyRef": {"name": "keys", "key": "openai-api-key"}}


def test_raes_ml_service(chart: Chart) -> None:
    variables = _task(chart, {"llm": {"provider": "ml-service", "mlServiceUrl": "http://rae-ml-service:8001"}})
    assert variables["ML_SERVICE_URL"] == "http://rae-ml-service:8001"


@pytest.mark.parametrize(("provider", "missing"), [("openai", "llm.existingSecret"), ("ml-service", "llm.mlServiceUrl")])
def test_a_model_without_what_it_needs_is_refused(chart: Chart, provider: str, missing: str) -> None:
    assert missing in chart.refusal({"llm": {"provider": provider}})


def test_redis_by_url_or_by_secret(chart: Chart) -> None:
    assert _task(chart, {"redis": {"url": "redis://cache:6379/0"}})["REDIS_URL"] == "redis://cache:6379/0"
    by_secret = _task(chart, {"redis": {"existingSecret": "rae-secrets"}})
    assert by_secret["REDIS_URL"] == {"secretKeyRef": {"name": "rae-secrets", "key": "redis-url"}}
    assert "REDIS_URL" not in _task(chart, {})


def test_qdrant_by_host_or_by_url_with_its_key_from_a_secret(chart: Chart) -> None:
    by_host = {"qdrant": {"host": "rae-qdrant", "collectionName": "rae_memories", "existingSecret": "q"}}
    for variables in (_task(chart, by_host), _of_requests(chart, by_host)):
        assert (variables["QDRANT_HOST"], variables["QDRANT_PORT"]) == ("rae-qdrant", "6333")
        assert variables["QDRANT_COLLECTION_NAME"] == "rae_memories"
        assert variables["QDRANT_API_KEY"] == {"secretKeyRef": {"name": "q", "key": "api-key"}}
    by_url = _task(chart, {"qdrant": {"url": "https://qdrant.example", "host": "other"}})
    assert by_url["QDRANT_URL"] == "https://qdrant.example"
    assert not {"QDRANT_HOST", "QDRANT_API_KEY"} & by_url.keys()
    assert not any(name.startswith("QDRANT") for name in _task(chart, {}))


def test_a_key_of_qdrant_without_a_qdrant_and_one_within_a_url_are_refused(chart: Chart) -> None:
    assert "qdrant.url or qdrant.host" in chart.refusal({"qdrant": {"existingSecret": "q"}})
    assert "/qdrant/url" in chart.refusal({"qdrant": {"url": "http://user:pw@qdrant:6333"}})
    assert "/qdrant/url" in chart.refusal({"qdrant": {"url": "qdrant:6333"}})


def test_settings_are_text_as_they_were_written(chart: Chart) -> None:
    values = {"settings": {"A": 1000000, "B": 0.95, "C": True, "D": "007", "E": 12345678901}}
    data = chart.render(values).one("ConfigMap", "rae-tasks-settings")["data"]
    assert {name: data[name] for name in "ABCDE"} == {"A": "1000000", "B": "0.95", "C": "true", "D": "007", "E": "12345678901"}


def test_every_task_reads_the_settings(chart: Chart) -> None:
    rendered = chart.render()
    reference = {"configMapRef": {"name": "rae-tasks-settings"}}
    for cronjob in rendered.all("CronJob"):
        assert container(job_spec(cronjob))["envFrom"][0] == reference
    assert rendered.operator_settings()["task"]["envFrom"][0] == reference


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "POSTGRES_PASSWORD", "DATABASE_URL", "RAE_DATABASE_DIRECT_URL"])
def test_a_secret_among_the_settings_is_refused(chart: Chart, name: str) -> None:
    assert f"settings.{name} looks like a secret" in chart.refusal({"settings": {name: "x"}})
    assert f"tasks.decay.env.{name} looks like a secret" in chart.refusal({"tasks": {"decay": {"env": {name: "x"}}}})


def test_a_password_in_the_url_of_redis_is_refused(chart: Chart) -> None:
    assert "/redis/url" in chart.refusal({"redis": {"url": "redis://:pw@cache:6379/0"}})


def test_no_secret_object_is_made_of_values(chart: Chart) -> None:
    assert chart.render().all("Secret") == []
