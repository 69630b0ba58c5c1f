"""The end of a release; the last file of this folder, since nothing of the release is left after it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.e2e.release import Release, until

pytestmark = pytest.mark.cluster

KINDS = (
    "deployments,statefulsets,jobs,cronjobs,pods,services,secrets,configmaps,persistentvolumeclaims,serviceaccounts,roles,"
    "rolebindings,leases.coordination.k8s.io,networkpolicies"
)
#: What Kubernetes itself puts into every namespace.
ALWAYS = {"configmap/kube-root-ca.crt", "serviceaccount/default"}


def test_an_upgrade_keeps_password_and_memories(release: Release) -> None:
    secret = release.namespace.get("secret", f"{release.prefix}-demo")["data"]
    memories = release.sql("SELECT count(*) FROM memories")

    release.upgrade({"settings": {"MEMORY_DECAY_RATE": 0.9}})

    assert release.namespace.get("secret", f"{release.prefix}-demo")["data"] == secret
    assert release.sql("SELECT count(*) FROM memories") == memories


def test_uninstalling_leaves_nothing_but_the_crds(release: Release) -> None:
    release.namespace.kubectl("delete", "rae", "--all")
    release.uninstall()

    def left() -> set[str]:
        return set(release.namespace.kubectl("get", KINDS, "-o", "name").split()) - ALWAYS

    with suppress(AssertionError):
        until(lambda: not left(), "nothing is left in the namespace", seconds=60)
    assert left() == set()
    assert "customresourcedefinition.apiextensions.k8s.io/reflectionrequests.tasks.rae.dev" in release.namespace.kubectl(
        "get", "crds", "-o", "name"
    )
    cluster_wide = "validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings"
    assert f"{release.namespace.name}-{release.name}" not in release.namespace.kubectl("get", cluster_wide, "-o", "name")
