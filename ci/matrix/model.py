"""The matrix: frozen values and pure selections. Reading the file is in `ci.matrix.loading`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
import difflib
from functools import cached_property
from itertools import product
from pathlib import Path
import re
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ci.errors import SelectionError, session, typed
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime, SlurmSource, SlurmVersion
from ci.matrix.pairs import cover
from ci.matrix.systems import OperatingSystem

VERSION_AXES = ("slurm", "enroot", "pyxis")
AXES = (*VERSION_AXES, "os", "arch")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One version of one axis, and its limits on the other axes."""

    axis: str
    name: str
    """The version as the file writes it."""
    version: Version
    requires: tuple[tuple[str, SpecifierSet], ...] = ()
    """Pairs of axis and specifier."""
    requires_os: tuple[str, ...] = ()
    """The operating systems that it is for; empty if it is for all."""
    untried: bool = False
    """Whether nobody has run it here yet: groups leave it out, unless they name it."""
    where: str = ""
    """Key path in matrix.toml."""

    def refuses(self, cell: Cell) -> str:
        """Return why the row does not fit the cell's other versions; empty if it fits."""
        for axis, specifier in self.requires:
            version = cell.version(axis)
            if version is not None and not specifier.contains(version, prereleases=True):  # a release candidate, too
                return f"{self.axis} {self.name} requires {axis} {specifier}"
        if self.requires_os and cell.os.name not in self.requires_os:
            return f"{self.axis} {self.name} requires os {' or '.join(self.requires_os)}"
        return ""


@dataclass(frozen=True, kw_only=True)
class SlurmRow(Row):
    """A row of the Slurm axis, which also says where Slurm comes from."""

    slurm: SlurmVersion


@dataclass(frozen=True, kw_only=True)
class Selector:
    """A set of cells, by axis. A field that is None allows every value."""

    slurm: frozenset[Version] | None = None
    enroot: frozenset[Version] | None = None
    pyxis: frozenset[Version] | None = None
    os: frozenset[str] | None = None
    """Names of operating systems."""
    arch: Arch | Literal["host"] | None = None
    runtime: Runtime | None = None
    profiles: tuple[str, ...] | None = None
    """The profiles that its cells may have; an empty name is none of them, and None is any or none."""
    by_date: bool = False
    """Whether what it matches depends on the day, and may be nothing."""
    untried: frozenset[str] = frozenset(VERSION_AXES)
    """Axes on which it takes rows that nobody has run yet, too."""

    def matches(self, cell: Cell, host: Arch | None = None) -> bool:
        """Whether the cell is in the set. A set that names an enroot version has no cell without enroot.

        :param host: what ``arch = "host"`` means; without it the cell counts as native.
        """
        arch = (host or cell.arch) if self.arch == "host" else self.arch
        return (
            (self.slurm is None or cell.row("slurm") in self.slurm)
            and (self.enroot is None or cell.row("enroot") in self.enroot)
            and (self.pyxis is None or cell.row("pyxis") in self.pyxis)
            and (self.os is None or cell.os.name in self.os)
            and arch in (None, cell.arch)
            and self.runtime in (None, cell.runtime)
            and (self.profiles is None or cell.profile in self.profiles)
            and self.untried.issuperset(cell.untried)
        )


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Cells that are impossible or make no sense, and why."""

    selector: Selector
    reason: str
    issue: str | None = None
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """A cell that was left out."""

    cell: Cell
    reason: str
    issue: str | None = None
    where: str = ""
    """Key path of the row or exclusion that left it out."""


@dataclass(frozen=True, kw_only=True)
class KnownFailure:
    """Tests that are expected to fail on some cells because of a fault that is not the subject's.

    Strict: if such a test passes, that is an error, so that the entry is removed once the fault is fixed.
    """

    tests: tuple[str, ...]
    """Names with ``*`` and ``?``; brackets stand for themselves, as pytest's parameters have them."""
    selector: Selector
    reason: str
    says: str
    """Words in the output of this fault, and only of it; a failure without them is a different one."""
    issue: str | None = None
    where: str = ""

    def matches(self, cell: Cell, test_name: str) -> bool:
        """Whether the test is expected to fail on the cell.

        :param test_name: pytest's node id, or any tail of it: ``folder/test_x.py::test_y[z]``, ``test_y[z]``,
            ``test_y``. A pattern without ``[`` also covers all parameters of a test.
        """
        return self.selector.matches(cell) and any(self._covers(pattern, test_name) for pattern in self.tests)

    def is_about(self, test_name: str) -> bool:
        """Whether it names the test, on whatever cell and with whatever parameter."""
        return any(self._covers(pattern.partition("[")[0], test_name) for pattern in self.tests)

    @staticmethod
    def _covers(pattern: str, test_name: str) -> bool:
        wild = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
        tail = r"(?:\[.*\])?" if "[" not in pattern else ""
        return re.fullmatch(rf"(?:.*(?:::|/))?{wild}{tail}", test_name, re.DOTALL) is not None


