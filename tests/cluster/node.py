"""The node: kubelet, which runs the pods, and kube-proxy, which makes Services reachable."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster import cgroups, processes
from tests.cluster.control_plane import KUBECONFIGS, PKI
from tests.cluster.layout import (
    CGROUP,
    CONTAINERD_SOCKET,
    DNS_SERVICE_IP,
    LOGS,
    NODE,
    NODE_IP,
    POD_NETWORK,
    STATE,
)
from tests.cluster.programs import Programs

KUBELET_ROOT = STATE / "kubelet"
POD_LOGS = LOGS / "pods"
# Kubelet puts these where it likes, whatever its root is.
CONTAINER_LOG_LINKS = Path("/var/log/containers")
FIXED_FOLDERS = (
    Path("/var/lib/kubelet/device-plugins"),
    Path("/var/lib/kubelet"),
    CONTAINER_LOG_LINKS,
)


def start(programs: Programs) -> None:
    """Start kubelet and kube-proxy; the API server must answer already."""
    cgroups.create()
    kubelet_config = _write(STATE / "kubelet.json", _kubelet_config())
    kubelet = [programs["kubelet"], f"--config={kubelet_config}", f"--kubeconfig={KUBECONFIGS / 'kubelet'}"]
    kubelet += [f"--node-ip={NODE_IP}", f"--hostname-override={NODE}", f"--root-dir={KUBELET_ROOT}"]
    processes.start("kubelet", kubelet)
    proxy_config = _write(STATE / "kube-proxy.json", _proxy_config())
    processes.start("kube-proxy", [programs["kube-proxy"], f"--config={proxy_config}"])


def _kubelet_config() -> dict[str, object]:
    resolver = STATE / "resolv.conf"
    resolver.write_text(f"nameserver {DNS_SERVICE_IP}\n")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "healthzBindAddress": NODE_IP,
        "authentication": {
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{PKI}/kubelet.crt",
        "tlsPrivateKeyFile": f"{PKI}/kubelet.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        # From 1.35 on kubelet refuses version 1 of control groups unless told otherwise.
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_SERVICE_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "podLogsDir": str(POD_LOGS),
        "volumePluginDir": str(STATE / "volume-plugins"),
        # A full disk of a developer's machine is no reason to end the tests' pods.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 110,
        "syncFrequency": "5s",
        "nodeStatusUpdateFrequency": "5s",
        "registryPullQPS": 0,
    }


def _proxy_config() -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": str(KUBECONFIGS / "proxy")},
        "healthzBindAddress": f"{NODE_IP}:10256",
        "metricsBindAddress": f"{NODE_IP}:10249",
        "nodePortAddresses": ["primary"],
        # Nothing here is for the machine's own connections: leave its connection table as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"localhostNodePorts": False},
    }


def clear_fixed_folders() -> None:
    """Remove what kubelet left outside its root: dangling links to our logs, and folders that are empty."""
    for link in CONTAINER_LOG_LINKS.glob("*"):
        if link.is_symlink() and str(link.readlink()).startswith(f"{POD_LOGS}/"):
            link.unlink()
    for leftover in FIXED_FOLDERS[0].glob("*"):
        if leftover.is_socket() or leftover.name in ("DEPRECATION", "kubelet_internal_checkpoint"):
            leftover.unlink()
    for folder in FIXED_FOLDERS:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _write(path: Path, config: dict[str, object]) -> Path:
    path.write_text(json.dumps(config, indent=2))
    return path
