"""Cells: the combinations of the axes, and their ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from packaging.version import InvalidVersion, Version

from ci.matrix.arch import Arch
from ci.matrix.systems import Family, OperatingSystem


class Runtime(StrEnum):
    """What runs the containers of a cell."""

    NVIDIA = "nvidia"
    """Real enroot and Pyxis."""
    EMBEDDED = "embedded"
    """This project's stand-in for them; it says nothing about compatibility."""
    LEGACY = "legacy"
    """No containers: plain Slurm over SSH, for the session ``legacy_integration``."""


class SlurmSource(StrEnum):
    """Where a Slurm comes from."""

    PACKAGES = "packages"
    """The operating system's own packages; the version is a series."""
    ARCHIVE = "archive"
    """Compiled from the source archive of a release of SchedMD's."""


_YES = frozenset({"1", "true", "y", "yes"})
"""What Slurm, enroot and Pyxis take for yes."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Something unreleased, of this machine, that stands in a cell in place of a release."""

    axis: str
    version: Version
    """Its release with a local segment that says which commit or files it is: ``0.24.0+g1a2b3c4``."""
    release: str
    """The version as the program itself says it: ``24.05.8``."""
    row: Version
    """The release of the matrix that it is selected with: its own, else the newest before it."""
    commit: str = ""
    # A commit is the same candidate wherever its files lie, on this machine or another.
    files: tuple[Path, ...] = field(default=(), compare=False)
    """What it is built from: a source archive, or packages; those of other architectures as well."""

    @property
    def text(self) -> str:
        """The version as its project writes it, with what says which commit it is: ``24.05.8+g1a2b3c4``."""
        return f"{self.release}+{self.version.local}"

    def as_json(self) -> dict[str, str]:
        """Return it as JSON types, without its files: for whoever only has to know what is there."""
        return {"version": str(self.version), "release": self.release, "row": str(self.row), "commit": self.commit}

    @classmethod
    def of_json(cls, axis: str, data: Mapping[str, str]) -> Self:
        """Return what `as_json` has written."""
        version, row = Version(data["version"]), Version(data["row"])
        return cls(axis=axis, version=version, release=data["release"], row=row, commit=data["commit"])


