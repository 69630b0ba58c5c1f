"""The kind path as far as it can be had without a Docker engine: the real program knows every flag that we give it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cluster import kind
from tests.cluster.layout import NEWEST, VERSIONS
from tests.cluster.programs import KIND, build


@pytest.fixture(scope="module")
def program() -> Path:
    """The real kind, built from its Go module."""
    return build(KIND) / "kind"


def understands(command: list[str]) -> bool:
    """cobra reads the flags before it prints the help, and refuses one that it does not know."""
    return subprocess.run([*command, "--help"], capture_output=True).returncode == 0


def test_the_check_itself_sees_an_unknown_flag(program: Path) -> None:
    assert not understands([str(program), "create", "cluster", "--no-such-flag"])


def test_kind_understands_the_commands_that_make_fill_and_end_a_cluster(program: Path) -> None:
    oldest = next(version for version in VERSIONS if version != NEWEST)

    assert understands(kind.create_command(program, NEWEST))
    assert understands(kind.create_command(program, oldest))
    assert understands(kind.load_command(program, "localhost/rae-tasks:dev"))
    assert understands(kind.delete_command(program))
