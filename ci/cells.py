"""Cells: the points of the matrix, their one name, and which of them a command line asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
import re
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ci.arch import Arch
    from ci.model import Matrix

GROUP_VARIABLE = "PYXIS_MATRIX_GROUP"
"""Environment variable naming the group to use where none is given."""

_ID = re.compile(r"(?<![\w.-])slurm[0-9.]+-(?:embedded|legacy|enroot[\w.+]+-pyxis[\w.+]+)-[a-z0-9]+(?![\w.-])")
_TAG_OPTION = re.compile(r"--tags?(?:=(?P<long>.*))?|-t(?P<short>.*)", re.DOTALL)


class Runtime(StrEnum):
    """What runs the containers of a cell."""

    NVIDIA = "nvidia"
    """Real enroot and Pyxis."""
    EMBEDDED = "embedded"
    """This project's own stand-in; never counted in a compatibility verdict."""
    LEGACY = "legacy"
    """Nothing: plain Slurm over SSH, for the legacy session."""


@dataclass(frozen=True, kw_only=True)
class SlurmVersion:
    """A Slurm release series and the Debian suite that ships it."""

    version: str
    """As Slurm writes it, ``YY.MM``; kept as text because PEP 440 would turn 22.05 into 22.5."""
    suite: str
    """Debian code name, for example ``bookworm``."""
    accounting: bool = False
    """Whether its cells record their jobs (slurmdbd), so that sacct works."""

    @property
    def parsed(self) -> Version:
        """The version for comparisons."""
        return Version(self.version)

    def __str__(self) -> str:
        """Return the version."""
        return self.version


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of Slurm, container runtime and architecture. Equal by value; `groups` does not count."""

    slurm: SlurmVersion
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
        """The one name of the cell: nox session, image tag, container names, result folder, CI job."""
        middle = self.runtime.value if self.enroot is None else f"enroot{self.enroot}-pyxis{self.pyxis}"
        return f"slurm{self.slurm}-{middle}-{self.arch.value}"

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
            "arch": self.arch.value,
        }

    @property
    def tags(self) -> tuple[str, ...]:
        """What selects the cell with ``nox -t``: its groups, then one tag per axis, for example ``pyxis0.19.0``."""
        versions = [f"{axis}{value}" for axis, value in self.axes.items() if value and axis != "arch"]
        axes = [*versions, self.runtime.value, self.slurm.suite, self.arch.value]
        return tuple(dict.fromkeys([*self.groups, *axes]))

    def as_json(self) -> dict[str, object]:
        """Return the cell as JSON types, for ``ci cells --json`` and for results."""
        return {
            "id": self.id,
            "axes": self.axes,
            "runtime": self.runtime.value,
            "suite": self.slurm.suite,
            "arch": self.arch.value,
            "tags": list(self.tags),
        }

    def __str__(self) -> str:
        """Return the id."""
        return self.id


def default_group(matrix: Matrix, env: Mapping[str, str]) -> str:
    """Return the group to use where none is given: the environment's choice, else the matrix'."""
    return env.get(GROUP_VARIABLE) or matrix.defaults.group


def mentioned(argv: Sequence[str], matrix: Matrix, host: Arch, env: Mapping[str, str]) -> tuple[Cell, ...]:
    """Return the cells that the container sessions must offer for this nox command line.

    A hundred sessions would drown ``nox -l``, so the default group is always there and the rest appears when it is
    named: as ``session(CELL)``, or through a tag (``-t``), which may be a group or an axis such as ``slurm24.11``.

    :param argv: nox' arguments; those behind ``--`` belong to the session and don't count.
    :raises SelectionError: for an unknown group in the environment, and for a well-formed id of no cell.
    """
    default = matrix.cells(default_group(matrix, env), host)
    return _with_named(default, _candidates(matrix, host, legacy=False), argv, env, matrix)


def mentioned_legacy(argv: Sequence[str], matrix: Matrix, host: Arch, env: Mapping[str, str]) -> tuple[Cell, ...]:
    """Return the legacy cells to offer, as `mentioned` does for the container sessions.

    Not every group holds a legacy cell; the session exists nevertheless, on the default group's or on any of the host.
    """
    candidates = _candidates(matrix, host, legacy=True)
    wanted = (default_group(matrix, env), matrix.defaults.group)
    matrix.group(wanted[0])  # an unknown name is an error here as it is for the container sessions
    per_group = ([cell for cell in candidates if name in cell.groups] for name in wanted)
    default = next(filter(None, per_group), None) or [cell for cell in candidates if cell.arch is host][:1]
    return _with_named(default, candidates, argv, env, matrix)


def _candidates(matrix: Matrix, host: Arch, *, legacy: bool) -> tuple[Cell, ...]:
    return tuple(cell for cell in matrix.all_cells(host) if (cell.runtime is Runtime.LEGACY) == legacy)


def _with_named(
    default: Sequence[Cell], candidates: Sequence[Cell], argv: Sequence[str], env: Mapping[str, str], matrix: Matrix
) -> tuple[Cell, ...]:
    """Return the default cells and the candidates that arguments name by id or tag, in matrix order."""
    arguments = _own_arguments(argv)
    tags = set(_tags(arguments))
    sessions = [*arguments, env.get("NOXSESSION", "")]
    ids = {matrix.cell(name).id for argument in sessions for name in _ID.findall(argument)}
    ids |= {cell.id for cell in default}
    return tuple(cell for cell in candidates if cell.id in ids or tags.intersection(cell.tags))


def _own_arguments(argv: Sequence[str]) -> list[str]:
    arguments = list(argv)
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _tags(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the values of ``-t A B``, ``-tA``, ``--tags A B`` and ``--tags=A``."""
    collecting = False
    for argument in arguments:
        if argument.startswith("-"):
            option = _TAG_OPTION.fullmatch(argument)
            attached = (option["long"] or option["short"]) if option else None
            collecting = option is not None and not attached
            if attached:
                yield attached
        elif collecting:
            yield argument