@dataclass(frozen=True, kw_only=True)
class SlurmVersion:
    """A Slurm release, or the series of one that an operating system ships."""

    version: str
    """As Slurm writes it, ``YY.MM`` or ``YY.MM.N``; kept as text because PEP 440 would turn 22.05 into 22.5."""
    source: SlurmSource = SlurmSource.PACKAGES
    accounting: bool = False
    """Whether its cells record their jobs (slurmdbd), so that sacct works."""
    supported_until: date | None = None
    """The last day of SchedMD's support; None if it is not known."""
    candidate: Candidate | None = None
    """What is compiled in place of a release."""

    @property
    def release(self) -> str:
        """What Slurm calls itself: the version, for a candidate without its commit."""
        return self.candidate.release if self.candidate else self.version

    # This works in a frozen dataclass: the value goes straight into ``__dict__``.
    @cached_property
    def parsed(self) -> Version:
        """The version for comparisons."""
        return Version(self.version)

    def __str__(self) -> str:
        """Return the version."""
        return self.version


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of the axes. Equal by value; `groups` does not count."""

    slurm: SlurmVersion
    os: OperatingSystem
    runtime: Runtime
    enroot: Version | None = None
    pyxis: Version | None = None
    arch: Arch
    # The same cell is in other groups when it is looked at from another host.
    groups: tuple[str, ...] = field(default=(), compare=False)
    """Names of the groups it belongs to; filled in by the matrix."""
    candidates: tuple[Candidate, ...] = ()
    """What stands in it in place of releases."""
    stands_for: str = field(default="", compare=False)
    """With candidates or a profile: the id of the matrix's cell that they were put into."""
    answers: tuple[tuple[str, Version], ...] = field(default=(), compare=False)
    """By axis: a version whose answers are expected in place of the cell's own (``--answers-of``)."""
    untried: tuple[str, ...] = field(default=(), compare=False)
    """Axes on which it has a release that nobody has run here yet."""
    profile: str = ""
    """The name of the profile, a site's settings, that is laid over its nodes; empty for none."""
    settings: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """What the profile says (`ci.matrix.profiles.Profile.settings`), or a site has; its keys in small letters."""
    site: str = ""
    """The name of the cluster that exists whose versions these are; empty for what the matrix is made of."""

    def __post_init__(self) -> None:
        """Refuse a real cell without versions, and any other cell with them (a programmer's mistake)."""
        versions = [version for version in (self.enroot, self.pyxis) if version is not None]
        if len(versions) != (2 if self.runtime is Runtime.NVIDIA else 0):
            raise ValueError(f"enroot and pyxis versions belong to {Runtime.NVIDIA} cells, both or neither: {self!r}")

    @cached_property
    def id(self) -> str:
        """The cell's only name: in nox sessions, image tags, container names, result folders and CI jobs."""
        middle = self.runtime.value if self.enroot is None else f"enroot{self.enroot}-pyxis{self.pyxis}"
        behind = (f"+{self.profile}" if self.profile else "") + (f"@{self.site}" if self.site else "")
        return f"slurm{self.slurm}-{middle}-{self.os}-{self.arch.value}{behind}"

    @property
    def matrix_id(self) -> str:
        """The id of the matrix's cell: its own, or that of the cell that candidates and a profile were put into."""
        return self.stands_for or self.id

    def version(self, axis: str) -> Version | None:
        """Return the version on the axis ``slurm``, ``enroot`` or ``pyxis``; None where it does not apply."""
        return {"slurm": self.slurm.parsed, "enroot": self.enroot, "pyxis": self.pyxis}[axis]

    def row(self, axis: str) -> Version | None:
        """Return the version by which selections find the cell: that of a row of the matrix."""
        candidate = self.candidate(axis)
        return candidate.row if candidate else self.version(axis)

    def answers_of(self, axis: str) -> Version | None:
        """Return the version whose answers are the right ones on the cell: for a candidate those of its release."""
        version = dict(self.answers).get(axis) or self.version(axis)
        return Version(version.base_version) if version else None  # without rc1 as well

    def release(self, axis: str) -> str | None:
        """Return what the program on an axis calls itself: for a candidate the version without its commit."""
        candidate = self.candidate(axis)
        return candidate.release if candidate else self.axes[axis]

    def candidate(self, axis: str) -> Candidate | None:
        """Return what stands on an axis in place of a release."""
        return next((candidate for candidate in self.candidates if candidate.axis == axis), None)

    def with_candidate(self, candidate: Candidate) -> Self:
        """Return the cell with a candidate in place of the version on its axis."""
        changed: dict[str, Any] = {candidate.axis: candidate.version}
        if candidate.axis == "slurm":
            slurm = replace(self.slurm, version=candidate.text, source=SlurmSource.ARCHIVE, candidate=candidate)
            # SchedMD supports releases, and no commit between them.
            changed = {"slurm": replace(slurm, supported_until=None)}
        return replace(
            self,
            **changed,
            candidates=(*self.candidates, candidate),
            # With a second candidate it is still the cell of the matrix, and not the one with the first.
            stands_for=self.matrix_id,
            # Groups are of releases; what options put into a cell no selection of the matrix has asked for.
            groups=(),
            untried=tuple(axis for axis in self.untried if axis != candidate.axis),
        )

    def with_profile(self, name: str, settings: Mapping[str, str]) -> Self:
        """Return the cell with a profile over it."""
        return replace(
            self, profile=name, settings=tuple(settings.items()), stands_for=self.matrix_id, groups=(), untried=()
        )

    @classmethod
    def of_site(cls, name: str, axes: Mapping[str, str | None], settings: Mapping[str, str]) -> Self:
        """Return what stands for a cluster that exists: the versions that were seen there, whatever the matrix has.

        :param axes: as `axes` has them; without an enroot it is the embedded runtime.
        """
        enroot, pyxis = axes["enroot"], axes["pyxis"]
        return cls(
            slurm=SlurmVersion(version=axes["slurm"] or ""),
            # No image is built for a site: where its packages come from is not needed.
            os=OperatingSystem(name=axes["os"] or "", codename="", family=Family()),
            runtime=Runtime.NVIDIA if enroot else Runtime.EMBEDDED,
            enroot=Version(enroot) if enroot else None,
            pyxis=Version(pyxis) if pyxis else None,
            arch=Arch(axes["arch"] or ""),
            settings=tuple(settings.items()),
            site=name,
        )

    @property
    def without_profile(self) -> Self:
        """The cell as its images know it: a profile is laid over the nodes when they start."""
        return replace(self, profile="", settings=())

    def says(self, setting: str) -> bool:
        """Tell whether its profile has a setting: a key, or ``KEY=VALUE``."""
        return says(dict(self.settings), setting)

    @cached_property
    def axes(self) -> Mapping[str, str | None]:
        """The value of each axis as text; None where the axis does not apply."""
        return {
            "slurm": self.slurm.version,
            "enroot": str(self.enroot) if self.enroot else None,
            "pyxis": str(self.pyxis) if self.pyxis else None,
            "os": self.os.name,
            "arch": self.arch.value,
        }

    @property
    def remark(self) -> str:
        """What lists say beside the id: which of its releases nobody has run here yet; nothing if there is none."""
        return f"untried: {', '.join(f'{axis} {self.axes[axis]}' for axis in self.untried)}" if self.untried else ""

    @property
    def tags(self) -> tuple[str, ...]:
        """What selects the cell with ``nox -t``: its groups, then one tag per axis, for example ``pyxis0.19.0``.

        One with an untried release is selected by the name of that release only, and one with a profile by its groups.
        """
        if self.profile:
            return self.groups
        versions = {axis: f"{axis}{value}" for axis, value in self.axes.items() if value and axis not in {"os", "arch"}}
        every = [*versions.values(), self.runtime.value, self.os.name, self.arch.value]
        axes = [versions[axis] for axis in self.untried] or every
        return tuple(dict.fromkeys([*self.groups, *axes]))

    def as_json(self) -> dict[str, object]:
        """Return the cell as JSON types, for ``ci cells --json`` and for results."""
        return {
            "id": self.id,
            "axes": self.axes,
            "runtime": self.runtime.value,
            "os": self.os.name,
            "arch": self.arch.value,
            "tags": list(self.tags),
            **({"profile": self.profile} if self.profile else {}),
            **({"site": self.site} if self.site else {}),
        }

    def __str__(self) -> str:
        """Return the id."""
        return self.id


def says(settings: Mapping[str, str], setting: str) -> bool:
    """Tell whether settings, whose keys are in small letters, have one: a key, or a key with one of its values."""
    key, _, value = setting.lower().partition("=")
    # A value may be a list: TaskPlugin=task/affinity,task/cgroup.
    values = frozenset(settings.get(key, "").lower().split(","))
    # Whoever asks for one word of yes means all of them: ENROOT_RESTRICT_DEV=y is what other files write as yes.
    return key in settings and (not value or value in values or (value in _YES and not values.isdisjoint(_YES)))


def read_version(text: str) -> Version | None:
    """Return the version; None if the text is not a version."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def engine_name(name: str) -> str:
    """Return a name made of a cell's id as container engines take it: they have no ``+``, and ids have no ``_``."""
    return name.replace("+", "_")
