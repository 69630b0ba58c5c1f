"""The daemons that make up the control plane: etcd, the API server, the controllers and the scheduler."""

from __future__ import annotations

import time

from tests.cluster import kubeconfigs, processes
from tests.cluster.commands import succeeds
from tests.cluster.errors import ClusterError
from tests.cluster.layout import (
    API_URL,
    ETCD_PEER_URL,
    ETCD_URL,
    KUBECONFIG,
    NODE_IP,
    POD_NETWORK,
    SERVICE_NETWORK,
    STATE,
    VOLUMES,
)
from tests.cluster.programs import Programs

PKI = STATE / "pki"
KUBECONFIGS = STATE / "kubeconfigs"
PROVISIONER_NAME = "tasks.rae.dev/folders"


def start_api(programs: Programs) -> None:
    """Start etcd and the API server. Neither is waited for: each retries until the other is there."""
    etcd = [programs["etcd"], f"--data-dir={STATE / 'etcd'}", f"--listen-client-urls={ETCD_URL}"]
    etcd += [f"--advertise-client-urls={ETCD_URL}", f"--listen-peer-urls={ETCD_PEER_URL}"]
    etcd += [f"--initial-advertise-peer-urls={ETCD_PEER_URL}", f"--initial-cluster=default={ETCD_PEER_URL}"]
    # A test cluster's data need not outlive a power cut, and waiting for the disk slows every write.
    processes.start("etcd", [*etcd, "--unsafe-no-fsync", "--log-level=warn"])
    processes.start("apiserver", [programs["kube-apiserver"], *_api_server_options()])


def _api_server_options() -> list[str]:
    return [
        f"--etcd-servers={ETCD_URL}",
        f"--advertise-address={NODE_IP}",
        f"--bind-address={NODE_IP}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={PKI}/ca.crt",
        f"--tls-cert-file={PKI}/apiserver.crt",
        f"--tls-private-key-file={PKI}/apiserver.key",
        f"--kubelet-client-certificate={PKI}/admin.crt",
        f"--kubelet-client-key={PKI}/admin.key",
        f"--kubelet-certificate-authority={PKI}/ca.crt",
        # The name of the node is known to nobody but Kubernetes.
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={PKI}/sa.pub",
        f"--service-account-signing-key-file={PKI}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--requestheader-client-ca-file={PKI}/ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={PKI}/front-proxy.crt",
        f"--proxy-client-key-file={PKI}/front-proxy.key",
    ]


def start_controllers(programs: Programs) -> None:
    """Start what acts on the API's objects: controllers, scheduler, and the provisioner of volumes."""
    manager = [programs["kube-controller-manager"], *_client("controller-manager"), "--leader-elect=false"]
    manager += [f"--bind-address={NODE_IP}", f"--service-account-private-key-file={PKI}/sa.key"]
    manager += [f"--root-ca-file={PKI}/ca.crt", f"--cluster-signing-cert-file={PKI}/ca.crt"]
    manager += [f"--cluster-signing-key-file={PKI}/ca.key", "--use-service-account-credentials"]
    manager += [f"--cluster-cidr={POD_NETWORK}", "--allocate-node-cidrs=false"]
    manager += [f"--flex-volume-plugin-dir={STATE / 'volume-plugins'}"]
    processes.start("controller-manager", manager)
    scheduler = [programs["kube-scheduler"], *_client("scheduler"), "--leader-elect=false"]
    processes.start("scheduler", [*scheduler, f"--bind-address={NODE_IP}"])
    VOLUMES.mkdir(exist_ok=True)
    provisioner = [programs["provisioner"], f"--kubeconfig={KUBECONFIG}", f"--root={VOLUMES}"]
    processes.start("provisioner", [*provisioner, f"--name={PROVISIONER_NAME}"])


def write_kubeconfigs() -> None:
    """One for each daemon that calls the API server, and one for the person and the tests."""
    for identity in ("controller-manager", "scheduler", "kubelet", "proxy"):
        kubeconfigs.write(KUBECONFIGS / identity, PKI, identity)
    kubeconfigs.write(KUBECONFIG, PKI, "admin")


def wait_ready(programs: Programs, *, seconds: float = 120) -> None:
    """Wait for the API server. Raises ClusterError, with the end of the log, when it dies or does not answer in time."""
    deadline = time.monotonic() + seconds
    while not api_ready(programs):
        dead = [daemon.name for daemon in processes.recorded() if not daemon.alive]
        if dead or time.monotonic() > deadline:
            name = dead[0] if dead else "apiserver"
            last = processes.log_of(name).read_text(errors="replace").splitlines()[-8:]
            raise ClusterError(f"{name} {'ended' if dead else 'did not answer'}; its log ends:\n" + "\n".join(last))
        time.sleep(0.2)


def api_ready(programs: Programs) -> bool:
    question = [programs["kubectl"], f"--kubeconfig={KUBECONFIG}", "get", "--raw=/readyz", "--request-timeout=3s"]
    return succeeds([*question, f"--server={API_URL}"], seconds=5)


def _client(identity: str) -> list[str]:
    """The options of a daemon that checks its own callers with the API server, too."""
    kubeconfig = f"{KUBECONFIGS}/{identity}"
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
    ]
