"""Container images as OCI archives: our own single programs written here, others exported from where they were built.

The format: https://github.com/opencontainers/image-spec (image layout, manifest, configuration).
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
TYPES = "application/vnd.oci.image"


def write_program_image(archive: Path, program: Path, name: str) -> None:
    """An image that holds one static program and starts it. The same program gives the same bytes."""
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    layer_digest = _digest(layer)
    config = _json(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"]},
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{TYPES}.manifest.v1+json",
            "config": _descriptor(f"{TYPES}.config.v1+json", config),
            "layers": [_descriptor(f"{TYPES}.layer.v1.tar", layer)],
        }
    )
    _write_layout(archive, [layer, config, manifest], manifest, name)


def _write_layout(archive: Path, blobs: list[bytes], manifest: bytes, name: str) -> None:
    entry = _descriptor(f"{TYPES}.manifest.v1+json", manifest)
    entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"})}
    files["index.json"] = _json({"schemaVersion": 2, "manifests": [entry]})
    files |= {f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}": blob for blob in blobs}
    archive.write_bytes(_tar(files, mode=0o644))


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _tar(files: dict[str, bytes], *, mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
