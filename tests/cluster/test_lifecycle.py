"""Starting and ending the cluster built from programs: it can be repeated, repairs itself, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import cgroups, containerd, kind, layout, mounts, network, node, processes
from tests.cluster.access import Cluster, check_ours
from tests.cluster.errors import ClusterError
from tests.cluster_fixtures import drive_cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(kind.available(), reason="kind starts and ends its own cluster"),
    # The first start on a machine builds everything.
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module", autouse=True)
def up_again_afterwards(cluster: Cluster) -> Iterator[None]:
    yield
    drive_cluster("up")


def traces() -> list[str]:
    """What of the cluster is on the machine: processes, mounts, links, rules, control groups and files."""
    programs = {str(layout.CONTAINERD_SOCKET), str(layout.STATE), str(layout.RUN)}
    running = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    found = [f"process {pid}" for pid in running if pid != os.getpid() and any(_mentions(pid, text) for text in programs)]
    found += [f"process {pid}" for pid in cgroups.pids()]
    found += [f"mount {point}" for point in mounts.under((layout.STATE, layout.RUN))]
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    found += [f"link {line.split()[0]}" for line in links.splitlines() if line.startswith((layout.BRIDGE, "veth"))]
    for program in network.IPTABLES:
        rules = subprocess.run([f"{program}-save"], capture_output=True, text=True, check=True).stdout
        found += [f"rule {line}" for line in rules.splitlines() if any(chain in line for chain in network.CHAINS)]
    folders = [layout.STATE, layout.RUN, network.CNI_RESULTS, containerd.SHIM_SOCKETS, *node.FIXED_FOLDERS]
    found += [f"file {folder}" for folder in folders if folder.exists()]
    found += [f"control group {folder}" for folder in Path("/sys/fs/cgroup").glob(f"**/{layout.CGROUP}")]
    return found


def _mentions(pid: int, text: str) -> bool:
    return processes.start_time(pid) is not None and any(text in word for word in processes.command_line(pid))


def kernel_settings() -> dict[str, str]:
    present = [Path("/proc/sys") / name for name in network.SETTINGS]
    return {str(path): path.read_text() for path in present if path.exists()}


def test_a_cluster_that_is_up_is_left_as_it_is(cluster: Cluster) -> None:
    before = processes.recorded()
    assert drive_cluster("up").returncode == 0
    assert processes.recorded() == before


@pytest.mark.parametrize("daemon", ["etcd", "kubelet"])
def test_a_half_dead_cluster_is_told_and_made_anew(cluster: Cluster, daemon: str) -> None:
    victim = next(each for each in processes.recorded() if each.name == daemon)
    processes.stop([victim], patience=5)
    told = drive_cluster("status")
    assert told.returncode == 1
    assert f"not running: {daemon}" in told.stdout
    assert drive_cluster("up").returncode == 0
    assert drive_cluster("status").returncode == 0


def test_the_end_leaves_nothing_and_puts_the_kernel_settings_back(cluster: Cluster) -> None:
    assert drive_cluster("down").returncode == 0
    assert traces() == []
    before = kernel_settings()
    assert drive_cluster("up").returncode == 0
    assert len(traces()) > 20, "the list of traces must be able to find some"
    assert drive_cluster("down").returncode == 0
    assert traces() == []
    assert kernel_settings() == before
    assert drive_cluster("down").returncode == 0, "an end without a cluster is no error"


def test_what_a_killed_cluster_left_is_cleared_from_another_folder(cluster: Cluster, tmp_path: Path) -> None:
    assert drive_cluster("up").returncode == 0
    for daemon in processes.recorded():
        daemon.signal(signal.SIGKILL)
    assert cgroups.pids(), "the pods outlive the daemons that started them"
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "tests").symlink_to(Path(__file__).parent.parent)
    subprocess.run(["python3", "-m", "tests.cluster", "down"], cwd=clone, check=True)
    assert traces() == []


def test_a_pid_that_was_given_out_again_is_never_signalled() -> None:
    with subprocess.Popen(["sleep", "60"]) as innocent:
        record = processes.Daemon("kubelet", innocent.pid, (processes.start_time(innocent.pid) or 0) - 1, processes.boot_id())
        assert not record.alive
        processes.stop([record], patience=0.1)
        assert innocent.poll() is None
        innocent.kill()


def test_iptables_rules_of_others_are_kept() -> None:
    rules = ["*nat", ":PREROUTING ACCEPT [0:0]", ":KUBE-SERVICES - [0:0]", "-A PREROUTING -j MINE"]
    rules += ["-A PREROUTING -m comment --comment x -j KUBE-SERVICES", "-A KUBE-SERVICES -j RETURN", "COMMIT"]
    undone = network._undo(rules, [("nat", "KUBE-SERVICES")])
    assert undone == [
        "*nat",
        "-D PREROUTING -m comment --comment x -j KUBE-SERVICES",
        "-F KUBE-SERVICES",
        "-X KUBE-SERVICES",
        "COMMIT",
    ]


def test_another_clusters_context_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    config = json.loads(layout.KUBECONFIG.read_text()) if layout.KUBECONFIG.exists() else {"contexts": [{}]}
    config["contexts"][0]["name"] = config["current-context"] = "production"
    foreign = tmp_path / "kubeconfig"
    foreign.write_text(json.dumps(config))
    with pytest.raises(ClusterError, match="refusing to touch the context 'production'"):
        check_ours(Cluster(foreign, cluster.kubectl, by_kind=False))
