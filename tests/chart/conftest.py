"""Fixtures for the chart's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.chart.charts import Chart
from tests.cluster.programs import HELM, build


@pytest.fixture(scope="session")
def helm_binary() -> Path:
    """The pinned helm, from the cache of built programs."""
    return build(HELM) / "helm"


@pytest.fixture(scope="session")
def chart(helm_binary: Path) -> Chart:
    """The chart, ready to be rendered."""
    return Chart(helm_binary)


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter of this run, for the project's scripts."""
    return sys.executable
