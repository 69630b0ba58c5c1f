"""Two programs that turn a Dockerfile into an image: docker where an engine answers, buildah otherwise."""

from __future__ import annotations

import configparser
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.cluster import packages
from tests.cluster.commands import run, stream
from tests.cluster.errors import ClusterError
from tests.cluster.layout import cache_folder
from tests.cluster.progress import Step, step

KEY_LABEL = "dev.rae.tasks.inputs"
CERTIFICATES = "/etc/ssl/certs"
# The settings of pip that say where packages come from, and how they are reached.
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries", "cert")
PIP_FILES = ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")


@dataclass(frozen=True)
class Image:
    """One image: its names, its Dockerfile, and the files and folders that go into it."""

    tags: tuple[str, ...]
    dockerfile: str
    inputs: tuple[str, ...]


class Builder(Protocol):
    """What can build an image. `base` names what the image stands on."""

    base: str

    def prepare(self) -> None:
        """Have the base and the program itself."""

    def key_of(self, image: Image) -> str:
        """The key that the image was built with; empty when one of its names is missing or they differ."""

    def build(self, image: Image, key: str, folder: Path) -> None:
        """Build it from the files of a folder. Raises ClusterError with what the builder said last."""

    def size(self, image: Image) -> str:
        """The image's size, unpacked, with its unit."""

    def show(self, image: Image, program: str) -> str:
        """Run a Python program in the image and return its output."""


class Docker:
    """A Docker engine, which pulls the base by itself."""

    base = "python:3.13-slim"

    def prepare(self) -> None:
        """Nothing to do: the engine has all it needs."""

    def key_of(self, image: Image) -> str:
        form = f'--format={{{{index .Config.Labels "{KEY_LABEL}"}}}}'
        return _common(["docker", "image", "inspect", form], image.tags)

    def build(self, image: Image, key: str, folder: Path) -> None:
        command = ["docker", "build", "--label", f"{KEY_LABEL}={key}", "--file", image.dockerfile]
        with step(f"building {image.tags[0]}") as building:
            stream([*command, *_tags(image), "."], _into(building), cwd=folder)

    def size(self, image: Image) -> str:
        return run(["docker", "images", "--format={{.Size}}", image.tags[0]]).strip()

    def show(self, image: Image, program: str) -> str:
        return run(["docker", "run", "--rm", "--entrypoint=python3", image.tags[0], "-c", program])


class Buildah:
    """buildah on a base made from Debian packages, for machines without an image registry."""

    PACKAGES = "python3,python3-venv,ca-certificates"
    # Text that only a person at a terminal reads.
    LEFT_OUT = ("doc", "man", "info", "locale")

    def __init__(self) -> None:
        recipe = f"bookworm {self.PACKAGES} {self.LEFT_OUT}"
        self.base = f"localhost/rae-base:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"

    def prepare(self) -> None:
        packages.ensure(packages.FOR_IMAGES)
        if _answer(["buildah", "images", "--quiet", self.base]):
            return
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, step("building the base image") as building:
            self._build_base(Path(folder), _into(building))

    def _build_base(self, folder: Path, on_line: Callable[[str], None]) -> None:
        # mmdebstrap unpacks as a user of its own, who must get through.
        folder.chmod(0o755)
        left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in self.LEFT_OUT]
        command = ["mmdebstrap", "--variant=minbase", f"--include={self.PACKAGES}", *left_out]
        stream([*command, "bookworm", str(folder / "base.tar")], on_line)
        (folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        stream(["buildah", "build", "--isolation=chroot", "--tag", self.base, str(folder)], on_line)

    def key_of(self, image: Image) -> str:
        form = f'--format={{{{index .OCIv1.Config.Labels "{KEY_LABEL}"}}}}'
        return _common(["buildah", "inspect", "--type=image", form], image.tags)

    def build(self, image: Image, key: str, folder: Path) -> None:
        command = ["buildah", "build", "--layers", "--isolation=chroot", "--build-arg", f"BASE_IMAGE={self.base}"]
        command += ["--label", f"{KEY_LABEL}={key}", "--file", image.dockerfile, *_tags(image)]
        with tempfile.TemporaryDirectory() as scratch, step(f"building {image.tags[0]}") as building:
            mounts = _network_mounts(Path(scratch))
            stream([*command, *mounts, "."], _into(building), cwd=folder)

    def size(self, image: Image) -> str:
        return run(["buildah", "images", "--format={{.Size}}", image.tags[0]]).strip()

    def show(self, image: Image, program: str) -> str:
        container = run(["buildah", "from", image.tags[0]]).strip()
        try:
            return run(["buildah", "run", "--isolation=chroot", container, "--", "python3", "-c", program])
        finally:
            run(["buildah", "rm", container])


def _network_mounts(scratch: Path) -> list[str]:
    """What a build step needs of this machine to reach its package registry: certificates, resolver, pip's settings."""
    settings = _pip_settings()
    config = configparser.ConfigParser(interpolation=None)
    config["global"] = settings
    with (scratch / "pip.conf").open("w") as file:
        config.write(file)
    mounted = {CERTIFICATES: CERTIFICATES, "/etc/resolv.conf": "/etc/resolv.conf"}
    mounted[str(scratch / "pip.conf")] = "/etc/pip.conf"
    if "cert" in settings and not settings["cert"].startswith(CERTIFICATES):
        mounted[settings["cert"]] = settings["cert"]
    return [word for source, target in mounted.items() for word in ("--volume", f"{source}:{target}:ro")]


def _pip_settings() -> dict[str, str]:
    config = configparser.ConfigParser(interpolation=None)
    config.read([os.path.expanduser(file) for file in PIP_FILES])
    found = dict(config["global"]) if config.has_section("global") else {}
    found |= {
        name: os.environ[f"PIP_{name.upper().replace('-', '_')}"]
        for name in PIP_SETTINGS
        if f"PIP_{name.upper().replace('-', '_')}" in os.environ
    }
    return {name: value for name, value in found.items() if name in PIP_SETTINGS}


def _tags(image: Image) -> list[str]:
    return [word for tag in image.tags for word in ("--tag", tag)]


def _common(command: list[str], tags: tuple[str, ...]) -> str:
    answers = {_answer([*command, tag]) for tag in tags}
    return answers.pop() if len(answers) == 1 else ""


def _answer(command: list[str]) -> str:
    try:
        return run(command).strip()
    except ClusterError:
        return ""


def _into(running: Step) -> Callable[[str], None]:
    def show(line: str) -> None:
        running.detail = line.strip()[:90]

    return show
