"""Where the cluster is kept and which addresses it has.

All of it lies outside the checkout, so that a run from another folder finds, and ends, what an earlier one left.
"""

from __future__ import annotations

import os
from pathlib import Path

NEWEST = "1.37.2"
OLDEST = "1.34.4"
VERSIONS = (NEWEST, OLDEST)

NAME = "rae-tasks"
CONTEXT = "rae-tasks-test"
NODE = "rae-node"
CGROUP = "rae-tasks"

STATE = Path("/var/lib/rae-tasks-cluster")
# Sockets have a path of their own: a Unix socket's path may have 107 bytes at most.
RUN = Path("/run/rae-tasks-cluster")
LOCK = Path("/run/lock/rae-tasks-cluster.lock")
CONTAINERD_SOCKET = RUN / "containerd.sock"
KUBECONFIG = STATE / "kubeconfig"
VOLUMES = STATE / "volumes"
LOGS = STATE / "log"

# The node's address sits on a bridge without ports, which every kernel has; pods reach it like any other host.
BRIDGE = "raenode0"
NODE_IP = "10.99.0.1"
NODE_NETWORK = "10.99.0.1/24"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
API_URL = f"https://{NODE_IP}:6443"
# Not etcd's own ports: an etcd of the machine's may have them.
ETCD_URL = "http://127.0.0.1:32379"
ETCD_PEER_URL = "http://127.0.0.1:32380"


def cache_folder() -> Path:
    """The folder of what was built once and may be used by every later run."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "rae-tasks"
