"""The mounts under the cluster's folders: kubelet and containerd leave many behind when they are stopped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.cluster.commands import run, succeeds


def under(folders: Iterable[Path]) -> list[str]:
    """The mount points in these folders, the innermost first."""
    prefixes = tuple(f"{folder}/" for folder in folders)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [_unescaped(line.split()[4]) for line in lines]
    return [point for point in reversed(points) if point.startswith(prefixes)]


def unmount(folders: Iterable[Path]) -> None:
    """Unmount all of them; one still in use is detached, and goes when its last user does."""
    for point in under(folders):
        if not succeeds(["umount", point]):
            run(["umount", "--lazy", point])


def _unescaped(text: str) -> str:
    # The kernel writes space, tab, newline and backslash as octal.
    return text.encode().decode("unicode_escape") if "\\" in text else text
