"""How long the command line takes to start: every Job pays it. Medians of ten, against an interpreter that does nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from bench.figures import Figure, at_most, median_milliseconds
from bench.postgres import migrated_database

TIMES = 10
HELP_LIMIT_MS = 150
DRY_RUN_LIMIT_MS = 400


def run() -> Iterator[Figure]:
    """Yield cli.help and cli.decay_dry_run."""
    program = os.path.join(os.path.dirname(sys.executable), "rae-jobctl")
    env = {**os.environ, "NO_COLOR": "1"}
    bare = median_milliseconds([sys.executable, "-c", "pass"], env, TIMES)
    yield at_most("cli.help", median_milliseconds([program, "--help"], env, TIMES), "ms", bare, HELP_LIMIT_MS)
    with migrated_database() as url:
        env["DATABASE_URL"] = url
        taken = median_milliseconds([program, "decay", "--dry-run"], env, TIMES)
        yield at_most("cli.decay_dry_run", taken, "ms", bare, DRY_RUN_LIMIT_MS)
