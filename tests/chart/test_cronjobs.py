"""The CronJobs: schedules, time, failure policy, identity, and what their pods may do."""

from __future__ import annotations

import pytest

from rae_jobctl.commands import CATALOG
from rae_jobctl.errors import ExitCode
from tests.chart.charts import Chart, Manifest, container, environment, job_spec

#: The schedules of the Celery beat that these CronJobs replace.
SCHEDULES = {
    "process-graph-queue": "*/5 * * * *",
    "schedule-reflections": "0 * * * *",
    "decay": "0 2 * * *",
    "decay-importance": "30 2 * * *",
    "cleanup-expired-data": "0 3 * * *",
    "prune": "0 3 * * *",
}
QDRANT = {"qdrant": {"host": "rae-qdrant"}}


def _cronjob(chart: Chart, task: str, **values: object) -> Manifest:
    return chart.render(values).one("CronJob", f"rae-tasks-{task}")


def test_the_periodic_tasks_keep_their_old_schedules(chart: Chart) -> None:
    rendered = chart.render({"tasks": {name: {"enabled": True} for name in SCHEDULES}})
    for task, schedule in SCHEDULES.items():
        spec = rendered.one("CronJob", f"rae-tasks-{task}")["spec"]
        assert (spec["schedule"], spec["timeZone"]) == (schedule, "Etc/UTC")


def test_what_runs_by_itself_is_a_subcommand_of_the_image(chart: Chart) -> None:
    known = {entry.name for entry in CATALOG}
    for cronjob in chart.render().all("CronJob"):
        if not cronjob["spec"]["suspend"]:
            assert container(job_spec(cronjob))["args"][0] in known


def test_the_deprecated_prune_is_there_and_suspended(chart: Chart) -> None:
    assert _cronjob(chart, "prune")["spec"]["suspend"] is True


def test_the_vectors_are_compared_where_there_is_a_qdrant(chart: Chart) -> None:
    assert "rae-tasks-check-consistency" not in chart.render().names("CronJob")
    cronjob = _cronjob(chart, "check-consistency", **QDRANT)
    assert cronjob["spec"]["schedule"] == "0 4 * * *"
    assert container(job_spec(cronjob))["args"] == ["check-consistency"]
    assert "check-consistency" in {entry.name for entry in CATALOG}


def test_the_comparison_mends_when_it_is_told_to_and_leaves_arguments_of_ones_own_alone(chart: Chart) -> None:
    repair = {"qdrant": {"host": "rae-qdrant", "repair": True}}
    assert container(job_spec(_cronjob(chart, "check-consistency", **repair)))["args"] == ["check-consistency", "--repair"]
    own = ["check-consistency", "--fail-on-findings"]
    values = {**repair, "tasks": {"check-consistency": {"args": own}}}
    assert container(job_spec(_cronjob(chart, "check-consistency", **values)))["args"] == own


def test_a_task_that_is_suspended_can_be_let_go_and_another_stopped(chart: Chart) -> None:
    rendered = chart.render({"tasks": {"prune": {"suspend": False}, "decay": {"suspend": True}}})
    assert rendered.one("CronJob", "rae-tasks-prune")["spec"]["suspend"] is False
    assert rendered.one("CronJob", "rae-tasks-decay")["spec"]["suspend"] is True


def test_suspend_all_suspends_all(chart: Chart) -> None:
    cronjobs = chart.render({"suspendAll": True}).all("CronJob")
    assert cronjobs and all(cronjob["spec"]["suspend"] for cronjob in cronjobs)


def test_a_disabled_task_and_a_removed_one_are_not_rendered(chart: Chart) -> None:
    names = chart.render({"tasks": {"prune": {"enabled": False}, "decay": None}}).names("CronJob")
    assert not names & {"rae-tasks-prune", "rae-tasks-decay"}


def test_a_value_of_false_or_zero_wins_over_its_default(chart: Chart) -> None:
    values = {
        "taskDefaults": {"suspend": True},
        "tasks": {"decay": {"suspend": False, "backoffLimit": 0, "failedJobsHistoryLimit": 0}},
    }
    spec = chart.render(values).one("CronJob", "rae-tasks-decay")["spec"]
    assert (spec["suspend"], spec["failedJobsHistoryLimit"], spec["jobTemplate"]["spec"]["backoffLimit"]) == (False, 0, 0)


def test_a_task_of_ones_own_stands_beside_the_others(chart: Chart) -> None:
    own = {"schedule": "@weekly", "args": ["decay", "--tenant", "demo-tenant"], "env": {"MEMORY_DECAY_RATE": 0.5}}
    rendered = chart.render({"tasks": {"decay-demo": own}})
    task = container(job_spec(rendered.one("CronJob", "rae-tasks-decay-demo")))
    assert task["args"] == ["decay", "--tenant", "demo-tenant"]
    assert environment(task)["MEMORY_DECAY_RATE"] == "0.5"
    assert "rae-tasks-decay" in rendered.names("CronJob")


def test_two_runs_never_overlap_and_no_two_pods_of_one_run(chart: Chart) -> None:
    for cronjob in chart.render().all("CronJob"):
        assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"
        assert job_spec(cronjob)["podReplacementPolicy"] == "Failed"
        assert job_spec(cronjob)["template"]["spec"]["restartPolicy"] == "Never"


