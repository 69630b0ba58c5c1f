"""A one-node Kubernetes of this machine's own, from built programs: started, checked, and taken away without a trace."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import addons, cgroups, containerd, control_plane, mounts, network, node, packages, pki, processes
from tests.cluster.commands import succeeds
from tests.cluster.errors import ClusterError
from tests.cluster.layout import KUBECONFIG, LOCK, NODE, RUN, STATE
from tests.cluster.locks import exclusively
from tests.cluster.programs import Programs, build_all
from tests.cluster.progress import say, step

DAEMONS = (
    "etcd",
    "apiserver",
    "containerd",
    "controller-manager",
    "scheduler",
    "provisioner",
    "kubelet",
    "kube-proxy",
)
# The node's parts first, so that nothing starts a container again while the containers are ended.
NODE_DAEMONS = ("kubelet", "kube-proxy", "scheduler", "controller-manager", "provisioner")
DESCRIPTION = STATE / "cluster.json"


@dataclass(frozen=True)
class Status:
    """What there is: no state at all, a healthy cluster, or something in between with the reason why."""

    exists: bool
    version: str = ""
    problem: str = ""

    @property
    def healthy(self) -> bool:
        return self.exists and not self.problem


def up(version: str) -> None:
    """Have a healthy cluster of this version. A half-dead one or one of another version is made anew."""
    _need_root()
    packages.ensure(packages.FOR_CLUSTER)
    programs = build_all(version)
    with exclusively(LOCK, "it starts or stops the cluster"):
        found = status()
        if found.healthy and found.version == version:
            say(f"Kubernetes {version} is up already")
            return
        if found.exists:
            say(f"clearing an earlier cluster away: {found.problem or f'it is {found.version}'}")
            _take_down()
        network.check_foreign()
        with step(f"starting Kubernetes {version}"):
            _start(version, programs)


def down(*, force: bool = False) -> None:
    """End the cluster and leave nothing of it. With `force`, clear iptables chains that have no cluster to them, too."""
    _need_root()
    with exclusively(LOCK, "it starts or stops the cluster"):
        if not _leftovers() and not force:
            say("there is no cluster")
            return
        with step("taking the cluster down"):
            _take_down()


def status() -> Status:
    """Look at every daemon, the API server and the node."""
    if not _leftovers():
        return Status(exists=False)
    try:
        description = json.loads(DESCRIPTION.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return Status(exists=True, problem="it was never fully started")
    return Status(True, description["version"], _problem(programs_of_running()))


def programs_of_running() -> Programs:
    """The programs that the running cluster was started from. Raises ClusterError when there is none."""
    try:
        description = json.loads(DESCRIPTION.read_text())
    except FileNotFoundError:
        raise ClusterError("there is no cluster; start one with `python3 -m tests.cluster up`") from None
    return Programs(tuple(Path(folder) for folder in description["programs"]))


def _problem(programs: Programs) -> str:
    alive = {daemon.name for daemon in processes.recorded() if daemon.alive}
    dead = [name for name in DAEMONS if name not in alive]
    if dead:
        return f"not running: {', '.join(dead)}"
    if not all((folder / "..").exists() for folder in programs.folders):
        return "its programs have been removed"
    if not control_plane.api_ready(programs):
        return "the API server does not answer"
    kubectl = [programs["kubectl"], f"--kubeconfig={KUBECONFIG}", "wait", "--timeout=5s"]
    if not succeeds([*kubectl, "--for=condition=Ready", f"node/{NODE}"]):
        return "the node is not ready"
    return ""


def _start(version: str, programs: Programs) -> None:
    for folder in (STATE, RUN):
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    pki.create(control_plane.PKI)
    network.create()
    control_plane.write_kubeconfigs()
    control_plane.start_api(programs)
    with ThreadPoolExecutor(max_workers=1) as pool:
        runtime = pool.submit(_start_runtime, programs)
        control_plane.wait_ready(programs)
        control_plane.start_controllers(programs)
        runtime.result()
    node.start(programs)
    addons.apply(programs)
    addons.wait(programs)
    # Written last: its presence says that the start went through.
    folders = [str(folder) for folder in programs.folders]
    DESCRIPTION.write_text(json.dumps({"version": version, "programs": folders}))


def _start_runtime(programs: Programs) -> None:
    containerd.start(programs)
    containerd.import_program(programs, "pause", containerd.PAUSE_IMAGE)
    containerd.import_program(programs, "coredns", addons.COREDNS_IMAGE)


def _take_down() -> None:
    """Each stage ends what the one before could have started again. Safe to run on any half of a cluster."""
    daemons = processes.recorded()
    processes.stop([daemon for daemon in daemons if daemon.name in NODE_DAEMONS], patience=10)
    cgroups.kill_all()
    containerd.kill_shims()
    # The API server waits for its open watches to end, which nobody is left to read.
    processes.stop([daemon for daemon in daemons if daemon.name == "apiserver"], patience=1)
    processes.stop(daemons, patience=5)
    # Not sooner: a watcher just killed may still hold its socket, and containerd removes some itself, but not their folder.
    containerd.remove_shim_sockets()
    mounts.unmount((STATE, RUN))
    cgroups.delete()
    network.delete()
    node.clear_fixed_folders()
    for folder in (RUN, STATE):
        _remove(folder)


def _remove(folder: Path) -> None:
    if not folder.exists():
        return
    still = mounts.under((folder,))
    if still:
        raise ClusterError(f"not removed, since it is still mounted: {still[0]}")
    shutil.rmtree(folder)


def _leftovers() -> bool:
    return STATE.exists() or RUN.exists()


def _need_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError("a cluster without Docker needs root; run as root, or start a Docker engine for kind")
