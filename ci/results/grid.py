"""Where each cell stands in the grid: Slurm and OS down, enroot and Pyxis across, one table per architecture."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from packaging.version import InvalidVersion, Version

from ci.matrix.cells import Runtime
from ci.results.compat import CellReport, Compat, Gap

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
    gaps = {(gap.arch, gap.slurm, gap.os, gap.enroot, gap.pyxis): gap for gap in compat.gaps}
    for runtime, cells in by_runtime(compat.cells):
        title, remark = TITLES.get(runtime, (runtime, "unknown runtime, not counted"))
        if runtime != Runtime.NVIDIA:
            found.append(_small(runtime, title, remark, cells))
            continue
        for arch, of_arch in groupby(sorted(cells, key=_arch), key=_arch):
            members = list(of_arch)
            rows, columns = ranges(Position.of(cell) for cell in members)
            at: dict[Position, list[CellReport]] = {}
            for cell in members:
                at.setdefault(Position.of(cell), []).append(cell)
            found.append(
                Table(
                    runtime=runtime,
                    title=title,
                    remark=remark,
                    arch=arch,
                    columns=columns,
                    groups=tuple((name, len(list(of))) for name, of in groupby(columns, key=lambda it: it[0])),
                    rows=tuple(
                        Row(
                            slurm=slurm,
                            os=os,
                            boxes=tuple(
                                Box(
                                    cells=tuple(
                                        at.get(Position(arch=arch, slurm=slurm, os=os, enroot=it[0], pyxis=it[1]), ())
                                    ),
                                    gap=gaps.get((arch, slurm, os, *it)),
                                )
                                for it in columns
                            ),
                        )
                        for slurm, os in rows
                    ),
                    cells=len(members),
                )
            )
    return found


def by_runtime(cells: Sequence[CellReport]) -> list[tuple[str, list[CellReport]]]:
    """Return the cells per runtime, real ones first; a runtime without cells is left out."""
    known = [*TITLES, *sorted({cell.runtime for cell in cells} - TITLES.keys())]
    pairs = [(runtime, [cell for cell in cells if cell.runtime == runtime]) for runtime in known]
    return [(runtime, members) for runtime, members in pairs if members]


def ranges(positions: Iterable[Position]) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Return the heads of rows and of columns that occur, oldest first."""
    known = list(positions)
    rows = sorted({it.row for it in known}, key=lambda row: (natural(row[0]), row[1]))
    columns = sorted({it.column for it in known}, key=lambda column: (natural(column[0]), natural(column[1])))
    return tuple(rows), tuple(columns)


def natural(version: str) -> tuple[int, Version | str]:
    """Return the key that sorts versions as versions, and other text behind them."""
    try:
        return 0, Version(version)
    except InvalidVersion:
        return 1, version


def _small(runtime: str, title: str, remark: str, cells: Sequence[CellReport]) -> Table:
    arches = sorted({_arch(cell) for cell in cells})
    at: dict[tuple[tuple[str, str], str], list[CellReport]] = {}
    for cell in cells:
        at.setdefault((Position.of(cell).row, _arch(cell)), []).append(cell)
    rows, _ = ranges(Position.of(cell) for cell in cells)
    return Table(
        runtime=runtime,
        title=title,
        remark=remark,
        arch="",
        columns=tuple((arch, "") for arch in arches),
        groups=(),
        rows=tuple(
            Row(
                slurm=row[0],
                os=row[1],
                boxes=tuple(
                    Box(
                        cells=tuple(at.get((row, arch), ())),
                        gap=None
                        if (row, arch) in at
                        else Gap(
                            arch=arch, slurm=row[0], os=row[1], enroot="", pyxis="", reason="no result of it here"
                        ),
                    )
                    for arch in arches
                ),
            )
            for row in rows
        ),
        cells=len(cells),
    )


def _arch(cell: CellReport) -> str:
    return Position.of(cell).arch
