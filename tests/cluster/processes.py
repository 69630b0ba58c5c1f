"""Daemons that outlive this program: started apart from it, recorded, and never confused with another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.layout import LOGS, RUN

PIDS = RUN / "pids"


@dataclass(frozen=True)
class Daemon:
    """A started process. A pid alone proves nothing, since the kernel gives it out again: boot and start time do."""

    name: str
    pid: int
    started: int
    boot: str

    @property
    def alive(self) -> bool:
        return self.boot == boot_id() and start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        if self.alive:
            send(self.pid, number)


def start(name: str, command: Sequence[str | Path], *, path: str = "") -> Daemon:
    """Start a daemon with its output in a log of its own, and record it."""
    LOGS.mkdir(parents=True, exist_ok=True)
    PIDS.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PATH": f"{path}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    with log_of(name).open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    daemon = Daemon(name, process.pid, start_time(process.pid) or 0, boot_id())
    (PIDS / f"{name}.json").write_text(json.dumps(asdict(daemon)))
    return daemon


def recorded() -> list[Daemon]:
    """The daemons that were started and not yet forgotten, dead ones included."""
    return [Daemon(**json.loads(file.read_text())) for file in sorted(PIDS.glob("*.json"))]


def log_of(name: str) -> Path:
    return LOGS / f"{name}.log"


def stop(daemons: Iterable[Daemon], *, patience: float) -> None:
    """Ask them to end, wait up to `patience` seconds, then insist. Raises ClusterError if one cannot be ended."""
    waiting = [daemon for daemon in daemons if daemon.alive]
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        for daemon in waiting:
            daemon.signal(number)
        waiting = _still_alive(waiting, seconds)
    if waiting:
        names = ", ".join(f"{daemon.name} ({daemon.pid})" for daemon in waiting)
        raise ClusterError(f"these did not end even when killed: {names}")


def _still_alive(daemons: list[Daemon], seconds: float) -> list[Daemon]:
    deadline = time.monotonic() + seconds
    while (alive := [daemon for daemon in daemons if daemon.alive]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def send(pid: int, number: int) -> None:
    """Send a signal; a process that has ended meanwhile is no error."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since the boot; None when it has ended. See proc(5), stat, field 22."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name, in parentheses, may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
