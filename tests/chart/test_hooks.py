"""The hooks: migration, example data, and the check of `helm test`."""

from __future__ import annotations

from typing import Any

from tests.chart.charts import Chart, Manifest, Rendered, container, environment

DEMO: dict[str, Any] = {"demo": {"enabled": True}}


def _migrate(rendered: Rendered) -> Manifest:
    return rendered.one("Job", "rae-tasks-migrate")


def _hook(job: Manifest) -> str:
    return str(job["metadata"]["annotations"]["helm.sh/hook"])


def test_the_migration_runs_after_install_and_before_upgrade(chart: Chart) -> None:
    migrate = _migrate(chart.render())
    assert _hook(migrate) == "post-install,pre-upgrade"
    assert container(migrate["spec"])["args"] == ["db", "migrate", "--wait-database", "240"]


def test_a_failed_migration_shows_its_log_and_stays_for_a_day(chart: Chart) -> None:
    migrate = _migrate(chart.render())
    annotations = migrate["metadata"]["annotations"]
    assert annotations["helm.sh/hook-output-log-policy"] == "hook-failed"
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert migrate["spec"]["ttlSecondsAfterFinished"] == 86400


def test_a_migration_without_its_secret_fails_at_once_instead_of_waiting_for_it(chart: Chart) -> None:
    variables = environment(container(_migrate(chart.render())["spec"]))
    assert variables["DATABASE_URL"]["secretKeyRef"]["optional"] is True


def test_the_migration_may_run_as_the_tables_owner_and_grants_to_the_tasks_role(chart: Chart) -> None:
    values = {
        "database": {"host": "db", "user": "jobs", "existingSecret": "jobs-secret"},
        "migrate": {"existingSecret": "owner-secret", "user": "rae_owner"},
        "extraEnv": [{"name": "POSTGRES_USER", "value": "somebody"}],
    }
    variables = environment(container(_migrate(chart.render(values))["spec"]))
    assert variables["POSTGRES_USER"] == "rae_owner"
    assert variables["POSTGRES_PASSWORD"]["secretKeyRef"]["name"] == "owner-secret"
    assert variables["RAE_JOB_ROLE"] == "jobs"


def test_the_role_to_grant_to_can_be_named_where_the_url_hides_it(chart: Chart) -> None:
    values = {"migrate": {"existingSecret": "owner", "jobRole": "jobs"}}
    assert environment(container(_migrate(chart.render(values))["spec"]))["RAE_JOB_ROLE"] == "jobs"
    assert "RAE_JOB_ROLE" not in environment(container(_migrate(chart.render())["spec"]))


def test_the_migration_can_be_left_to_somebody_else(chart: Chart) -> None:
    assert "rae-tasks-migrate" not in chart.render({"migrate": {"enabled": False}}).names("Job")


def test_a_hook_depends_on_nothing_that_an_upgrade_has_yet_to_bring(chart: Chart) -> None:
    migrate = _migrate(chart.render())
    assert "serviceAccountName" not in migrate["spec"]["template"]["spec"]
    assert "envFrom" not in container(migrate["spec"])


def test_the_examples_come_before_the_migration_and_only_in_the_demo(chart: Chart) -> None:
    assert "rae-tasks-demo-data" not in chart.render().names("Job")
    rendered = chart.render(DEMO)
    examples = rendered.one("Job", "rae-tasks-demo-data")
    assert container(examples["spec"])["args"][:3] == ["dev", "load-examples", "--create-tables"]
    weights = [int(job["metadata"]["annotations"]["helm.sh/hook-weight"]) for job in (examples, _migrate(rendered))]
    assert weights[0] < weights[1]
    assert _hook(examples) == "post-install"


def test_an_upgrade_that_brings_the_demo_migrates_after_its_database_is_there(chart: Chart) -> None:
    upgrade = chart.render(DEMO, "--is-upgrade")
    assert _hook(_migrate(upgrade)) == "post-install,post-upgrade"
    assert _hook(upgrade.one("Job", "rae-tasks-demo-data")) == "post-install,post-upgrade"
    assert _hook(_migrate(chart.render(None, "--is-upgrade"))) == "post-install,pre-upgrade"


def test_helm_test_asks_for_the_state_of_the_database(chart: Chart) -> None:
    check = chart.render().one("Job", "rae-tasks-test-database")
    assert _hook(check) == "test"
    assert container(check["spec"])["args"] == ["db", "status"]
