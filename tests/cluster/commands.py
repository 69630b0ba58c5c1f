"""Start a program, and turn its failure into one error that shows what it said."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.cluster.errors import ClusterError

SHOWN_LINES = 25


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    seconds: float = 120,
) -> str:
    """Run to the end and return standard output. Raises ClusterError on a failure or after `seconds`."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=cwd, env=_environment(env), input=text, text=True, capture_output=True, timeout=seconds)
    except FileNotFoundError:
        raise ClusterError(f"{words[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{_short(words)} did not end within {seconds:.0f} s") from None
    if done.returncode:
        raise ClusterError(_failure(words, done.returncode, (done.stderr or done.stdout).splitlines()))
    return done.stdout


def succeeds(command: Sequence[str | Path], *, seconds: float = 30) -> bool:
    """Whether the program exists and ends with 0 in time."""
    try:
        run(command, seconds=seconds)
    except ClusterError:
        return False
    return True


def stream(
    command: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run to the end, handing over each line of its output as it comes. Raises ClusterError on a failure."""
    words = [str(word) for word in command]
    kept: list[str] = []
    with subprocess.Popen(
        words, cwd=cwd, env=_environment(env), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            kept = [*kept[-SHOWN_LINES:], line.rstrip()]
            on_line(line.rstrip())
    if process.returncode:
        raise ClusterError(_failure(words, process.returncode, kept))


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    # Debian keeps ip, iptables and runc where only root's login shell looks.
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return {**os.environ, "PATH": path, **(extra or {})}


def _short(words: Sequence[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:6]])


def _failure(words: Sequence[str], code: int, lines: Sequence[str]) -> str:
    shown = "\n".join(f"    {line}" for line in lines[-SHOWN_LINES:])
    return f"{_short(words)} ended with {code}:\n{shown}"
