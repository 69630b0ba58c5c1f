"""How each part reaches the API server, and the guard that keeps the tests off any other cluster."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.cluster.layout import API_URL, CONTEXT, NAME


def write(path: Path, pki: Path, identity: str) -> None:
    """A kubeconfig with everything in it, readable by its owner alone. JSON is YAML, too."""
    authority = _data(pki / "ca.crt")
    cluster = {"server": API_URL, "certificate-authority-data": authority}
    user = {
        "client-certificate-data": _data(pki / f"{identity}.crt"),
        "client-key-data": _data(pki / f"{identity}.key"),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": identity, "user": user}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": NAME, "user": identity}}],
        "current-context": CONTEXT,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2) + "\n")


def _data(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
