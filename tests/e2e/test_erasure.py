"""A person is erased in the cluster: database, cache, requests, pods' logs; somebody whose name contains theirs stays."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.e2e.release import Release, until

pytestmark = pytest.mark.cluster

PERSON, OTHER = "erin.vale@example.org", "erin.vale@example.org.uk"
#: As a whole word: the other person's address contains it.
NAMED = re.compile(rf"{re.escape(PERSON)}(?!\.uk)", re.IGNORECASE)


def remember(release: Release, person: str, project: str) -> None:
    tenant = "(SELECT id FROM tenants WHERE name = 'demo-tenant')"
    for n in range(3):
        release.sql(
            "INSERT INTO memories (tenant_id, content, layer, project, source, created_at) "
            f"VALUES ({tenant}, 'Note {n}: {person} released PostgreSQL 18 with Tomas Vondra.', 'episodic', '{project}', "
            f"'{person}', now())"
        )


def ask(release: Release, name: str, person: str) -> None:
    """A request for the project of the same name, asked for by that person."""
    release.namespace.apply(
        {
            "apiVersion": "tasks.rae.dev/v1alpha1",
            "kind": "ReflectionRequest",
            "metadata": {"name": name, "annotations": {"support/asked-by": person}},
            "spec": {"tenantId": "demo-tenant", "project": name},
        }
    )
    release.finished("reflectionrequest", name)


def everything(release: Release) -> dict[str, str]:
    """All that may name a person: a dump of all schemas, the cache, the requests, the logs of all pods of tasks."""
    dump = 'PGPASSWORD="$POSTGRES_PASSWORD" exec pg_dump -h 127.0.0.1 -U rae --data-only rae'
    kubectl: Callable[..., str] = release.namespace.kubectl
    pods = kubectl("get", "pods", "--selector=tasks.rae.dev/task", "-o", "name").split()
    logs = [kubectl("logs", pod, "--all-containers", "--ignore-errors") for pod in pods]
    return {
        "database": kubectl("exec", f"{release.prefix}-demo-postgres-0", "--", "sh", "-c", dump),
        "requests": kubectl("get", "rae", "-o", "yaml"),
        "jobs": kubectl("get", "jobs,pods,cronjobs", "-o", "yaml"),
        "logs": "\n".join(logs),
    }


def test_a_person_is_erased_everywhere_and_somebody_whose_name_contains_theirs_stays(release: Release) -> None:
    for person, name in ((PERSON, "of-the-person"), (OTHER, "of-the-other")):
        remember(release, person, name)
        ask(release, name, person)
    assert NAMED.search(everything(release)["database"])
    release.upgrade({"erasure": {"enabled": True, "existingSecret": "erasure"}})
    kubectl: Callable[..., str] = release.namespace.kubectl
    kubectl("create", "secret", "generic", "erasure", "--from-literal=erasure-key=0123456789abcdef0123")
    given = ("--from-literal=tenant=demo-tenant", f"--from-literal=identifiers={PERSON}")
    kubectl("create", "secret", "generic", "rae-erase-request", *given)

    kubectl("create", "job", "erase-1", f"--from=cronjob/{release.prefix}-erase-user")
    release.namespace.wait("condition=Complete", "job/erase-1")
    kubectl("delete", "secret", "rae-erase-request")

    until(
        lambda: not release.namespace.get("pods", "--selector=tasks.rae.dev/request=of-the-person")["items"], "its pods are gone"
    )
    left = {place for place, text in everything(release).items() if NAMED.search(text)}
    assert not left
    assert release.sql(f"SELECT count(*) FROM memories WHERE source = '{OTHER}'") == [["3"]]
    assert OTHER in kubectl("get", "reflectionrequest", "of-the-other", "-o", "yaml")
    audited = release.sql("SELECT count(*) > 0 FROM rae_jobs.deletion_audit WHERE subject_hash IS NOT NULL")
    assert audited == [["t"]]
    kubectl("delete", "job/erase-1", "secret/erasure")
    kubectl("delete", "reflectionrequest", "of-the-other")
    release.sql(f"DELETE FROM memories WHERE source = '{OTHER}'")
