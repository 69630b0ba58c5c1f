"""The certificates and keys of one cluster, made by openssl. They live as long as the cluster does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.cluster.commands import run
from tests.cluster.layout import API_SERVICE_IP, NODE, NODE_IP

DAYS = "365"
# Ours alone: a distribution's own openssl.cnf adds extensions of its choice.
CONFIG = "[req]\ndistinguished_name = subject\n[subject]\n"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
API_NAMES = (
    f"DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,"
    f"DNS:localhost,IP:127.0.0.1,IP:{API_SERVICE_IP},IP:{NODE_IP}"
)
NODE_NAMES = f"DNS:{NODE},IP:127.0.0.1,IP:{NODE_IP}"
# Who each key speaks for: Kubernetes reads the user from CN and the groups from O.
IDENTITIES: tuple[tuple[str, str, str], ...] = (
    ("apiserver", "/CN=kube-apiserver", API_NAMES),
    ("admin", "/O=system:masters/CN=rae-tasks-admin", ""),
    ("controller-manager", "/CN=system:kube-controller-manager", ""),
    ("scheduler", "/CN=system:kube-scheduler", ""),
    ("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", NODE_NAMES),
    ("proxy", "/CN=system:kube-proxy", ""),
    ("front-proxy", "/CN=front-proxy-client", ""),
)


def create(folder: Path) -> None:
    """Make the authority, the key that signs service-account tokens, and a certificate for each identity."""
    folder.mkdir(mode=0o700, parents=True)
    _authority(folder)
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / "sa.key"])
    run(["openssl", "ec", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub"])
    for name, subject, names in IDENTITIES:
        _certificate(folder, name, subject, names)


def _authority(folder: Path) -> None:
    usage = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]
    _issue(folder, "ca", "/CN=rae-tasks-ca", usage, ())


def _certificate(folder: Path, name: str, subject: str, names: str) -> None:
    usage = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
    usage += ["extendedKeyUsage=clientAuth,serverAuth", *([f"subjectAltName={names}"] if names else [])]
    _issue(folder, name, subject, usage, ("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key"))


def _issue(folder: Path, name: str, subject: str, extensions: Sequence[str], signer: Sequence[str | Path]) -> None:
    config = folder / "openssl.cnf"
    config.write_text(CONFIG)
    added = [word for extension in extensions for word in ("-addext", extension)]
    command = ["openssl", "req", "-x509", "-config", config, *KEY, "-subj", subject, "-days", DAYS, *added, *signer]
    run([*command, "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"])
