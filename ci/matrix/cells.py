"""Cells: the combinations of the axes, and their ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from datetime import date

    from ci.matrix.arch import Arch


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


@dataclass(frozen=True, kw_only=True)
class OperatingSystem:
    """What a cell's nodes run on."""

    name: str
    """For example ``debian12``."""
    suite: str
    """Debian's code name, for example ``bookworm``; its packages and base image are found by it."""

    def __str__(self) -> str:
        """Return the name."""
        return self.name


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
    groups: tuple[str, ...] = field(default=(), compare=False)
    """Names of the groups it belongs to; filled in by the matrix."""

    def __post_init__(self) -> None:
        """Refuse a real cell without versions, and any other cell with them (a programmer's mistake)."""
        versions = [version for version in (self.enroot, self.pyxis) if version is not None]
        if len(versions) != (2 if self.runtime is Runtime.NVIDIA else 0):
            raise ValueError(f"enroot and pyxis versions belong to {Runtime.NVIDIA} cells, both or neither: {self!r}")

    @property
    def id(self) -> str:
        """The cell's only name: in nox sessions, image tags, container names, result folders and CI jobs."""
        middle = self.runtime.value if self.enroot is None else f"enroot{self.enroot}-pyxis{self.pyxis}"
        return f"slurm{self.slurm}-{middle}-{self.os}-{self.arch.value}"

    def version(self, axis: str) -> Version | None:
        """Return the version on the axis ``slurm``, ``enroot`` or ``pyxis``; None where it does not apply."""
        return {"slurm": self.slurm.parsed, "enroot": self.enroot, "pyxis": self.pyxis}[axis]

    @property
    def axes(self) -> dict[str, str | None]:
        """The value of each axis as text; None where the axis does not apply."""
        return {
            "slurm": self.slurm.version,
            "enroot": str(self.enroot) if self.enroot else None,
            "pyxis": str(self.pyxis) if self.pyxis else None,
            "os": self.os.name,
            "arch": self.arch.value,
        }

    @property
    def tags(self) -> tuple[str, ...]:
        """What selects the cell with ``nox -t``: its groups, then one tag per axis, for example ``pyxis0.19.0``."""
        versions = [f"{axis}{value}" for axis, value in self.axes.items() if value and axis not in {"os", "arch"}]
        axes = [*versions, self.runtime.value, self.os.name, self.arch.value]
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
        }

    def __str__(self) -> str:
        """Return the id."""
        return self.id
