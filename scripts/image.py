"""Build the product's image and the demo's data images: `python3 -m scripts.image [rae-tasks] [demo-data]`.

It needs no Python package. An image whose inputs have not changed is not built again: the hash of all of them is kept
in a label of the image.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from scripts.builders import Buildah, Builder, Docker, Image
from tests.cluster import kind
from tests.cluster.errors import ClusterError
from tests.cluster.layout import cache_folder
from tests.cluster.locks import exclusively
from tests.cluster.progress import say

REPOSITORY = Path(__file__).parent.parent
IMAGES = {
    "rae-tasks": Image(
        tags=("localhost/rae-tasks:dev",),
        dockerfile="Dockerfile",
        inputs=(
            "pyproject.toml",
            "README.md",
            "LICENSE",
            "requirements/build.txt",
            "requirements/image.txt",
            "rae_jobctl",
            "operator",
            "examples/memories",
        ),
    ),
    "demo-data": Image(
        tags=("localhost/rae-demo-postgres:dev", "localhost/rae-demo-valkey:dev"),
        dockerfile="tests/cluster/demo-data/Dockerfile",
        inputs=("requirements/dev.txt", "tests/cluster/demo-data"),
    ),
}
# Run in the image: the largest parts of it, in MB.
BREAKDOWN = """
import os, pathlib, sys
def size(path):
    found = (os.lstat(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
    return sum(stat.st_size for stat in found) / 1e6
venv = next(pathlib.Path("/opt/venv/lib").glob("python3*/site-packages"))
print(f"{sum(map(size, ('/usr', '/var', '/etc'))):8.1f} MB  the base: Debian and Python")
parts = sorted(((size(path), path.name) for path in venv.iterdir() if path.is_dir()), reverse=True)
for megabytes, name in [(size("/opt/product"), "rae-tasks itself"), *parts[:15]]:
    print(f"{megabytes:8.1f} MB  {name}")
print(f"{sum(megabytes for megabytes, _ in parts[15:]):8.1f} MB  {len(parts) - 15} smaller packages")
"""


def build(name: str) -> None:
    """Have the image under its names. Raises ClusterError when its build fails."""
    image = IMAGES[name]
    builder = builder_of_this_machine()
    with exclusively(cache_folder() / "locks" / "image.lock", "it builds an image"):
        builder.prepare()
        key = inputs_key(image, builder.base)
        if builder.key_of(image) == key:
            say(f"{image.tags[0]} is up to date")
        else:
            builder.build(image, key, REPOSITORY)


def current_key(name: str) -> str:
    """The key of the image as it was last built; empty when it was not."""
    return builder_of_this_machine().key_of(IMAGES[name])


def builder_of_this_machine() -> Builder:
    return Docker() if kind.available() else Buildah()


def inputs_key(image: Image, base: str) -> str:
    """A hash over the base and every file that the Dockerfile copies."""
    digest = hashlib.sha256(f"{base}\0{image.tags}".encode())
    for file in sorted(_files(REPOSITORY / path for path in (image.dockerfile, *image.inputs))):
        executable = file.stat().st_mode & 0o100
        digest.update(f"{file.relative_to(REPOSITORY)}\0{executable}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:32]


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        yield from (file for file in found if "__pycache__" not in file.parts)


def describe(name: str) -> str:
    """The image's size, and what it is made of."""
    builder = builder_of_this_machine()
    image = IMAGES[name]
    return f"{image.tags[0]}: {builder.size(image)}\n{builder.show(image, BREAKDOWN).rstrip()}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m scripts.image", description=__doc__)
    parser.add_argument("--describe", action="store_true", help="print the size of the product's image and its parts")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(IMAGES)}; all by default")
    options = parser.parse_args()
    try:
        for name in options.names or IMAGES:
            build(name)
        if options.describe:
            print(describe("rae-tasks"))
    except (ClusterError, KeyError) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
