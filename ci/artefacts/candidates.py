"""Candidates: unreleased software on this machine, in a cell in place of a release.

A candidate's version is the release that its own files name, with a local segment: the commit of a checkout
(``+g1a2b3c4``, with uncommitted changes ``+g1a2b3c4.dirty5f6e7d8``), or the first digits of its files' sha256
(``+s1a2b3c4``). So ids, tags and results distinguish candidates from releases and from each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import hashlib
import lzma
from pathlib import Path
import re
import tarfile
import tempfile
import zlib

from packaging.version import InvalidVersion, Version

from ci import paths
from ci.artefacts.checkout import Checkout
from ci.artefacts.copies import copies_in, take
from ci.artefacts.identity import NotAnArchiveError, of_tag_archive
from ci.errors import CandidateError, ProfileError
from ci.matrix.cells import Candidate, Cell, Runtime
from ci.matrix.model import Matrix, Row
from ci.matrix.profiles import Profile
from ci.options import Options
from ci.options.values import Origin

# The second has only a script: it gives enroot's helpers (enroot-mksquashovlfs, enroot-aufs2ovlfs) their capabilities.
_PACKAGES = ("enroot", "enroot+caps")
# "enroot+caps_4.1.2-1_amd64.deb", as dpkg-deb calls a package's file.
_PACKAGE = re.compile(r"(?P<name>[a-z0-9+.-]+)_(?P<version>[^_]+)_(?P<arch>[a-z0-9]+)\.deb")
# Of a commit or a checksum; as many as `git` shows of a commit, if they are unique.
_DIGITS = 7


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project that is compiled for a cell, and how its sources are recognised."""

    axis: str
    title: str
    file: str
    """The file in its top folder that has its version."""
    release: Callable[[str], str | None]
    """Returns the version in that file's text; None if the file is another project's."""
    archive: str
    """The name of its archives; the version takes the place of ``{}``."""


def _pyxis_release(makefile: str) -> str | None:
    # "PYXIS_VER ?= 0.24.0"; up to 0.20.1 "VERSION   ?= 0.20.1", as many a Makefile has: hence the plugin's name, too.
    found = re.search(r"^(?:PYXIS_VER|VERSION)\s*[?:]?=\s*(\S+)", makefile, re.MULTILINE)
    return found[1] if found and "spank_pyxis.so" in makefile else None


def _slurm_release(meta: str) -> str | None:
    # META has "  Name:\t\tslurm" and "  Version:\t24.11.7"; the "-1" of the tag is its "Release:".
    found = re.search(r"^\s*Version:\s*(\S+)", meta, re.MULTILINE)
    return found[1] if found and re.search(r"^\s*Name:\s*slurm\s*$", meta, re.MULTILINE) else None


PYXIS = Project(axis="pyxis", title="Pyxis", file="Makefile", release=_pyxis_release, archive="v{}.tar.gz")
SLURM = Project(axis="slurm", title="Slurm", file="META", release=_slurm_release, archive="slurm-{}.tar.gz")
PROJECTS = {project.axis: project for project in (PYXIS, SLURM)}


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The candidates and the profile that the options put into cells."""

    found: tuple[Candidate, ...] = ()
    options: Options
    """With commits in place of branches and working trees, so that all processes of a run use the same files."""
    profile: Profile | None = None

    def unfit(self, cell: Cell) -> str:
        """Return why a cell can't have them: an embedded one has neither enroot nor Pyxis. Empty if it can."""
        if self.found and (
            cell.runtime is Runtime.LEGACY or any(cell.version(candidate.axis) is None for candidate in self.found)
        ):
            return "it has no place for the candidates"
        profile, why = self.profile_of(cell)
        return why and f"the profile {profile and profile.name} is not for it: {why}"

    def profile_of(self, cell: Cell) -> tuple[Profile | None, str]:
        """Return the profile of the options or of the cell itself, and why it can't be laid over the cell."""
        profile = self.profile or (Profile.of(cell.profile) if cell.profile else None)
        if profile and cell.profile not in ("", profile.name):
            return profile, f"it has the profile {cell.profile} already"
        return profile, profile.unfit(cell) if profile else ""

    def into(self, cell: Cell) -> Cell:
        """Return the cell with the candidates in it; a candidate for an axis that the cell lacks is left out.

        :raises CandidateError: if there are no packages for its architecture.
        :raises ProfileError: if the profile can't be laid over it.
        """
        for candidate in self.found:
            if cell.version(candidate.axis) is None:
                continue  # `Options.check` refuses the option with a message
            if candidate.axis == "enroot":
                _check_architecture(candidate, cell, str(self.options.enroot))
            cell = cell.with_candidate(candidate)
        profile, why = self.profile_of(cell)
        if profile and cell.runtime is not Runtime.LEGACY:
            if why:
                raise ProfileError(
                    f"the profile {profile.name} cannot be laid over {cell.id}",
                    where=str(profile.folder),
                    why=why,
                    next_step="take another cell, or leave that out of the profile",
                )
            cell = cell.with_profile(profile.name, profile.settings)
        return replace(cell, answers=self.options.answers_of)


