"""`rae-jobctl dev`: both servers at a laptop, found again by every later command, and gone when told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rae_jobctl.dev.services import known_services


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder that the user PostgreSQL runs as can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="rae-dev-"))
    folder.chmod(0o755)
    yield folder
    dev(folder, "down")
    shutil.rmtree(folder)


def dev(home: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    command = [sys.executable, "-m", "rae_jobctl", "dev", *words]
    return subprocess.run(command, env={**kept, "RAE_DEV_HOME": str(home), **env}, capture_output=True, text=True, timeout=120)


def test_both_servers_start_once_keep_their_data_and_stop(home: Path) -> None:
    first = dev(home, "up")
    assert first.returncode == 0, first.stderr
    assert dev(home, "up").stdout == first.stdout

    exports = dict(line.removeprefix("export ").split("=", 1) for line in dev(home, "env").stdout.splitlines())
    variables = {name: value.strip("'") for name, value in exports.items()}
    assert set(variables) == {"DATABASE_URL", "REDIS_URL"}
    loaded = dev(home, "load-examples", "--create-tables", **variables)
    assert loaded.returncode == 0, loaded.stderr
    assert "demo-tenant / ai-research: 210 new of 210 memories" in loaded.stdout

    assert dev(home, "down").returncode == 0
    services = known_services(home)
    assert not services.postgres.running
    assert not services.valkey.running
    assert dev(home, "up").returncode == 0
    assert "ai-research: 0 new of 210" in dev(home, "load-examples", **variables).stdout


def test_without_services_every_command_says_how_to_have_them(tmp_path: Path) -> None:
    for command in ("env", "down"):
        ended = dev(tmp_path, command)

        assert ended.returncode == 78
        assert "rae-jobctl dev up" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_passwords_are_readable_by_their_owner_alone(home: Path) -> None:
    assert dev(home, "up").returncode == 0

    assert (home / "services.json").stat().st_mode & 0o077 == 0
    assert (home / "valkey" / "valkey.conf").stat().st_mode & 0o077 == 0
    assert not (home / "postgres" / "password").exists()
