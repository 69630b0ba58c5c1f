"""The command line: `python3 -m tests.cluster up|down|status|kubeconfig|env|build|load|program`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cluster import access, kind, native, packages, programs
from tests.cluster.errors import ClusterError
from tests.cluster.layout import VERSIONS
from tests.cluster.progress import say


def _up(options: argparse.Namespace) -> int:
    cluster = access.up(access.wanted_version(options.kubernetes))
    say(f"ready; KUBECONFIG={cluster.kubeconfig}")
    return 0


def _down(options: argparse.Namespace) -> int:
    access.down(force=options.force)
    return 0


def _status(_options: argparse.Namespace) -> int:
    if kind.available():
        healthy = kind.healthy()
        print("kind: up" if healthy else "kind: no cluster that answers")
        return 0 if healthy else 1
    found = native.status()
    if not found.exists:
        print("no cluster")
    elif found.healthy:
        print(f"Kubernetes {found.version}: up")
    else:
        print(f"not healthy: {found.problem}; `python3 -m tests.cluster up` makes it anew")
    return 0 if found.healthy else 1


def _kubeconfig(_options: argparse.Namespace) -> int:
    print(access.current().kubeconfig)
    return 0


def _env(_options: argparse.Namespace) -> int:
    cluster = access.current()
    folders = f"{cluster.kubectl.parent}:{access.helm(cluster.by_kind).parent}"
    print(f'export KUBECONFIG={cluster.kubeconfig} PATH="{folders}:$PATH"')
    return 0


def _build(options: argparse.Namespace) -> int:
    # Beside kind the packages are kind's own business; the tests of the API server alone need the programs all the same.
    if not kind.available():
        packages.ensure(packages.FOR_CLUSTER)
    programs.build_all(access.wanted_version(options.kubernetes), with_helm=True)
    return 0


def _load(options: argparse.Namespace) -> int:
    access.load(options.image, options.archive)
    return 0


def _program(options: argparse.Namespace) -> int:
    print(programs.program(options.name, access.wanted_version(options.kubernetes)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.cluster", description=__doc__)
    parser.add_argument("--kubernetes", metavar="VERSION", help=f"one of {', '.join(VERSIONS)}; the first by default")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    command("up", _up, "have a healthy cluster; build what is missing")
    ending = command("down", _down, "end the cluster and leave nothing of it")
    ending.add_argument("--force", action="store_true", help="also clear iptables chains of a cluster long gone")
    command("status", _status, "tell whether the cluster is healthy (exit code 0) or not (1)")
    command("kubeconfig", _kubeconfig, "print the path of the cluster's kubeconfig")
    command("env", _env, 'print how a shell reaches the cluster: eval "$(python3 -m tests.cluster env)"')
    command("build", _build, "build all programs into the cache, and nothing else")
    loading = command("load", _load, "give the cluster an image that was built on this machine")
    loading.add_argument("image", help="its name, such as localhost/rae-tasks:dev")
    loading.add_argument("--archive", type=Path, help="an OCI or Docker archive of it, instead of buildah's store")
    naming = command("program", _program, "print the path of one program, built if it is not yet")
    naming.add_argument("name", help="such as kubectl or helm")
    return parser


def main() -> int:
    options = _parser().parse_args()
    try:
        return int(options.run(options))
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
