"""Programs built from Go modules, each once: the cache is keyed by everything that goes into a build."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.cluster.commands import run, stream
from tests.cluster.errors import ClusterError
from tests.cluster.layout import cache_folder
from tests.cluster.locks import exclusively
from tests.cluster.progress import say, step

MODULES = Path(__file__).parent / "modules"
GO_VERSION = (1, 26)
KUBERNETES_COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)


@dataclass(frozen=True)
class Recipe:
    """How some programs are built: a folder of `modules/`, the packages in it, and the linker's settings."""

    folder: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def linker_flags(self) -> str:
        return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in self.variables)])


def kubernetes(version: str) -> Recipe:
    """Kubernetes' own programs, stamped with their version as a release is: kubelet and API server compare theirs."""
    major, minor, _patch = version.split(".")
    stamp = "k8s.io/component-base/version."
    return Recipe(
        folder=f"kubernetes-{version}",
        packages=tuple(f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_COMMANDS),
        programs=KUBERNETES_COMMANDS,
        variables=(
            (f"{stamp}gitVersion", f"v{version}"),
            (f"{stamp}gitMajor", major),
            (f"{stamp}gitMinor", minor),
        ),
    )


CONTAINERD_COMMANDS = ("containerd", "containerd-shim-runc-v2", "ctr")
CONTAINERD = Recipe(
    folder="containerd",
    packages=tuple(f"github.com/containerd/containerd/v2/cmd/{name}" for name in CONTAINERD_COMMANDS),
    programs=CONTAINERD_COMMANDS,
)
ETCD = Recipe("etcd", ("go.etcd.io/etcd/server/v3",), ("etcd",))
COREDNS = Recipe("coredns", (".",), ("coredns",))
PAUSE = Recipe("pause", (".",), ("pause",))
PROVISIONER = Recipe("provisioner", (".",), ("provisioner",))
HELM = Recipe(
    folder="helm",
    packages=("helm.sh/helm/v4/cmd/helm",),
    programs=("helm",),
    variables=(("helm.sh/helm/v4/internal/version.version", "v4.3.1"),),
)
KIND = Recipe("kind", ("sigs.k8s.io/kind",), ("kind",))


@dataclass(frozen=True)
class Programs:
    """The folders of built programs, searched by name."""

    folders: tuple[Path, ...]

    def __getitem__(self, name: str) -> str:
        """The path of a program, as it stands in a command. Raises ClusterError when it was not built."""
        for folder in self.folders:
            if (folder / name).is_file():
                return str(folder / name)
        raise ClusterError(f"{name} was not built")


def build_all(version: str, *, with_helm: bool = False) -> Programs:
    """Build what the cluster needs that is not built yet, and say where it is."""
    # Two at a time: while one links, which takes one core, the other compiles. Helm comes last, since nothing waits
    # for it, and the provisioner after Kubernetes, whose compiled packages it shares.
    rest = [CONTAINERD, ETCD, COREDNS, PAUSE, *([HELM] if with_helm else [])]
    with ThreadPoolExecutor(max_workers=2) as pool:
        first = pool.submit(_build_each, [kubernetes(version), PROVISIONER])
        second = pool.submit(_build_each, rest)
        return Programs((*first.result(), *second.result()))


def program(name: str, version: str) -> Path:
    """The path of one program, built now if it is not yet. Raises ClusterError for a name nobody builds."""
    recipes = (kubernetes(version), CONTAINERD, ETCD, COREDNS, PAUSE, PROVISIONER, HELM, KIND)
    for recipe in recipes:
        if name in recipe.programs:
            return build(recipe) / name
    raise ClusterError(f"no recipe builds {name}")


def _build_each(recipes: list[Recipe]) -> list[Path]:
    return [build(recipe) for recipe in recipes]


def build(recipe: Recipe) -> Path:
    """The folder of the recipe's programs. A build in progress elsewhere is waited for, a broken one leaves nothing."""
    built = cache_folder() / "programs" / f"{recipe.folder}-{_key(recipe)}"
    if built.is_dir():
        return built
    with exclusively(cache_folder() / "locks" / f"{recipe.folder}.lock", f"it builds {recipe.folder}"):
        if not built.is_dir():
            check_go()
            _build_into(built, recipe)
    return built


def _key(recipe: Recipe) -> str:
    digest = hashlib.sha256(repr(recipe).encode())
    for file in sorted((MODULES / recipe.folder).iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _build_into(built: Path, recipe: Recipe) -> None:
    built.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in built.parent.glob(f".{recipe.folder}-*"):
        shutil.rmtree(abandoned)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{recipe.folder}-", dir=built.parent))
    try:
        _compile(recipe, unfinished)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    unfinished.chmod(0o755)
    unfinished.rename(built)


def _compile(recipe: Recipe, folder: Path) -> None:
    # A single package is written to the named file, several into the folder under their own names.
    output = folder / recipe.programs[0] if len(recipe.packages) == 1 else f"{folder}/"
    command = ["go", "build", "-v", "-trimpath", "-ldflags", recipe.linker_flags, "-o", output, *recipe.packages]
    with step(f"building {recipe.folder} from source") as building:
        count = 0

        def compiled(line: str) -> None:
            nonlocal count
            count += not line.startswith("go: ")
            building.detail = f"{count} packages compiled, now {line}"

        stream(command, compiled, cwd=MODULES / recipe.folder, env=_go_environment())


def _go_environment() -> dict[str, str]:
    return {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}


@cache
def check_go() -> None:
    """Raises ClusterError when Go is missing or too old to build the programs."""
    if shutil.which("go") is None:
        raise ClusterError("Go is not installed: version 1.26 or newer builds the cluster (https://go.dev/dl)")
    found = run(["go", "env", "GOVERSION"]).strip()
    numbers = found.removeprefix("go").split(".")
    if tuple(int(number) for number in numbers[:2]) < GO_VERSION:
        raise ClusterError(f"{found} is too old: version 1.26 or newer builds the cluster (https://go.dev/dl)")
    if os.cpu_count() == 1:
        say("one processor only: the builds take about twice as long as the docs say")
