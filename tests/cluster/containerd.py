"""The container runtime, with a root, a state and a socket of its own beside any other containerd."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import images, processes
from tests.cluster.commands import run, succeeds
from tests.cluster.errors import ClusterError
from tests.cluster.layout import CONTAINERD_SOCKET, RUN, STATE
from tests.cluster.network import CNI_FOLDER
from tests.cluster.programs import Programs

CONFIG = STATE / "containerd.toml"
PAUSE_IMAGE = "localhost/rae-pause:dev"
RUNTIME_STATE = RUN / "containerd"
SETTINGS = f"""\
version = 3
root = "{STATE}/containerd"
state = "{RUNTIME_STATE}"
# They write outside these two.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[ttrpc]
  address = "{RUN}/containerd-ttrpc.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  # Machines without CAP_SYS_RESOURCE cannot lower a score, and every sandbox would fail.
  restrict_oom_score_adj = true
  # Where unmounting finds them, and no other runtime's.
  netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{CNI_FOLDER}"
  use_internal_loopback = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  Root = "{RUN}/runc"
"""
# A watcher's socket has a path that containerd fixes for all its instances.
SHIM_SOCKETS = Path("/run/containerd/s")


def start(programs: Programs) -> None:
    """Start the runtime and wait until it answers."""
    CONFIG.write_text(SETTINGS)
    # It looks for its shim on PATH.
    shims = str(Path(programs["containerd-shim-runc-v2"]).parent)
    daemon = processes.start("containerd", [programs["containerd"], "--config", CONFIG], path=shims)
    deadline = time.monotonic() + 30
    while not succeeds([*_ctr(programs), "version"], seconds=5):
        if not daemon.alive or time.monotonic() > deadline:
            raise ClusterError(f"containerd does not run; see {processes.log_of('containerd')}")
        time.sleep(0.1)


def import_program(programs: Programs, name: str, image: str) -> None:
    """Make one of our programs an image of its own, with nothing else in it, and hand it to the runtime."""
    archive = STATE / f"{name}.oci.tar"
    images.write_program_image(archive, Path(programs[name]), image)
    import_archive(programs, archive)
    archive.unlink()


def import_archive(programs: Programs, archive: Path) -> None:
    """Hand an OCI or Docker archive to the runtime; the image is known by the name in the archive."""
    run([*_ctr(programs), "images", "import", "--local", archive], seconds=300)


def shims() -> Iterator[int]:
    """The processes that watch our containers: those that were told our socket."""
    address = f"{CONTAINERD_SOCKET}"
    for folder in Path("/proc").glob("[0-9]*"):
        words = processes.command_line(int(folder.name))
        if words and Path(words[0]).name.startswith("containerd-shim") and address in words:
            yield int(folder.name)


def kill_shims(*, patience: float = 10.0) -> None:
    """End the watchers, whose containers are gone. Raises ClusterError if one survives."""
    deadline = time.monotonic() + patience
    while remaining := list(shims()):
        if time.monotonic() > deadline:
            raise ClusterError(f"these containerd shims did not end even when killed: {remaining}")
        for pid in remaining:
            processes.send(pid, signal.SIGKILL)
        time.sleep(0.05)


def remove_shim_sockets() -> None:
    """Remove the sockets that ended watchers left, and their folder if no other runtime uses it.

    Which cluster a socket was of is written nowhere once its container is gone, but one that no process holds open any
    more is of no use to anybody.
    """
    held = {words[-1] for line in Path("/proc/net/unix").read_text().splitlines() if (words := line.split())}
    for socket in SHIM_SOCKETS.glob("*"):
        if str(socket) not in held:
            socket.unlink(missing_ok=True)
    for folder in (SHIM_SOCKETS, SHIM_SOCKETS.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _ctr(programs: Programs) -> list[str]:
    return [programs["ctr"], "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io"]


def has_image(programs: Programs, image: str, identity: str) -> bool:
    """Whether this very image was imported before and is still there."""
    known = run([*_ctr(programs), "images", "list", "--quiet", f"name=={image}"]).split()
    return image in known and _note(image).exists() and _note(image).read_text() == identity


def remember_image(image: str, identity: str) -> None:
    _note(image).parent.mkdir(exist_ok=True)
    _note(image).write_text(identity)


def _note(image: str) -> Path:
    return STATE / "images" / image.replace("/", "_")