def read(options: Options, matrix: Matrix) -> Candidates:
    """Return the candidates and the profile that the options name.

    :raises CandidateError: if a path does not have such software.
    :raises ProfileError: if the profile has a fault.
    """
    found: list[Candidate] = []
    if options.slurm:
        origin, candidate = _source(SLURM, options.slurm, matrix.slurm)
        found, options = [candidate], replace(options, slurm=origin)
    if options.enroot:
        found.append(_packages(options.enroot, matrix.enroot))
    if options.pyxis:
        origin, candidate = _source(PYXIS, options.pyxis, matrix.pyxis)
        found, options = [*found, candidate], replace(options, pyxis=origin)
    profile = Profile.of(options.profile) if options.profile else None
    return Candidates(found=tuple(found), options=options, profile=profile)


def release_at(project: Project, checkout: Checkout, commit: str) -> str:
    """Return the version in the files of a commit.

    :raises CandidateError: if the checkout is another project's, or the files have no version.
    """
    return _release(project, checkout.file(commit, project.file), str(checkout.path))


def _source(project: Project, origin: Origin, rows: Sequence[Row]) -> tuple[Origin, Candidate]:
    store = copies_in(paths.cache_dir())
    if origin.path.is_file():
        file, sha256 = take(origin.path, store)
        release = _release(project, _in_archive(project, file, str(origin.path)), str(origin.path))
        try:
            # An archive of GitHub's names its commit; its version is that which a checkout of the commit would have.
            commit = of_tag_archive(file).commit
        except NotAnArchiveError:
            commit = ""
        label = f"g{commit[:_DIGITS]}" if commit else f"s{sha256[:_DIGITS]}"
        version = _version(release, label, str(origin.path))
    else:
        checkout = Checkout.at(origin.path)
        commit = checkout.commit(origin.revision)
        release = release_at(project, checkout, commit)
        version = _version(release, checkout.label(commit), str(origin))
        # Written elsewhere first: a copy lies under its checksum, which is known only when the archive is complete.
        with tempfile.TemporaryDirectory(prefix="pyxis-matrix-candidate-") as folder:
            draft = Path(folder) / project.archive.format(version)
            checkout.archive(commit, f"{project.axis}-{version}", draft)
            file, _ = take(draft, store)
        origin = replace(origin, revision=commit)
    return origin, Candidate(
        axis=project.axis, version=version, release=release, row=_row(version, rows), commit=commit, files=(file,)
    )


def _in_archive(project: Project, file: Path, where: str) -> str | None:
    """Return the text of the project's file in the top folder of an archive; None if there is none.

    :param where: the file that the user named, for messages.
    """
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                # "pyxis-0.24.0/Makefile", or "./pyxis-0.24.0/Makefile" of `tar -c ./pyxis-0.24.0`.
                if member.isfile() and member.name.removeprefix("./").partition("/")[2] == project.file:
                    content = archive.extractfile(member)
                    return content.read().decode(errors="replace") if content else None
    # tarfile passes on what the decompressors raise, and they have no class of their own in common.
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError, zlib.error) as error:
        raise CandidateError(
            "the file is not a source archive",
            where=where,
            why=str(error),
            next_step=f"name a tar archive, or a git checkout of {project.title}",
        ) from error
    return None


