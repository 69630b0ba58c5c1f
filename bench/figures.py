"""A measured figure, and whether it meets its goal."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One line of a benchmark's output.

    Attributes:
        name: dotted, e.g. "cli.help".
        value, unit: what was measured.
        baseline: the same measured on the plainest thing that could do the job, in the same run.
        ratio: value / baseline.
        goal: in words, e.g. "<= 150 ms"; empty for a figure that is only reported.
        ok: whether the goal is met.
    """

    name: str
    value: float
    unit: str
    baseline: float
    ratio: float
    goal: str
    ok: bool

    def line(self) -> str:
        """The figure as a JSON line."""
        return json.dumps({key: round(item, 4) if isinstance(item, float) else item for key, item in asdict(self).items()})


def at_most(name: str, value: float, unit: str, baseline: float, limit: float) -> Figure:
    """A figure whose value must not exceed `limit`."""
    return Figure(name, value, unit, baseline, value / baseline, f"<= {limit:g} {unit}", value <= limit)


def at_least(name: str, value: float, unit: str, baseline: float, least: float) -> Figure:
    """A figure whose value must reach `least`."""
    return Figure(name, value, unit, baseline, value / baseline if baseline else 0.0, f">= {least:g} {unit}", value >= least)


def ratio_at_least(name: str, value: float, unit: str, baseline: float, least: float) -> Figure:
    """A figure that must be at least `least` times its baseline."""
    ratio = value / baseline
    return Figure(name, value, unit, baseline, ratio, f"ratio >= {least:g}", ratio >= least)


def median_milliseconds(command: Sequence[str], env: Mapping[str, str], times: int) -> float:
    """Median wall time of a program that must succeed; one more run before the first warms the file cache."""
    taken = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        subprocess.run(command, env=dict(env), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken[1:])
