"""Where each cell stands in the grid: Slurm and OS down, enroot and Pyxis across, one table per architecture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from packaging.version import InvalidVersion, Version

from ci.matrix.cells import Runtime
from ci.report.compat import CellReport, Compat, Gap

TITLES = {
    Runtime.NVIDIA.value: ("Real enroot and Pyxis", ""),
    Runtime.EMBEDDED.value: ("Embedded runtime", "not a compatibility verdict"),
    Runtime.LEGACY.value: ("Legacy, plain Slurm", "no containers"),
}
"""The title of each runtime's cells, and the remark that they are not counted by; in the order of the report."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place in the grid."""

    arch: str
    slurm: str
    os: str
    enroot: str = ""
    pyxis: str = ""

    @classmethod
    def of(cls, cell: CellReport) -> "Position":
        """Return a cell's place."""
        axis = {name: value or "" for name, value in cell.axes.items()}
        return cls(
            arch=cell.arch or axis.get("arch", ""),
            slurm=axis.get("slurm", "") or cell.id,  # a result that says nothing of its axes has a row of its own
            os=cell.os,
            enroot=axis.get("enroot", ""),
            pyxis=axis.get("pyxis", ""),
        )

    @classmethod
    def of_gap(cls, gap: Gap) -> "Position":
        """Return the place of a gap."""
        return cls(arch=gap.arch, slurm=gap.slurm, os=gap.os, enroot=gap.enroot, pyxis=gap.pyxis)

    @property
    def has_candidate(self) -> bool:
        """Whether something unreleased stands there: only its version has a local segment."""
        return any("+" in version for version in (self.slurm, self.enroot, self.pyxis))

    @property
    def row(self) -> tuple[str, str]:
        """The row's head."""
        return self.slurm, self.os

    @property
    def column(self) -> tuple[str, str]:
        """The column's head."""
        return self.enroot, self.pyxis


@dataclass(frozen=True, kw_only=True)
class Box:
    """A place in the grid with what is there: a cell (or, of results that contradict each other, several), or a gap."""

    cells: tuple[CellReport, ...] = ()
    gap: Gap | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the grid."""

    slurm: str
    os: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The cells of one runtime; of real ones, those of one architecture."""

    runtime: str
    title: str
    remark: str
    arch: str
    """Empty where the columns are architectures."""
    columns: tuple[tuple[str, str], ...]
    """enroot and Pyxis; or the architecture and nothing."""
    groups: tuple[tuple[str, int], ...]
    """Each enroot, and how many columns it has; empty where the columns are architectures."""
    rows: tuple[Row, ...]
    cells: int = field(default=0)


def tables(compat: Compat) -> list[Table]:
    """Return the grid's tables: those of real cells first."""
    found = []
    cells: dict[tuple[str, Position], list[CellReport]] = {}
    for cell in compat.cells:
        cells.setdefault((cell.runtime, Position.of(cell)), []).append(cell)
    gaps = {(gap.runtime, Position.of_gap(gap)): gap for gap in compat.gaps}
    for runtime in runtimes(compat.cells, compat.gaps):
        title, remark = TITLES.get(runtime, (runtime, "unknown runtime, not counted"))
        for it in layouts(runtime, [place for of, place in (*cells, *gaps) if of == runtime]):
            boxes = {place: cells.get((runtime, place), []) for place in it.places()}
            found.append(
                Table(
                    runtime=runtime,
                    title=title,
                    remark=remark,
                    arch=it.arch,
                    columns=it.columns,
                    groups=it.groups,
                    rows=tuple(
                        Row(
                            slurm=row[0],
                            os=row[1],
                            boxes=tuple(
                                Box(cells=tuple(boxes[place]), gap=gaps.get((runtime, place)))
                                for place in (it.place(row, column) for column in it.columns)
                            ),
                        )
                        for row in it.rows
                    ),
                    cells=sum(map(len, boxes.values())),
                )
            )
    return found


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The heads of a table."""

    arch: str
    """Empty where the columns are architectures."""
    rows: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Each enroot, and how many columns it has; empty where the columns are architectures."""
        if not self.arch:
            return ()
        return tuple((name, len(list(of))) for name, of in groupby(self.columns, key=lambda it: it[0]))

    def place(self, row: tuple[str, str], column: tuple[str, str]) -> Position:
        """Return the place at which a row and a column meet."""
        if not self.arch:
            return Position(arch=column[0], slurm=row[0], os=row[1])
        return Position(arch=self.arch, slurm=row[0], os=row[1], enroot=column[0], pyxis=column[1])

    def places(self) -> Iterator[Position]:
        """Yield all places."""
        return (self.place(row, column) for row in self.rows for column in self.columns)


def layouts(runtime: str, places: Sequence[Position]) -> list[Layout]:
    """Return the tables that a runtime's places need: one per architecture where there is enroot and Pyxis to show."""
    if runtime != Runtime.NVIDIA:
        arches = sorted({place.arch for place in places})
        return [Layout(arch="", rows=_rows(places), columns=tuple((arch, "") for arch in arches))]
    found = []
    for arch in sorted({place.arch for place in places}):
        own = [place for place in places if place.arch == arch]
        columns = sorted({it.column for it in own}, key=lambda column: (natural(column[0]), natural(column[1])))
        found.append(Layout(arch=arch, rows=_rows(own), columns=tuple(columns)))
    return found


def runtimes(cells: Sequence[CellReport], gaps: Sequence[Gap] = ()) -> list[str]:
    """Return the runtimes that occur, real ones first."""
    occurring = {cell.runtime for cell in cells} | {gap.runtime for gap in gaps}
    return [runtime for runtime in (*TITLES, *sorted(occurring - TITLES.keys())) if runtime in occurring]


def natural(version: str) -> tuple[int, Version | str]:
    """Return the key that sorts versions as versions, and other text behind them."""
    try:
        return 0, Version(version)
    except InvalidVersion:
        return 1, version


def _rows(places: Sequence[Position]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({it.row for it in places}, key=lambda row: (natural(row[0]), row[1])))