def _packages(folder: Path, rows: Sequence[Row]) -> Candidate:
    """Return enroot's packages in a folder."""
    if not folder.is_dir():
        raise CandidateError(
            "the folder of enroot's packages was not found", where=str(folder), next_step="correct the path"
        )
    # Sorted, because the label is a hash of these names in their order.
    matches = [(file, _PACKAGE.fullmatch(file.name)) for file in sorted(folder.glob("*.deb"))]
    found = {file: match for file, match in matches if match and match["name"] in _PACKAGES}
    names = {match["name"] for match in found.values()}
    versions = sorted({match["version"] for match in found.values()})
    why = ""
    if lacking := [name for name in _PACKAGES if name not in names]:
        why = f"it has no {' and no '.join(f'{name}_VERSION_ARCH.deb' for name in lacking)}"
    elif len(versions) > 1:
        why = f"it has several versions: {', '.join(versions)}"
    if why:
        raise CandidateError(
            "the folder does not hold enroot's two packages, of one version",
            where=str(folder),
            why=why,
            next_step="name a folder with enroot_VERSION_ARCH.deb and enroot+caps_VERSION_ARCH.deb (`make deb`)",
        )
    # Debian's revision is not part of enroot's own version.
    release = versions[0].rpartition("-")[0] or versions[0]
    taken = [take(file, copies_in(paths.cache_dir())) for file in found]
    sums = "".join(f"{file.name} {sha256}\n" for file, sha256 in taken)
    label = f"s{hashlib.sha256(sums.encode()).hexdigest()[:_DIGITS]}"
    # Debian writes 4.2.0~rc1 for a candidate of 4.2.0, and 4.2.0+git1 for a state after it.
    version = _version(release.replace("~", "").partition("+")[0], label, str(folder))
    return Candidate(
        axis="enroot", version=version, release=release, row=_row(version, rows), files=tuple(file for file, _ in taken)
    )


def _check_architecture(candidate: Candidate, cell: Cell, folder: str) -> None:
    there = {match["arch"] for file in candidate.files if (match := _PACKAGE.fullmatch(file.name))}
    # A folder may have packages of several architectures; the label is of all of them.
    if sum(file.stem.endswith(f"_{cell.arch}") for file in candidate.files) != len(_PACKAGES):
        raise CandidateError(
            f"there are no packages of enroot for {cell.id}",
            where=folder,
            why=f"it has packages for {', '.join(sorted(there))}, and the cell needs both for {cell.arch}",
            next_step=f"add enroot's two packages for {cell.arch}, or take a cell of another architecture",
        )


def _row(version: Version, rows: Sequence[Row]) -> Version:
    """Return the newest release of the matrix that is not newer than a version, else the oldest one."""
    known = sorted(row.version for row in rows)
    return max((row for row in known if row <= Version(version.public)), default=known[0])


def _version(release: str, label: str, where: str) -> Version:
    try:
        return Version(f"{release}+{label}")
    except InvalidVersion as error:
        raise CandidateError(
            "the version of a candidate is invalid",
            where=where,
            why=f"{release!r} is not a version",
            next_step="give it one like those of releases, such as 0.25.0 or 0.25.0rc1",
        ) from error


def _release(project: Project, text: str | None, where: str) -> str:
    """Return the version in a project's file; an error if there is no such file, or it is another project's."""
    if text is not None and (release := project.release(text)) is not None:
        return release
    raise CandidateError(
        f"this is not {project.title}",
        where=where,
        why=f"there is no {project.file} in its top folder"
        if text is None
        else f"its {project.file} is another project's",
        next_step=f"--{project.axis} takes a git checkout or a source archive of {project.title}",
    )


def for_cells(cells: Sequence[Cell], candidates: Candidates) -> tuple[Cell, ...]:
    """Return the cells with the candidates in them; cells that are equal then appear once."""
    return tuple({cell.id: cell for cell in map(candidates.into, cells)}.values())
