"""Write what is generated from elsewhere: the chart's copy of the CRDs, and k8s/cronjobs/ from the chart.

`python scripts/generate_manifests.py` writes, `--check` names what is stale and fails. Helm: the one in HELM, on PATH, or built.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "rae-tasks"
CRDS = ROOT / "k8s" / "crds"
CHART_CRDS = CHART / "files" / "crds"
CRONJOBS = ROOT / "k8s" / "cronjobs"
NAMESPACE = "rae"
HEADER = "# Generated from charts/rae-tasks by `make manifests`. Do not edit.\n"
#: What a CronJob needs beside it. The rest of the chart (operator, hooks, admission) is for Helm to install.
COMPANIONS = ("settings.yaml", "task-access.yaml")
#: They name Helm or its chart, which have no part in these files.
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")

Manifest = dict[str, Any]


def main() -> int:
    """Write or check; returns 1 when a check finds something stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args().check
    wanted = {**chart_crds(), **cronjobs(helm())}
    stale = sorted(path for path in wanted.keys() | existing() if _read(path) != wanted.get(path))
    if check:
        for path in stale:
            print(f"stale: {path.relative_to(ROOT)}; run `make manifests`", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        write(path, wanted.get(path))
    return 0


def helm() -> str:
    """The helm to render with: HELM, the one on PATH, or the one that the tests build."""
    named = os.environ.get("HELM") or shutil.which("helm")
    if named:
        return named
    sys.path.insert(0, str(ROOT))
    from tests.cluster.programs import HELM, build

    return str(build(HELM) / "helm")


def existing() -> set[Path]:
    """The generated files that are there."""
    return {*CHART_CRDS.glob("*.yaml"), *CRONJOBS.glob("*.yaml")}


def write(path: Path, text: str | None) -> None:
    """Write the file, or remove one that is no longer wanted."""
    print(f"{'removed' if text is None else 'written'}: {path.relative_to(ROOT)}")
    if text is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def chart_crds() -> dict[Path, str]:
    """A chart can only read files within itself, so it carries copies."""
    return {CHART_CRDS / source.name: source.read_text(encoding="utf-8") for source in sorted(CRDS.glob("*.yaml"))}


def cronjobs(helm: str) -> dict[Path, str]:
    """One file for each CronJob, one for what they share, and a kustomization over all."""
    shared: list[Manifest] = []
    files: dict[Path, str] = {}
    for manifest in rendered(helm):
        if manifest["kind"] == "CronJob":
            name = manifest["metadata"]["labels"]["tasks.rae.dev/task"]
            files[CRONJOBS / f"{name}.yaml"] = _text([manifest])
        else:
            shared.append(manifest)
    files[CRONJOBS / "shared.yaml"] = _text(shared)
    files[CRONJOBS / "kustomization.yaml"] = _text([_kustomization(sorted(path.name for path in files))])
    return files


def rendered(helm: str) -> Iterator[Manifest]:
    """The chart's CronJobs and their companions under its default values, without the traces of Helm."""
    templates = [f"--show-only=templates/{name}" for name in ("cronjobs.yaml", *COMPANIONS)]
    command = [helm, "template", "rae-tasks", str(CHART), f"--namespace={NAMESPACE}", *templates]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for manifest in yaml.safe_load_all(output):
        if manifest:
            for label in HELM_LABELS:
                manifest["metadata"]["labels"].pop(label, None)
            yield manifest


def _kustomization(resources: list[str]) -> Manifest:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": resources,
        "images": [{"name": "rae-tasks", "newName": "rae-tasks", "newTag": "0.1.0"}],
    }


def _text(manifests: list[Manifest]) -> str:
    ordered = sorted(manifests, key=_place)
    return HEADER + "---\n".join(yaml.safe_dump(manifest, sort_keys=False, width=120) for manifest in ordered)


def _place(manifest: Manifest) -> tuple[str, str]:
    # A kustomization has no name.
    return manifest["kind"], manifest.get("metadata", {}).get("name", "")


if __name__ == "__main__":
    sys.exit(main())
