"""What the cluster changes on the machine's network: one bridge, iptables rules and a few kernel settings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tests.cluster.commands import run, succeeds
from tests.cluster.errors import ClusterError
from tests.cluster.layout import BRIDGE, NODE_NETWORK, POD_NETWORK, SERVICE_NETWORK, STATE

CNI_NETWORK = "rae-tasks"
# The bridge and portmap plugins keep a note of each pod's network here, whatever their configuration says.
CNI_RESULTS = Path("/var/lib/cni/results")
CNI_FOLDER = STATE / "cni"
CHAINS = ("KUBE-", "CNI-")
IPTABLES = ("iptables", "ip6tables")
SETTINGS_FILE = STATE / "kernel-settings.json"
# Kubernetes' daemons change these; what they were is put back at the end.
SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def create() -> None:
    """Make the bridge with the node's address, and let the kernel forward packets between pods and node."""
    _remember_settings()
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    if not succeeds(["ip", "link", "show", BRIDGE]):
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        run(["ip", "address", "add", NODE_NETWORK, "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    write_cni_config()


def write_cni_config() -> None:
    """Tell containerd how a pod is wired: a cable of its own to the node, which routes between them.

    Routed, not bridged: a reply between two pods then always passes the node, where a Service's address is translated
    back. On a bridge it would pass only where the kernel has br_netfilter.
    """
    CNI_FOLDER.mkdir(parents=True, exist_ok=True)
    addresses: dict[str, object] = {"type": "host-local", "dataDir": str(CNI_FOLDER / "addresses")}
    addresses |= {"ranges": [[{"subnet": POD_NETWORK}]], "routes": [{"dst": "0.0.0.0/0"}]}
    cable = {"type": "ptp", "ipMasq": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    config = {"cniVersion": "1.0.0", "name": CNI_NETWORK, "plugins": [cable, ports]}
    (CNI_FOLDER / "10-rae-tasks.conflist").write_text(json.dumps(config, indent=2))


def check_foreign() -> None:
    """Raises ClusterError when another Kubernetes uses this machine's network, or our addresses are taken."""
    chains = [chain for program in IPTABLES for _table, chain in _our_chains(program)]
    if any(chain.startswith("KUBE-") for chain in chains):
        raise ClusterError(
            "this machine's iptables hold another Kubernetes' rules (chains KUBE-*): stop that one first, or, if it is "
            "long gone, clear them with `python3 -m tests.cluster down --force`"
        )
    for network in (NODE_NETWORK, POD_NETWORK, SERVICE_NETWORK):
        routes = run(["ip", "route", "show", "root", network])
        foreign = [line for line in routes.splitlines() if BRIDGE not in line and not line.startswith("default")]
        if foreign:
            raise ClusterError(f"the cluster's network {network} is in use on this machine: {foreign[0].strip()}")


def delete() -> None:
    """Take away the bridge, the rules and the notes, and put the kernel settings back."""
    if succeeds(["ip", "link", "show", BRIDGE]):
        run(["ip", "link", "delete", BRIDGE])
    for program in IPTABLES:
        _delete_rules(program)
    for note in CNI_RESULTS.glob(f"{CNI_NETWORK}-*"):
        note.unlink()
    for folder in (CNI_RESULTS, CNI_RESULTS.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    _restore_settings()


def _our_chains(program: str) -> list[tuple[str, str]]:
    """Table and name of each chain of Kubernetes and its network plugins."""
    if not succeeds([f"{program}-save"]):
        return []
    found: list[tuple[str, str]] = []
    table = ""
    for line in run([f"{program}-save"]).splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":") and line[1:].startswith(CHAINS):
            found.append((table, line[1:].split()[0]))
    return found


def _delete_rules(program: str) -> None:
    chains = _our_chains(program)
    if chains:
        rules = run([f"{program}-save"]).splitlines()
        run([f"{program}-restore", "--noflush"], text="\n".join(_undo(rules, chains)) + "\n")


def _undo(rules: Iterable[str], chains: list[tuple[str, str]]) -> list[str]:
    """The input of iptables-restore that drops the chains and every rule elsewhere that leads to one of them."""
    jumps: dict[str, list[str]] = {}
    table = ""
    for line in rules:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A ") and not line[3:].startswith(CHAINS) and _leads_to_ours(line):
            jumps.setdefault(table, []).append("-D" + line[2:])
    script: list[str] = []
    for name in sorted({table for table, _chain in chains}):
        ours = [chain for table, chain in chains if table == name]
        script += [f"*{name}", *jumps.get(name, []), *(f"-F {chain}" for chain in ours)]
        script += [*(f"-X {chain}" for chain in ours), "COMMIT"]
    return script


def _leads_to_ours(rule: str) -> bool:
    words = rule.split()
    return any(word in ("-j", "-g") and target.startswith(CHAINS) for word, target in pairwise(words))


def _remember_settings() -> None:
    if SETTINGS_FILE.exists():
        return
    present = {name: path for name in SETTINGS if (path := Path("/proc/sys") / name).exists()}
    SETTINGS_FILE.write_text(json.dumps({name: path.read_text().strip() for name, path in present.items()}))


def _restore_settings() -> None:
    if not SETTINGS_FILE.exists():
        return
    for name, value in json.loads(SETTINGS_FILE.read_text()).items():
        path = Path("/proc/sys") / name
        if path.read_text().strip() != value:
            path.write_text(value)
