"""`python -m bench [NAME ...]`: run all benchmarks, or those named; exit code 1 when a figure misses its goal."""

from __future__ import annotations

import importlib
import sys

#: Modules of this package with a function `run` that yields figures.
NAMES = ("cli", "decay", "extract", "queue", "reflect", "retention")


def main(names: list[str]) -> int:
    """Print a JSON line for each figure as soon as it is measured."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"error: there is no benchmark {unknown[0]!r}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 64
    missed = 0
    for name in names or NAMES:
        print(f"bench: {name}", file=sys.stderr)
        for figure in importlib.import_module(f"bench.{name}").run():
            print(figure.line(), flush=True)
            missed += not figure.ok
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
