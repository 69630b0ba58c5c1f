"""Debian packages that the cluster and the image build need, installed when they are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.commands import run
from tests.cluster.errors import ClusterError
from tests.cluster.layout import cache_folder
from tests.cluster.locks import exclusively
from tests.cluster.progress import step

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
# Each package by a file or a program that tells whether it is there.
FOR_CLUSTER: Mapping[str, str] = {
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iptables": "iptables",
    "iproute2": "ip",
    "conntrack": "conntrack",
    "mount": "mount",
    "openssl": "openssl",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
}
FOR_IMAGES: Mapping[str, str] = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}


def ensure(packages: Mapping[str, str]) -> None:
    """Install what is missing. Raises ClusterError where there is no apt-get or no root, naming the packages."""
    if not missing(packages):
        return
    with exclusively(cache_folder() / "locks" / "apt.lock", "it installs Debian packages"):
        wanted = missing(packages)
        if wanted:
            _install(wanted)


def missing(packages: Mapping[str, str]) -> list[str]:
    return [name for name, sign in packages.items() if not _present(sign)]


def _present(sign: str) -> bool:
    if sign.startswith("/"):
        return Path(sign).exists()
    path = os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS])
    return shutil.which(sign, path=path) is not None


def _install(wanted: Sequence[str]) -> None:
    names = " ".join(wanted)
    if shutil.which("apt-get") is None:
        raise ClusterError(f"needed and not installed: {names} (Debian's names; this machine has no apt-get)")
    if os.geteuid() != 0:
        raise ClusterError(f"needed and not installed: {names}; run as root, or: sudo apt-get install {names}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {names}"):
        run(["apt-get", "update", "-qq"], env=quiet, seconds=600)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted]
        run(command, env=quiet, seconds=1200)
