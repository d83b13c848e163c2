"""The images that a cell needs, and the content of each. Pure: nothing is fetched or built here.

Some content is known only after an image is built: the subject's wheels depend on the Python in it. For these the plan
names the image that has the Python (`Wheels.python`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
import os
from pathlib import Path
import shlex
from urllib.parse import urlsplit

from ci.artefacts.releases import Artefact, runtime_artefacts, slurm_artefact
from ci.errors import ArtefactError
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime, SlurmVersion
from ci.matrix.model import Subject
from ci.matrix.systems import Family, OperatingSystem, families
from ci.options.values import JOB_OS

REPOSITORY = "pyxis-matrix"

_COMPILED = "slurm-build"
JOB_PYTHON = "3.11"
"""The Python of `job_os`; it does not change in a stable release."""


@dataclass(frozen=True, kw_only=True)
class Wheels:
    """The wheels of the package under test, for one Python."""

    subject: Subject
    checkout: Path | None
    """A checkout to build the package from instead of the release."""
    python: "str | ImagePlan"
    """Major and minor version, or the image that has the Python."""
    glibc: int
    """The minor version of the glibc 2 that the wheels have to run with."""
    editable: bool
    """Whether a checkout is installed as editable: the nodes use it in place, under its own path."""
    beside: tuple[str, ...] = ()
    """More requirements, resolved together with the package's own."""


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """One image: a folder below ``containers/``, its arguments, its parents, and the files for its build context."""

    folder: str
    variant: str
    arch: Arch
    build_args: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, "ImagePlan"] = field(default_factory=dict)
    """By the name of the build argument that takes the parent's tag."""
    artefacts: tuple[Artefact, ...] = ()
    wheels: Wheels | None = None
    beside: tuple[str, ...] = ()
    """More folders below ``containers/`` for its build context, each under its own name."""
    pulled_as: str = ""
    """An image that can be pulled instead, such as ``debian:bookworm-slim``; empty if there is none."""

    @property
    def name(self) -> str:
        """Folder and variant, for messages."""
        return f"{self.folder} {self.variant}"

    @property
    def is_compiled(self) -> bool:
        """Whether building it takes minutes of compiling, and under emulation an hour and more."""
        return self.folder == _COMPILED

    def family(self) -> Iterator["ImagePlan"]:
        """Yield the ancestors, oldest first, and this image itself last; each once."""
        # A list, because a plan has mappings in it, and so no hash.
        seen: list[ImagePlan] = []
        for plan in [*(member for parent in self.parents.values() for member in parent.family()), self]:
            if plan not in seen:
                seen.append(plan)
                yield plan


@dataclass(frozen=True, kw_only=True)
class CellImages:
    """All images of a cell."""

    cell: Cell
    slurm: ImagePlan
    """Plain Slurm, an ancestor of the node. The versions are read from this image."""
    node: ImagePlan
    registry: ImagePlan | None
    """The registry; a legacy cell has none, and no job image."""
    job: ImagePlan | None
    """The image that test images are built from."""
    accounting: ImagePlan | None
    node_wheels: Wheels | None = None
    """Wheels for pip on the nodes; they are copied there, and no image contains them."""
    base_wheels: Wheels | None = None
    """Wheels for pip in the job image under the names of ``--base-image``."""

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """The release files that the images are built from."""
        return tuple(dict.fromkeys(artefact for image in self.node.family() for artefact in image.artefacts))

    def all(self) -> tuple[ImagePlan, ...]:
        """Return the images in the order of building: parents first."""
        return tuple(filter(None, (self.slurm, self.registry, self.job, self.node, self.accounting)))


def images_of(
    cell: Cell,
    subject: Subject,
    checkout: Path | None,
    *,
    accounting: bool,
    job: OperatingSystem | None = None,
    environ: Mapping[str, str] = os.environ,
) -> CellImages:
    """Plan all images of a cell; ``environ`` names the mirrors of packages (`mirror`).

    :param job: the nodes' operating system, if the job image is to have that one and not `job_os`.
    """
    slurm_image = slurm(cell.slurm, base(cell.os, cell.arch, environ))
    installed = Wheels(subject=subject, checkout=checkout, python=slurm_image, glibc=cell.os.glibc, editable=True)
    in_jobs = replace(installed, editable=False)
    if job is None:
        job = job_os()
        in_jobs = replace(in_jobs, python=JOB_PYTHON, glibc=job.glibc)
    containers = cell.runtime is not Runtime.LEGACY
    return CellImages(
        cell=cell,
        slurm=slurm_image,
        # The cell's runtime, with the subject installed.
        node=ImagePlan(
            folder="subject",
            variant=cell.id,
            arch=cell.arch,
            # The virtual environment is made on the second, once for all cells of this Slurm, and copied to the node.
            parents={"NODE_IMAGE": runtime(cell, slurm_image), "SLURM_IMAGE": slurm_image},
            wheels=installed,
        ),
        registry=registry(cell.arch, environ) if containers else None,
        # Debian, `python` and the subject.
        job=ImagePlan(
            folder="job",
            variant=f"{job}-{cell.arch}",
            arch=cell.arch,
            parents={"BASE_IMAGE": base(job, cell.arch, environ)},
            wheels=in_jobs,
        )
        if containers
        else None,
        accounting=accounting_daemon(slurm_image) if accounting else None,
    )


