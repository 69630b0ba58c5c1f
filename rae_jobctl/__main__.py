"""Entry point of `rae-jobctl` and of `python -m rae_jobctl`."""

from __future__ import annotations

import sys

from rae_jobctl.cli import run


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
