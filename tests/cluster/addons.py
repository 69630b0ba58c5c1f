"""What every cluster has beside its daemons: names for Services, and storage on demand."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.commands import run
from tests.cluster.control_plane import PROVISIONER_NAME
from tests.cluster.layout import DNS_SERVICE_IP, KUBECONFIG, NODE
from tests.cluster.programs import Programs

MANIFESTS = Path(__file__).parent / "addons.yaml"
COREDNS_IMAGE = "localhost/rae-coredns:dev"


def apply(programs: Programs) -> None:
    """Create the objects. Creation retries inside kubectl are not needed: the API server is ready."""
    values = {"@COREDNS_IMAGE@": COREDNS_IMAGE, "@DNS_IP@": DNS_SERVICE_IP, "@PROVISIONER@": PROVISIONER_NAME}
    text = MANIFESTS.read_text()
    for name, value in values.items():
        text = text.replace(name, value)
    run([*_kubectl(programs), "apply", "--server-side", "-f", "-"], text=text)


def wait(programs: Programs, *, seconds: int = 120) -> None:
    """Wait until the node takes pods, names resolve, and pods find the account they run as."""
    limit = f"--timeout={seconds}s"
    for what in (
        ["--for=create", f"node/{NODE}"],
        ["--for=condition=Ready", f"node/{NODE}"],
        ["--for=create", "--namespace=default", "serviceaccount/default"],
        ["--for=condition=Available", "--namespace=kube-system", "deployment/coredns"],
    ):
        run([*_kubectl(programs), "wait", limit, *what], seconds=seconds + 10)


def _kubectl(programs: Programs) -> list[str]:
    return [programs["kubectl"], f"--kubeconfig={KUBECONFIG}"]
