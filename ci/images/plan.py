"""What will be built and started, worked out before anything is: pure functions, no engine.

An image's tag carries the hash of everything that goes into it: the files of its folder, its build arguments, the files
added to its context and, through their tags, its parents. An image whose tag the engine already holds is not rebuilt.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
import hashlib
from pathlib import Path

from ci import paths
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime

REPOSITORY = "pyxis-matrix"

# Raised when the way images are made changes without any file of their folders changing.
_RECIPE = "1"

# The suite that job images and the registry are made of, whatever the cell's is: one test image per run, and on other
# suites' nodes a job's os-release differs from its host's.
JOB_SUITE = "bookworm"
JOB_PYTHON = "3.11"  # a stable suite's Python does not change

REGISTRY_PORT = 5000
SSH_PORT = 22
ENROOT_DATA = "/var/lib/enroot-data"


@dataclass(frozen=True, kw_only=True)
class ContextFile:
    """A file or folder added to an image's build context beside its folder's own files."""

    source: Path | bytes
    """A path of this machine, or a file's content."""
    target: str
    """Path in the context."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """One image: a folder below ``containers/``, its arguments and its parents."""

    folder: str
    variant: str
    arch: Arch
    build_args: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, "ImagePlan"] = field(default_factory=dict)
    context: tuple[ContextFile, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """The hash of all that goes in (hex, 12 digits), as the files were when it was first asked for."""
        digest = hashlib.sha256(f"{_RECIPE} {self.folder} {self.variant} {self.arch}\n".encode())
        for name, content in folder_files(self.folder):
            digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
        for name, value in sorted(self.build_args.items()):
            digest.update(f"{name}={value}\n".encode())
        for name, parent in sorted(self.parents.items()):
            digest.update(f"{name}<{parent.tag}\n".encode())
        for file in sorted(self.context, key=lambda file: file.target):
            digest.update(f"{file.target} {file.sha256}\n".encode())
        return digest.hexdigest()[:12]

    @property
    def tag(self) -> str:
        """The local image name: project/folder:variant-fingerprint."""
        return f"{REPOSITORY}/{self.folder}:{self.variant}-{self.fingerprint}"

    def family(self) -> Iterator["ImagePlan"]:
        """Yield the ancestors, oldest first, and this image itself last; each tag once."""
        seen: set[str] = set()
        for plan in [*(it for parent in self.parents.values() for it in parent.family()), self]:
            if plan.tag not in seen:
                seen.add(plan.tag)
                yield plan


def folder_files(folder: str) -> list[tuple[str, bytes]]:
    """Return the files below ``containers/<folder>`` with their modes' execute bit, sorted by name."""
    root = paths.CONTAINERS / folder
    return [
        (f"{file.relative_to(root).as_posix()}{'*' if file.stat().st_mode & 0o100 else ''}", file.read_bytes())
        for file in sorted(root.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    ]


def base(suite: str, arch: Arch, mirror: str) -> ImagePlan:
    """Plan the bare Debian of a suite; ``mirror`` is where its packages come from."""
    return ImagePlan(
        folder="base",
        variant=f"{suite}-{arch}",
        arch=arch,
        build_args={"SUITE": suite, "DEBIAN_MIRROR": mirror},
    )


def slurm(suite: str, arch: Arch, mirror: str) -> ImagePlan:
    """Plan the legacy node: Slurm, munge, sshd and Python; the Slurm layer of every other node of the suite."""
    return ImagePlan(
        folder="slurm-integration",
        variant=f"{suite}-{arch}",
        arch=arch,
        parents={"BASE_IMAGE": base(suite, arch, mirror)},
    )


def accounting(slurm_image: ImagePlan) -> ImagePlan:
    """Plan the accounting daemon with its database, on top of the nodes' own Slurm."""
    return ImagePlan(
        folder="slurmdbd", variant=slurm_image.variant, arch=slurm_image.arch, parents={"SLURM_IMAGE": slurm_image}
    )


def registry(arch: Arch, mirror: str) -> ImagePlan:
    """Plan the registry made from Debian's package, for where ``registry:2`` can't be pulled."""
    return ImagePlan(
        folder="registry",
        variant=f"{JOB_SUITE}-{arch}",
        arch=arch,
        parents={"BASE_IMAGE": base(JOB_SUITE, arch, mirror)},
    )


def runtime(cell: Cell, mirror: str, artefacts: tuple[ContextFile, ...]) -> ImagePlan:
    """Plan the image that fills the seat of enroot and Pyxis in ``cell``, on top of its Slurm."""
    parent = slurm(cell.slurm.suite, cell.arch, mirror)
    match cell.runtime:
        case Runtime.LEGACY:
            return parent
        case Runtime.EMBEDDED:
            return ImagePlan(folder="embedded", variant=cell.id, arch=cell.arch, parents={"SLURM_IMAGE": parent})
        case Runtime.NVIDIA:
            return ImagePlan(
                folder="slurm-pyxis-integration",
                variant=cell.id,
                arch=cell.arch,
                build_args={
                    "ENROOT_VERSION": str(cell.enroot),
                    "PYXIS_VERSION": str(cell.pyxis),
                    "ENROOT_ARCH": cell.arch.value,
                },
                parents={"SLURM_IMAGE": parent},
                context=artefacts,
            )


def node(cell: Cell, runtime_image: ImagePlan, slurm_image: ImagePlan, wheels: tuple[ContextFile, ...]) -> ImagePlan:
    """Plan a cell's node: its runtime image with the subject installed from a wheelhouse."""
    return ImagePlan(
        folder="subject",
        variant=cell.id,
        arch=cell.arch,
        parents={"NODE_IMAGE": runtime_image, "SLURM_IMAGE": slurm_image},
        context=wheels,
    )


def job(arch: Arch, mirror: str, wheels: tuple[ContextFile, ...]) -> ImagePlan:
    """Plan the image that test images are built from: Debian, ``python`` and the subject."""
    return ImagePlan(
        folder="job",
        variant=f"{JOB_SUITE}-{arch}",
        arch=arch,
        parents={"BASE_IMAGE": base(JOB_SUITE, arch, mirror)},
        context=wheels,
    )


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of everything that one environment starts."""

    network: str
    registry: str
    accounting: str
    nodes: tuple[str, ...]
    hostnames: tuple[str, ...]
    home_volume: str
    data_volumes: tuple[str, ...]


def names(run: str, cell: Cell, nodes: int) -> Names:
    """Return the names for ``run``, ``cell`` and a number of nodes; unique per run, so runs never meet."""
    prefix = f"pyxis-matrix-{run}-{cell.id}"
    hostnames = tuple(f"n{number}" for number in range(1, nodes + 1))
    return Names(
        network=prefix,
        registry=f"{prefix}-registry",
        accounting=f"{prefix}-slurmdbd",
        nodes=tuple(f"{prefix}-{hostname}" for hostname in hostnames),
        hostnames=hostnames,
        home_volume=f"{prefix}-home",
        data_volumes=tuple(f"{prefix}-{hostname}-data" for hostname in hostnames),
    )
