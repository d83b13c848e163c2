"""Where each cell stands in the grid: Slurm and OS down, enroot and Pyxis across, one table per architecture."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from packaging.version import Version

from ci.matrix.cells import Runtime, read_version
from ci.report.model import UNRELEASED, CellReport, Compat, Gap, Location, kind, parts_of
from ci.report.words import RUNTIMES, kind_in_words

GridPlace = tuple[str, Location]
"""A kind of cells (`model.kind`), and a place in its tables."""


@dataclass(kw_only=True)
class Box:
    """A place in the grid with what is there: a cell (or, of results that contradict each other, several), or a gap."""

    cells: list[CellReport] = field(default_factory=list)
    gap: Gap | None = None


@dataclass(frozen=True, kw_only=True)
class GridTable:
    """The cells of one kind; of real ones, those of one architecture."""

    kind: str
    arch: str
    """Empty where the columns are architectures."""
    heads: Sequence[tuple[str, str]]
    """Of its rows: Slurm and the OS."""
    columns: Sequence[tuple[str, str]]
    """enroot and Pyxis; or the architecture and nothing."""
    boxes: Mapping[GridPlace, Box] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What its cells are."""
        return kind_in_words(self.kind).title

    @property
    def remark(self) -> str:
        """Why its cells are not counted with real ones; empty for these."""
        return kind_in_words(self.kind).remark

    @property
    def runtime(self) -> str:
        """What runs the containers of its cells."""
        return parts_of(self.kind)[0]

    @property
    def groups(self) -> Sequence[tuple[str, int]]:
        """Each enroot, and how many columns it has; empty where the columns are architectures."""
        enroots = groupby(enroot for enroot, _ in self.columns)
        return [(name, len(list(columns))) for name, columns in enroots] if self.arch else []

    @property
    def rows(self) -> Sequence[tuple[str, str, Sequence[Box]]]:
        """Slurm, the OS, and the boxes of each row."""
        return [
            (*head, [self.boxes.get((self.kind, self._place(head, column)), Box()) for column in self.columns])
            for head in self.heads
        ]

    @property
    def cells(self) -> int:
        """How many cells it has."""
        return sum(len(box.cells) for _, _, boxes in self.rows for box in boxes)

    def places(self) -> Iterator[GridPlace]:
        """Yield all places; a combination of releases has none among cells with candidates."""
        every = (self._place(head, column) for head in self.heads for column in self.columns)
        apart = parts_of(self.kind)[1]
        # Rows and columns of candidates meet at places that have none: these are in the other table.
        return ((self.kind, place) for place in every if kind(self.runtime, place, apart) == self.kind)

    def _place(self, head: tuple[str, str], column: tuple[str, str]) -> Location:
        # Of cells without enroot and Pyxis, a column is an architecture.
        return Location(self.arch, *head, *column) if self.arch else Location(column[0], *head, "", "")


def tables(compat: Compat) -> list[GridTable]:
    """Return the grid's tables: those of real cells first."""
    boxes: dict[GridPlace, Box] = {}
    for cell in compat.cells:
        boxes.setdefault((cell.kind, Location.of(cell)), Box()).cells.append(cell)
    for gap in compat.gaps:
        boxes.setdefault((gap.kind, gap.place), Box()).gap = gap
    return layout(boxes)


def layout(boxes: Mapping[GridPlace, Box]) -> list[GridTable]:
    """Return the tables that places need: one per architecture where there is enroot and Pyxis to show."""
    found = []
    for which in kinds_in_order(which for which, _ in boxes):
        places = [place for kind_there, place in boxes if kind_there == which]
        arches = sorted({place.arch for place in places})
        # Cells without enroot and Pyxis fit one table, in which the columns are architectures.
        for arch in arches if parts_of(which)[0] == Runtime.NVIDIA else [""]:
            own = [place for place in places if arch in {"", place.arch}]
            heads = sorted({(place.slurm, place.os) for place in own}, key=lambda head: (natural(head[0]), head[1]))
            columns = {(place.enroot, place.pyxis) for place in own} if arch else {(arch, "") for arch in arches}
            across = sorted(columns, key=lambda column: (natural(column[0]), natural(column[1])))
            found.append(GridTable(kind=which, arch=arch, heads=heads, columns=across, boxes=boxes))
    return found


def kinds_in_order(kinds: Iterable[str]) -> list[str]:
    """Return kinds of cells, each once: real ones first, then what is not released; then profiles, then sites."""
    # "" is the place of runtimes that this version does not know.
    known = [*RUNTIMES, "", *(f"{runtime}{UNRELEASED}" for runtime in RUNTIMES)]

    def place(name: str) -> tuple[str, int, str]:
        _, apart = parts_of(name)
        plain = name.removesuffix(f", {apart}")
        return apart, known.index(plain if plain in known else ""), name

    return sorted(set(kinds), key=place)


def natural(version: str) -> tuple[int, Version | str]:
    """Return the key that sorts versions as versions, and other text after them."""
    parsed = read_version(version)
    # The number keeps a version from being compared with a text, which raises TypeError.
    return (0, parsed) if parsed else (1, version)