def job_os() -> OperatingSystem:
    """Return the operating system of job image and registry on all cells, unless ``--job-image node`` is given.

    So one job image serves all cells. On nodes with another operating system, a container's os-release differs from the
    node's.
    """
    return OperatingSystem(name=JOB_OS, codename="bookworm", family=families()["bookworm"])


def mirror(family: Family, environ: Mapping[str, str] = os.environ) -> str:
    """Return the address of a family's packages: for Debian ``PYXIS_MATRIX_DEBIAN_MIRROR``, or else its archive."""
    named = environ.get(family.mirror_variable) or family.archive
    if urlsplit(named).username is not None:
        raise ArtefactError(
            "the address of a mirror contains a password",
            where=family.mirror_variable,
            why="the address is kept in images and logs",
            next_step="give it without USER:PASSWORD@; a mirror that asks for them can be reached through a proxy",
        )
    return named


def base(system: OperatingSystem, arch: Arch, environ: Mapping[str, str] = os.environ) -> ImagePlan:
    """Plan the bare operating system.

    If the user named another mirror than the family's archive, the image is always made from it, never pulled.
    """
    family, place = system.family, mirror(system.family, environ)
    arguments = {"SUITE": system.codename, "DEBIAN_MIRROR": place, "OPTIONS": shlex.join(family.options)}
    return ImagePlan(
        folder="base",
        variant=f"{system}-{arch}",
        arch=arch,
        build_args={name: value for name, value in arguments.items() if value},
        pulled_as=family.image.format(codename=system.codename) if place == family.archive else "",
    )


def slurm(version: SlurmVersion, system: ImagePlan) -> ImagePlan:
    """Plan a plain node: Slurm, munge, sshd and Python; the Slurm layer of every cell of this Slurm and system.

    :param system: the bare operating system.
    """
    archive = slurm_artefact(version)
    if archive is None:
        return ImagePlan(
            folder="slurm-integration", variant=system.variant, arch=system.arch, parents={"BASE_IMAGE": system}
        )
    variant = f"{version}-{system.variant}"
    # An image of its own with nothing but Slurm's files: no compiler gets onto a node.
    compiled = ImagePlan(
        folder=_COMPILED,
        variant=variant,
        arch=system.arch,
        build_args={"SLURM_VERSION": version.release},
        parents={"BASE_IMAGE": system},
        artefacts=(archive,),
    )
    return ImagePlan(
        folder="slurm-archive",
        variant=variant,
        arch=system.arch,
        parents={"BASE_IMAGE": system, "SLURM_BUILD": compiled},
        beside=("slurm-integration",),
    )


def accounting_daemon(slurm_image: ImagePlan) -> ImagePlan:
    """Plan the accounting daemon with its database, on top of the nodes' own Slurm."""
    return ImagePlan(
        folder="slurmdbd", variant=slurm_image.variant, arch=slurm_image.arch, parents={"SLURM_IMAGE": slurm_image}
    )


def registry(arch: Arch, environ: Mapping[str, str] = os.environ) -> ImagePlan:
    """Plan the registry: ``registry:2``, or the same program from Debian's package."""
    return ImagePlan(
        folder="registry",
        variant=f"{job_os()}-{arch}",
        arch=arch,
        # The major version that Debian 12 has, too: both read the same configuration.
        pulled_as="registry:2",
        parents={"BASE_IMAGE": base(job_os(), arch, environ)},
    )


def runtime(cell: Cell, slurm_image: ImagePlan) -> ImagePlan:
    """Plan the image with the cell's container runtime, on top of its Slurm."""
    match cell.runtime:
        case Runtime.LEGACY:
            return slurm_image
        case Runtime.EMBEDDED:
            return ImagePlan(folder="embedded", variant=cell.id, arch=cell.arch, parents={"SLURM_IMAGE": slurm_image})
        case Runtime.NVIDIA:
            return ImagePlan(
                folder="slurm-pyxis-integration",
                variant=cell.id,
                arch=cell.arch,
                build_args={
                    # As the programs call themselves: the version in a candidate's id has a commit or checksum, too.
                    "ENROOT_VERSION": cell.release("enroot") or "",
                    "PYXIS_VERSION": cell.release("pyxis") or "",
                },
                parents={"SLURM_IMAGE": slurm_image},
                artefacts=runtime_artefacts(cell),
            )
