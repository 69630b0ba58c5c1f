"""The files that are generated from the chart or into it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

from tests.chart.charts import ROOT

CRONJOBS = ROOT / "k8s" / "cronjobs"


def test_the_generated_manifests_are_fresh(helm_binary: Path, python: str) -> None:
    script = ROOT / "scripts" / "generate_manifests.py"
    done = subprocess.run(
        [python, script, "--check"], capture_output=True, text=True, env={**os.environ, "HELM": str(helm_binary)}
    )
    assert done.returncode == 0, done.stderr


def test_the_kustomization_holds_every_file_and_every_cronjob_what_it_refers_to() -> None:
    kustomization = yaml.safe_load((CRONJOBS / "kustomization.yaml").read_text())
    assert set(kustomization["resources"]) == {path.name for path in CRONJOBS.glob("*.yaml")} - {"kustomization.yaml"}
    shared = {(item["kind"], item["metadata"]["name"]) for item in yaml.safe_load_all((CRONJOBS / "shared.yaml").read_text())}
    for name in set(kustomization["resources"]) - {"shared.yaml"}:
        pod = yaml.safe_load((CRONJOBS / name).read_text())["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert ("ServiceAccount", pod["serviceAccountName"]) in shared
        assert ("ConfigMap", pod["containers"][0]["envFrom"][0]["configMapRef"]["name"]) in shared


def test_nothing_of_helm_is_left_in_what_is_for_people_without_it() -> None:
    for path in CRONJOBS.glob("*.yaml"):
        assert "helm.sh/" not in path.read_text() and "managed-by" not in path.read_text()