@dataclass(frozen=True, kw_only=True)
class Group:
    """A named selection of cells: all that any of its selectors matches."""

    name: str
    selectors: tuple[Selector, ...]
    covers_pairs: bool = False
    """Whether it takes only as many of the selected cells as it needs for every pair of values to meet."""
    candidates: tuple[str, ...] = ()
    """Axes on which something unreleased has to be named when it is run."""
    description: str = ""
    where: str = ""

    def check(self, named: Collection[str]) -> None:
        """Refuse to run it where nothing unreleased is named that it is for.

        :param named: the axes on which something is.
        :raises SelectionError: says what is missing.
        """
        if missing := [f"--{axis}" for axis in self.candidates if axis not in named]:
            options = [f"--{axis} {'DIR' if axis == 'enroot' else 'PATH[@REV]'}" for axis in self.candidates]
            raise SelectionError(
                f"the group {self.name!r} needs {' and '.join(missing)}",
                why=f"it tests unreleased versions of {', '.join(self.candidates)}, which have to be named",
                next_step=session("matrix", f"--group {self.name} {' '.join(options)}"),
            )

    def selects(self, cell: Cell, host: Arch | None) -> bool:
        """Whether a selector matches the cell when run from this host."""
        return any(selector.matches(cell, host) for selector in self.selectors)

    def with_profiles(self, cells: Sequence[Cell], host: Arch | None) -> Iterator[Cell]:
        """Yield the cells with a profile that it selects, made of plain ones."""
        for selector in self.selectors:
            if names := list(filter(None, selector.profiles or ())):
                plain = replace(selector, profiles=("",))
                chosen = [cell for cell in cells if plain.matches(cell, host)]
                yield from (replace(cell.with_profile(name, {}), stands_for="") for name in names for cell in chosen)

    def members(self, cells: Sequence[Cell], host: Arch | None) -> dict[Cell, str]:
        """Return the cells of the group, each with the reason why it is in."""
        if self.covers_pairs:
            covered = cover([cell for cell in cells if self.selects(cell, host)])
            return {cell: "first with " + ", ".join(" + ".join(pair) for pair in new) for cell, new in covered.items()}
        places = {f"{self.where}.cells[{at}]": selector for at, selector in enumerate(self.selectors)}
        entries = ((cell, [at for at, entry in places.items() if entry.matches(cell, host)]) for cell in cells)
        return {cell: "selected by " + ", ".join(found) for cell, found in entries if found}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The package under test."""

    requirement: str
    """PEP 508, for example ``slurm-sdk==0.4.6``."""
    name: str
    """Name of the distribution."""
    constraints: tuple[str, ...] = ()
    reason: str = ""
    """Why the constraints are there."""


@dataclass(frozen=True, kw_only=True)
class SuiteEnvironment:
    """Which environment variable tells a user's own suite which fact about the cluster."""

    variables: tuple[tuple[str, str], ...] = ()
    """Pairs of fact (``host``, ``private-key``, …; see `FACTS`) and variable name."""
    extra: tuple[tuple[str, str], ...] = ()
    """Variables with a fixed value."""

    FACTS = (
        *("host", "port", "user", "password", "private-key", "known-hosts", "home", "registry", "registry-name"),
        *("job-image", "job-image-docker", "container", "results", "cell", "environment-file"),
    )

    def render(self, facts: Mapping[str, str | None]) -> dict[str, str]:
        """Return the environment variables for these facts; a fact that is None or absent sets nothing."""
        values = {name: facts.get(fact) for fact, name in self.variables}
        return {name: value for name, value in values.items() if value is not None} | dict(self.extra)


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What is used when the command line does not say."""

    group: str
    nodes: int = 1


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """All of matrix.toml. Cells are in the order of the file's rows, by Slurm first and by architecture last."""

    slurm: tuple[SlurmRow, ...]
    enroot: tuple[Row, ...]
    pyxis: tuple[Row, ...]
    systems: tuple[OperatingSystem, ...]
    arches: tuple[Arch, ...]
    embedded: frozenset[Version]
    """Slurm versions that get a cell of the embedded runtime."""
    exclusions: tuple[Exclusion, ...]
    failures: tuple[KnownFailure, ...]
    groups: tuple[Group, ...]
    subject: Subject
    suite_environment: SuiteEnvironment
    defaults: Defaults
    path: Path
    added: tuple[Cell, ...] = ()
    """Cells that no group has, with a profile that an option names; found by their ids."""

    def cells(self, group: str | None, host: Arch) -> tuple[Cell, ...]:
        """Return a group's container cells; None means the default group.

        :raises SelectionError: if the group is unknown or has no cell on this host.
        """
        chosen = self.group(group)
        found = tuple(
            cell for cell in self.all_cells(host) if chosen.name in cell.groups and cell.runtime is not Runtime.LEGACY
        )
        if not found:
            left_out = [out for out in self.excluded() if chosen.selects(out.cell, host)]
            raise self._nothing(f"the group {chosen.name!r} selects no cell", host, left_out)
        return found

    def cell(self, name: str, host: Arch | None = None) -> Cell:
        """Return the cell with this id, container or legacy.

        :param host: decides which groups ``arch = "host"`` puts it in; without it the cell counts as native.
        :raises SelectionError: if there is none; the text says why it was excluded, or names similar ids.
        """
        by_id = self._by_id(host)
        if name in by_id:
            return by_id[name]
        for out in self.excluded():
            if out.cell.id == name:
                why = f"{out.reason} ({out.where})" + (f", see {out.issue}" if out.issue else "")
                raise SelectionError(f"the cell {name} is excluded", where=str(self.path), why=why)
        what, why, next_step = f"there is no cell {name!r}", "", typed("cells --group full")
        if "+" in name:
            why = "what follows the + is a candidate or a profile, and no group has a cell with it"
            next_step = "name the cell without it, and add --pyxis, --enroot or --slurm, or --profile"
        elif any(group.name == name for group in self.groups):
            why = "it is a group"
            next_step = f"--group {name} where a command takes one, or one of {typed(f'cells --group {name}')}"
        elif close := difflib.get_close_matches(name, by_id, n=3, cutoff=0.8):
            what += f"; did you mean {' or '.join(close)}?"
        raise SelectionError(what, where=str(self.path), why=why, next_step=next_step)

    def group(self, name: str | None) -> Group:
        """Return the group of this name, the default one for None.

        :raises SelectionError: if there is none; the text names those that exist.
        """
        wanted = name or self.defaults.group
        by_name = {group.name: group for group in self.groups}
        if wanted in by_name:
            return by_name[wanted]
        close = difflib.get_close_matches(wanted, by_name, n=1)
        known = [f"{name} ({group.description})" if group.description else name for name, group in by_name.items()]
        raise SelectionError(
            f"there is no group {wanted!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
            where=str(self.path),
            why=f"the groups are {'; '.join(known)}",
            next_step=typed("cells --group NAME"),
        )

    def excluded(self) -> tuple[Excluded, ...]:
        """Return every cell that a row's requirement or an exclusion left out, with the reason."""
        return tuple(verdict for _, verdict in self._judged if verdict)

    def known_failures(self, cell: Cell) -> tuple[KnownFailure, ...]:
        """Return the known failures of this cell."""
        return tuple(failure for failure in self.failures if failure.selector.matches(cell))

    def all_cells(self, host: Arch | None) -> tuple[Cell, ...]:
        """Return every cell that is not excluded, legacy ones included, with its groups filled in."""
        return tuple(self._by_id(host).values())

    def _by_id(self, host: Arch | None) -> Mapping[str, Cell]:
        if host not in self._grouped:
            self._grouped[host] = {cell.id: cell for cell in (*self._with_groups(host), *self.added)}
        return self._grouped[host]

    @cached_property
    def _grouped(self) -> dict[Arch | None, Mapping[str, Cell]]:
        return {}  # filled by `_by_id`, one host at a time

    def _with_groups(self, host: Arch | None) -> tuple[Cell, ...]:
        cells = self.without_groups()
        cells += tuple(dict.fromkeys(cell for group in self.groups for cell in group.with_profiles(cells, host)))
        names: dict[Cell, list[str]] = {cell: [] for cell in cells}
        for group in self.groups:
            for cell in group.members(cells, host):
                names[cell].append(group.name)
        return tuple(replace(cell, groups=tuple(those)) for cell, those in names.items())

    def without_groups(self) -> tuple[Cell, ...]:
        """Return every cell that is not excluded; to find out which groups they are in takes longer."""
        return tuple(cell for cell, verdict in self._judged if verdict is None)

    def possible_cells(self) -> Iterator[Cell]:
        """Yield every combination of rows, excluded or not, without groups.

        A Slurm is combined with the operating systems that its row names: no other ships it, or compiles it. A compiled
        one has no legacy cell, because the legacy container is made of packages.
        """
        for row in self.slurm:
            packages = row.slurm.source is SlurmSource.PACKAGES
            plain = [
                *([Runtime.LEGACY] if packages else []),
                *([Runtime.EMBEDDED] if row.version in self.embedded else []),
            ]
            systems = [system for system in self.systems if system.name in row.requires_os or not row.requires_os]
            for system, runtime, arch in product(systems, plain, self.arches):
                yield Cell(slurm=row.slurm, os=system, runtime=runtime, arch=arch, untried=_untried(row))
            for system, enroot, pyxis, arch in product(systems, self.enroot, self.pyxis, self.arches):
                yield Cell(
                    slurm=row.slurm,
                    os=system,
                    runtime=Runtime.NVIDIA,
                    enroot=enroot.version,
                    pyxis=pyxis.version,
                    arch=arch,
                    untried=_untried(row, enroot, pyxis),
                )

    @cached_property
    def _judged(self) -> tuple[tuple[Cell, Excluded | None], ...]:
        return tuple((cell, self._judge(cell)) for cell in self.possible_cells())

    def _judge(self, cell: Cell) -> Excluded | None:
        for row in (*self.slurm, *self.enroot, *self.pyxis):  # the first reason is told
            if cell.version(row.axis) == row.version and (reason := row.refuses(cell)):
                return Excluded(cell=cell, reason=reason, where=row.where)
        for exclusion in self.exclusions:  # only of what rows let pass
            if exclusion.selector.matches(cell):
                return Excluded(cell=cell, reason=exclusion.reason, issue=exclusion.issue, where=exclusion.where)
        return None

    def _nothing(self, what: str, host: Arch, left_out: list[Excluded]) -> SelectionError:
        reasons = dict.fromkeys(f"{out.cell.id} is excluded: {out.reason}" for out in left_out)
        if host not in self.arches:
            reasons[f"this machine is {host.value}, and arch lists only {', '.join(self.arches)}"] = None
        return SelectionError(what, where=str(self.path), why="; ".join(reasons), next_step=typed("cells --group full"))


def _untried(*rows: Row) -> tuple[str, ...]:
    return tuple(row.axis for row in rows if row.untried)