def test_an_eviction_is_not_counted_and_a_permanent_failure_is_not_retried(chart: Chart) -> None:
    disruption, permanent = job_spec(_cronjob(chart, "decay"))["podFailurePolicy"]["rules"]
    assert disruption == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert permanent["action"] == "FailJob"
    codes = permanent["onExitCodes"]
    assert (codes["containerName"], codes["operator"]) == ("task", "In")
    assert set(codes["values"]) == {int(code) for code in ExitCode if code.permanent} | {126, 127}


@pytest.mark.parametrize(
    ("backoff_limit", "seconds"),
    [(0, 600), (1, 2 * 600 + 10), (3, 4 * 600 + 10 + 20 + 40), (6, 7 * 600 + 630), (8, 9 * 600 + 630 + 600 + 600)],
)
def test_the_deadline_leaves_room_for_every_attempt_and_the_waits_between(chart: Chart, backoff_limit: int, seconds: int) -> None:
    cronjob = _cronjob(chart, "decay", taskDefaults={"backoffLimit": backoff_limit})
    assert job_spec(cronjob)["activeDeadlineSeconds"] == seconds


def test_the_default_deadline_is_enough_for_three_soft_limits_of_work(chart: Chart) -> None:
    spec = job_spec(_cronjob(chart, "decay"))
    assert spec["backoffLimit"] >= 3
    assert spec["activeDeadlineSeconds"] > 3 * 540 + 10 + 20


def test_a_task_may_have_a_soft_limit_of_its_own(chart: Chart) -> None:
    spec = job_spec(_cronjob(chart, "decay", tasks={"decay": {"softLimitSeconds": 5, "graceSeconds": 10, "backoffLimit": 2}}))
    assert environment(container(spec))["RAE_SOFT_LIMIT_SECONDS"] == "5"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 10
    assert spec["activeDeadlineSeconds"] == 3 * 15 + 30


def test_a_deadline_shorter_than_one_attempt_is_refused(chart: Chart) -> None:
    refusal = chart.refusal({"tasks": {"decay": {"activeDeadlineSeconds": 60}}})
    assert "tasks.decay: activeDeadlineSeconds is 60" in refusal
    assert "softLimitSeconds + graceSeconds = 600" in refusal


def test_a_pod_knows_its_cronjob_its_job_and_itself(chart: Chart) -> None:
    variables = environment(container(job_spec(_cronjob(chart, "decay"))))
    assert variables["RAE_CRONJOB_NAME"] == "rae-tasks-decay"
    assert variables["RAE_JOB_NAME"] == {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}
    assert variables["RAE_POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_only_the_tasks_that_create_requests_have_a_token(chart: Chart) -> None:
    creating = {}
    for cronjob in chart.render().all("CronJob"):
        pod = job_spec(cronjob)["template"]["spec"]
        creating[cronjob["metadata"]["name"]] = (pod["automountServiceAccountToken"], pod["serviceAccountName"])
    scheduler, task = (True, "rae-tasks-scheduler"), (False, "rae-tasks-task")
    assert {name for name, access in creating.items() if access == scheduler} <= {
        "rae-tasks-process-graph-queue",
        "rae-tasks-schedule-reflections",
    }
    assert creating["rae-tasks-decay"] == creating["rae-tasks-prune"] == task


def test_the_schedulers_may_create_and_read_requests_and_nothing_else(chart: Chart) -> None:
    requests, tenants = chart.render().one("Role", "rae-tasks-scheduler")["rules"]
    assert set(requests["resources"]) == {"graphextractionrequests", "reflectionrequests"}
    assert set(requests["verbs"]) == {"create", "get", "list"}
    assert (tenants["resources"], tenants["verbs"]) == (["tenants"], ["use"])


def test_a_name_that_is_too_long_is_refused_with_the_length_that_fits(chart: Chart) -> None:
    none = dict.fromkeys(one["metadata"]["labels"]["tasks.rae.dev/task"] for one in chart.render().all("CronJob"))
    tasks = {**none, "weekly-report-of-everything": {"schedule": "@weekly"}}
    refusal = chart.refusal({"tasks": tasks, "fullnameOverride": "b" * 40})
    assert "tasks.weekly-report-of-everything" in refusal
    assert "allows 52" in refusal and "at most 24 characters" in refusal
    assert chart.render({"tasks": tasks, "fullnameOverride": "b" * 24}).all("CronJob")
    assert "at most 48" in chart.refusal({"tasks": none}, release="c" * 45)


def test_maintenance_in_one_run_excludes_its_parts(chart: Chart) -> None:
    parts = ("decay", "decay-importance", "cleanup-expired-data")
    on = {"run-maintenance": {"enabled": True}}
    off: dict[str, object] = dict.fromkeys(parts)
    for part in parts:
        refusal = chart.refusal({"tasks": {**on, **{name: None for name in parts if name != part}}})
        assert f"tasks.run-maintenance and tasks.{part} are both on" in refusal
    rendered = chart.render({"tasks": {**on, **off}})
    assert container(job_spec(rendered.one("CronJob", "rae-tasks-run-maintenance")))["args"] == ["run-maintenance"]
    assert "rae-tasks-run-maintenance" not in chart.render().names("CronJob")


def test_jobs_are_kept_by_history_limits_unless_a_time_is_given(chart: Chart) -> None:
    assert "ttlSecondsAfterFinished" not in job_spec(_cronjob(chart, "decay"))
    assert job_spec(_cronjob(chart, "decay", taskDefaults={"ttlSecondsAfterFinished": 0}))["ttlSecondsAfterFinished"] == 0
