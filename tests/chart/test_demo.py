"""The demo: a database and a Valkey of the release's own, wired to everything else."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from tests.chart.charts import Chart, Manifest, container, environment, job_spec


def _demo(**values: Any) -> dict[str, Any]:
    return {"demo": {"enabled": True, **values}}


def _decoded(secret: Manifest) -> dict[str, str]:
    return {key: b64decode(value).decode() for key, value in secret["data"].items()}


def test_without_the_demo_there_is_none_of_it(chart: Chart) -> None:
    rendered = chart.render()
    assert not [kind for kind in ("StatefulSet", "PersistentVolumeClaim", "Secret") if rendered.all(kind)]


def test_every_task_is_wired_to_the_demos_database_and_valkey(chart: Chart) -> None:
    rendered = chart.render({**_demo(), "database": {"host": "ignored"}, "redis": {"url": "redis://ignored:6379"}})
    database = {"secretKeyRef": {"name": "rae-tasks-demo", "key": "database-url"}}
    cache = {"secretKeyRef": {"name": "rae-tasks-demo", "key": "redis-url"}}
    for variables in (
        environment(container(job_spec(rendered.one("CronJob", "rae-tasks-decay")))),
        environment(rendered.operator_settings()["task"]),
    ):
        assert (variables["DATABASE_URL"], variables["REDIS_URL"]) == (database, cache)
        assert "POSTGRES_HOST" not in variables
    for job in ("rae-tasks-migrate", "rae-tasks-demo-data"):
        assert environment(container(rendered.one("Job", job)["spec"]))["DATABASE_URL"] == database


def test_the_urls_lead_to_the_demos_services_with_its_password(chart: Chart) -> None:
    rendered = chart.render(_demo())
    secret = _decoded(rendered.one("Secret", "rae-tasks-demo"))
    password = secret["POSTGRES_PASSWORD"]
    assert len(password) == 24
    assert secret["database-url"] == f"postgresql://rae:{password}@rae-tasks-demo-postgres.rae.svc:5432/rae"
    assert secret["redis-url"] == f"redis://:{password}@rae-tasks-demo-valkey.rae.svc:6379/0"
    assert {"rae-tasks-demo-postgres", "rae-tasks-demo-valkey"} <= rendered.names("Service")


def test_one_password_serves_every_namespace(chart: Chart) -> None:
    rendered = chart.render({**_demo(), "watchNamespaces": ["other"]})
    assert rendered.one("Secret", "rae-tasks-demo", "rae")["data"] == rendered.one("Secret", "rae-tasks-demo", "other")["data"]


def test_the_data_outlive_their_pod(chart: Chart) -> None:
    rendered = chart.render(_demo())
    for name in ("rae-tasks-demo-postgres", "rae-tasks-demo-valkey"):
        volumes = rendered.one("StatefulSet", name)["spec"]["template"]["spec"]["volumes"]
        assert {"name": "data", "persistentVolumeClaim": {"claimName": name}} in volumes
        assert "storageClassName" not in rendered.one("PersistentVolumeClaim", name)["spec"]


def test_uninstalling_removes_the_data_unless_they_are_to_be_kept(chart: Chart) -> None:
    def kept(values: dict[str, Any]) -> set[bool]:
        rendered = chart.render(values)
        objects = [*rendered.all("PersistentVolumeClaim"), *rendered.all("Secret")]
        return {item["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep" for item in objects}

    assert kept(_demo()) == {False}
    assert kept(_demo(keep=True)) == {True}


def test_a_storage_class_or_none_at_all(chart: Chart) -> None:
    named = chart.render(_demo(persistence={"storageClass": "fast"}))
    assert {claim["spec"]["storageClassName"] for claim in named.all("PersistentVolumeClaim")} == {"fast"}
    without = chart.render(_demo(persistence={"enabled": False}))
    assert not without.all("PersistentVolumeClaim")
    volumes = without.one("StatefulSet", "rae-tasks-demo-postgres")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "data", "emptyDir": {}} in volumes


def test_other_images_can_be_given(chart: Chart) -> None:
    rendered = chart.render(_demo(postgres={"image": "localhost/pg:dev"}, valkey={"image": "localhost/valkey:dev"}))
    images = {container(item["spec"])["image"] for item in rendered.all("StatefulSet")}
    assert images == {"localhost/pg:dev", "localhost/valkey:dev"}


def test_the_database_has_a_folder_of_its_own_within_the_volume(chart: Chart) -> None:
    postgres = container(chart.render(_demo()).one("StatefulSet", "rae-tasks-demo-postgres")["spec"])
    mounts = {mount["mountPath"] for mount in postgres["volumeMounts"]}
    assert mounts == {"/var/lib/postgresql/data", "/var/run/postgresql", "/tmp"}
    assert environment(postgres)["PGDATA"] == "/var/lib/postgresql/data/pgdata"


def test_the_valkey_asks_for_a_password(chart: Chart) -> None:
    valkey = container(chart.render(_demo()).one("StatefulSet", "rae-tasks-demo-valkey")["spec"])
    assert valkey["args"][-2:] == ["--requirepass", "$(VALKEY_PASSWORD)"]
    assert "VALKEY_PASSWORD" in environment(valkey)
