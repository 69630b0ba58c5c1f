"""PostgreSQL and Valkey at a laptop: started once, found again by every later command."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rae_jobctl.dev.postgres import PostgresServer, free_port, reachable_programs, wheel_programs
from rae_jobctl.dev.valkey import ValkeyServer
from rae_jobctl.errors import ConfigError

HOME_VARIABLE = "RAE_DEV_HOME"
#: Root's own home is closed to the user that PostgreSQL runs as.
_ROOT_HOME = Path("/var/lib/rae-tasks-dev")


def home() -> Path:
    """Where the servers keep their data: RAE_DEV_HOME, or the user's state folder."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).resolve()
    if os.geteuid() == 0:
        return _ROOT_HOME
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "rae-tasks" / "dev"


@dataclass(frozen=True)
class Services:
    """Both servers of a home folder."""

    postgres: PostgresServer
    valkey: ValkeyServer

    def start(self) -> None:
        """Start what does not run; data of before are still there.

        Raises:
            TransientError, ConfigError: as the servers say.
        """
        self.postgres.create()
        self.postgres.start()
        self.postgres.ensure_database()
        self.valkey.start()

    def stop(self) -> None:
        """Stop what runs; the data stay."""
        self.postgres.stop()
        self.valkey.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the tasks read."""
        return {"DATABASE_URL": self.postgres.url(), "REDIS_URL": self.valkey.url}


def known_services(folder: Path) -> Services:
    """The services that `prepared_services` made in this folder.

    Raises:
        ConfigError: there are none.
    """
    try:
        body = json.loads((folder / "services.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"no services were started in {folder}", reason="ConfigMissing", hint="start them: rae-jobctl dev up"
        ) from None
    return _services(folder, body)


def prepared_services(folder: Path) -> Services:
    """The services of this folder, with ports and passwords chosen when it is new.

    Raises:
        ConfigError: the wheels of the extra `dev` are not installed.
    """
    file = folder / "services.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        body = {"postgres": _choice(), "valkey": _choice()}
        file.touch(mode=0o600)
        file.write_text(json.dumps(body), encoding="utf-8")
    return known_services(folder)


def _choice() -> dict[str, Any]:
    return {"port": free_port(), "password": secrets.token_urlsafe(18)}


def _services(folder: Path, body: dict[str, Any]) -> Services:
    programs = reachable_programs(wheel_programs(), folder)
    postgres = PostgresServer(folder / "postgres", programs, body["postgres"]["port"], body["postgres"]["password"])
    return Services(postgres, ValkeyServer(folder / "valkey", body["valkey"]["port"], body["valkey"]["password"]))
