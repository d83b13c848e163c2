"""The release files that a cell needs, and their addresses."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from packaging.version import Version

from ci.matrix.arch import Arch
from ci.matrix.cells import Candidate, Cell, SlurmSource, SlurmVersion

UPSTREAM = "https://github.com/"
CANDIDATES = "candidates"
"""What the paths of candidates' files begin with."""


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A release file of upstream."""

    path: str
    """Relative to the base address, to a mirror and to the cache."""
    # Only the path is compared: cells ask for one file with different words for messages, and it is fetched once.
    base: str = field(default="", compare=False)
    """The base address; empty for `UPSTREAM`, which has most files."""
    release: str = field(default="", compare=False)
    """The release that the file belongs to, for messages: ``Pyxis 0.19.0``."""
    instead: tuple["Artefact", ...] = field(default=(), compare=False)
    """Other files with the same software, in the order in which they are tried if this one is not found."""
    file: Path | None = field(default=None, compare=False)
    """A candidate's file on this machine; no source has it."""
    commit: str = field(default="", compare=False)
    """The commit from which a candidate's file was made."""

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]

    @property
    def is_tag_archive(self) -> bool:
        """Whether the host makes the file on demand from a tag: then its content is stable, but not its compression."""
        return "/archive/refs/tags/" in self.path

    @property
    def places(self) -> tuple["Artefact", ...]:
        """The file itself, then those to try in its place."""
        return (self, *self.instead)


def artefacts_for(cell: Cell) -> tuple[Artefact, ...]:
    """Return the release files from which a cell is built."""
    slurm = slurm_artefact(cell.slurm)
    return (*([slurm] if slurm else []), *runtime_artefacts(cell))


def slurm_artefact(slurm: SlurmVersion) -> Artefact | None:
    """Return the source archive of a cell's Slurm; None for one that comes from packages."""
    if slurm.candidate:
        (archive,) = _candidates(slurm.candidate, slurm.candidate.files)
        return archive
    return slurm_source(slurm.version) if slurm.source is SlurmSource.ARCHIVE else None


def runtime_artefacts(cell: Cell) -> tuple[Artefact, ...]:
    """Return the release files of a cell's enroot and Pyxis; none for a cell without them."""
    return (*_enroot(cell), *_pyxis(cell))


def _enroot(cell: Cell) -> tuple[Artefact, ...]:
    if candidate := cell.candidate("enroot"):
        return _candidates(candidate, [file for file in candidate.files if file.stem.endswith(f"_{cell.arch}")])
    return enroot_packages(cell.enroot, cell.arch) if cell.enroot else ()


def _pyxis(cell: Cell) -> tuple[Artefact, ...]:
    if candidate := cell.candidate("pyxis"):
        # The build looks for the archive under the name of a release's archive, whatever the user's file is called.
        return _candidates(candidate, candidate.files, f"v{candidate.version}.tar.gz")
    return (pyxis_source(cell.pyxis),) if cell.pyxis else ()


def _candidates(candidate: Candidate, files: Iterable[Path], name: str = "") -> tuple[Artefact, ...]:
    """Return a candidate's files; their paths name the candidate, and no mirror and no upstream has them."""
    return tuple(
        Artefact(
            path=f"{CANDIDATES}/{candidate.axis}/{candidate.text}/{name or file.name}",
            release=f"{candidate.axis} {candidate.text}",
            file=file,
            commit=candidate.commit,
        )
        for file in files
    )


def enroot_packages(version: Version, arch: Arch) -> tuple[Artefact, ...]:
    """Return the Debian packages of an enroot release."""
    # "-1" below is the revision of the Debian package.
    folder = f"NVIDIA/enroot/releases/download/v{version}"
    return tuple(
        Artefact(path=f"{folder}/{package}_{version}-1_{arch}.deb", release=f"enroot {version}")
        for package in ("enroot", "enroot+caps")
    )


def pyxis_source(version: Version) -> Artefact:
    """Return the source archive of a Pyxis release."""
    return Artefact(path=f"NVIDIA/pyxis/archive/refs/tags/v{version}.tar.gz", release=f"Pyxis {version}")


def slurm_tag(version: str) -> str:
    """Return the tag of a Slurm release: ``slurm-25-11-7-1`` for 25.11.7."""
    # "-1" is "Release:" in META, the number of the packaging.
    return f"slurm-{version.replace('.', '-')}-1"


def slurm_source(version: str) -> Artefact:
    """Return the source archive of a Slurm release, such as 25.11.7.

    SchedMD's download page has an archive of its own, which is removed when a security fix replaces the release; the
    tag at GitHub stays. A mirror may have either.
    """
    release = f"Slurm {version}"
    page = Artefact(path=f"download.schedmd.com/slurm/slurm-{version}.tar.bz2", base="https://", release=release)
    path = f"SchedMD/slurm/archive/refs/tags/{slurm_tag(version)}.tar.gz"
    return Artefact(path=path, release=release, instead=(page,))
