"""The control group that holds every pod: what runs in it is ours, whoever started it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.layout import CGROUP
from tests.cluster.processes import send

ROOT = Path("/sys/fs/cgroup")


def create() -> None:
    """Make the group in each hierarchy: kubelet wants its root to be there."""
    for hierarchy in _hierarchies():
        group = hierarchy / CGROUP
        group.mkdir(exist_ok=True)
        _copy_cpuset(group)


def pids() -> set[int]:
    """The processes of all pods."""
    return {int(line) for file in _groups("cgroup.procs") for line in _read(file).split()}


def kill_all(*, patience: float = 10.0) -> None:
    """Kill whatever still runs in the group. Raises ClusterError if something survives that."""
    deadline = time.monotonic() + patience
    while remaining := pids():
        if time.monotonic() > deadline:
            raise ClusterError(f"these processes of pods did not end even when killed: {sorted(remaining)}")
        for pid in remaining:
            send(pid, signal.SIGKILL)
        time.sleep(0.05)


def delete() -> None:
    """Remove the group's folders, the innermost first."""
    for hierarchy in _hierarchies():
        group = hierarchy / CGROUP
        if group.is_dir():
            for folder in sorted(_below(group), reverse=True):
                _remove(folder)


def _remove(folder: Path) -> None:
    # A process that was killed a moment ago may still be on its way out.
    for _attempt in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise ClusterError(f"the control group {folder} is still in use")


def _hierarchies() -> list[Path]:
    """One folder on version 2; on version 1 one for each controller, and often an empty version 2 beside them."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [path for path in sorted(ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]


def _groups(file: str) -> Iterator[Path]:
    for hierarchy in _hierarchies():
        yield from (folder / file for folder in _below(hierarchy / CGROUP))


def _below(group: Path) -> list[Path]:
    """The group and all within it. Not by rglob: a group that goes away meanwhile would be an error there."""
    return [Path(folder) for folder, _, _ in os.walk(group)]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _copy_cpuset(group: Path) -> None:
    # On version 1 a new cpuset has neither processors nor memory, and nothing can enter it.
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = group / name
        if group.parent != ROOT and file.exists() and not file.read_text().strip():
            file.write_text((group.parent / name).read_text())
