"""Write the `go.mod` and `go.sum` of one version of Kubernetes: `python3 -m tests.cluster.relock 1.37.2`.

`k8s.io/kubernetes` points its staging modules at folders that its module archive lacks, so each is replaced by the
module of the same name that Kubernetes publishes beside it: v1.37.2 goes with v0.37.2. The result is checked in, so that
a build resolves nothing and every archive it downloads is checked against a known hash.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.programs import KUBERNETES_COMMANDS, MODULES


def staging_modules(version: str) -> list[str]:
    """The modules that `k8s.io/kubernetes` takes from its own staging folder."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "go.mod").write_text("module raetasks.test/scratch\n")
        command = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{version}"]
        found = json.loads(subprocess.run(command, cwd=scratch, check=True, capture_output=True).stdout)
    return re.findall(r"^\t(k8s\.io/\S+) => \./staging", Path(found["GoMod"]).read_text(), re.MULTILINE)


def module_file(version: str) -> str:
    """The text of `go.mod`: Kubernetes at this version, its staging modules and its programs as Go tools."""
    minor = version.removeprefix("1.")
    replaced = "\n".join(f"\t{module} => {module} v0.{minor}" for module in staging_modules(version))
    tools = "\n".join(f"\tk8s.io/kubernetes/cmd/{command}" for command in KUBERNETES_COMMANDS)
    return (
        f"module raetasks.test/kubernetes\n\ngo 1.26\n\nrequire k8s.io/kubernetes v{version}\n\n"
        f"replace (\n{replaced}\n)\n\ntool (\n{tools}\n)\n"
    )


def main() -> None:
    for version in sys.argv[1:]:
        folder = MODULES / f"kubernetes-{version}"
        folder.mkdir(exist_ok=True)
        (folder / "go.sum").unlink(missing_ok=True)
        (folder / "go.mod").write_text(module_file(version))
        subprocess.run(["go", "mod", "tidy"], cwd=folder, check=True)


if __name__ == "__main__":
    main()
