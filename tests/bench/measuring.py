"""Comparisons: two ways to the same end, taken in turns in one run, so that what the machine does meets both."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
import statistics
import time

from ci.engine.connection import Engine
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.errors import PyxisMatrixError
from ci.images.building import Builder, BuiltCell, sources_of
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.matrix.suites import Suite
from ci.options import Options
from tests.support.figures import Spread, spread

_CONTAINERS = frozenset({Runtime.NVIDIA, Runtime.EMBEDDED})


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What comparisons are made with."""

    engine: Engine
    matrix: Matrix
    cell: Cell
    options: Options
    folder: Path
    """For logs and for what is made meanwhile."""
    variants: int
    suites: tuple[Suite, ...]
    """For comparisons of several suites."""

    def plan(self, cell: Cell | None = None) -> EnvironmentPlan:
        """Plan the environment of a cell; by default of the one that is measured."""
        return plan_environment(cell or self.cell, self.matrix, self.options)

    def builder(self) -> Builder:
        """Return what builds images, with its logs beside the figures."""
        return Builder(self.engine, sources_of(self.options), logs=self.folder / "images")

    def images(self, cell: Cell | None = None) -> BuiltCell:
        """Return the images of a cell; they are built before anything is measured."""
        return self.builder().build(self.plan(cell).images)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The two sides of a comparison; each goes its way once and returns the seconds that count."""

    ours: Callable[[], float]
    other: Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two ways to the same end."""

    name: str
    goal: float
    """The ratio of ours to the other is to be no greater."""
    ours: str
    other: str
    sides: Callable[[Bench], AbstractContextManager[Sides]]
    """What makes ready, and clears up in the end."""
    times: int = 3
    """Turns, where nobody asks for another number."""
    runtimes: frozenset[Runtime] = _CONTAINERS

    def unfit(self, cell: Cell) -> str:
        """Return why it can't be made on a cell; empty if it can."""
        if cell.runtime in self.runtimes:
            return ""
        return f"it needs a cell of the runtime {' or '.join(sorted(self.runtimes))} (--cell)"


def comparison(
    name: str,
    *,
    goal: float,
    ours: str,
    other: str,
    times: int = 3,
    runtimes: frozenset[Runtime] = _CONTAINERS,
) -> Callable[[Callable[[Bench], Iterator[Sides]]], Comparison]:
    """Return the decorator that makes a comparison of a function which yields its two sides."""

    def made(sides: Callable[[Bench], Iterator[Sides]]) -> Comparison:
        return Comparison(
            name=name, goal=goal, ours=ours, other=other, sides=contextmanager(sides), times=times, runtimes=runtimes
        )

    return made


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a comparison came to."""

    name: str
    cell: str = ""
    ours: tuple[float, ...] = ()
    """Seconds of each turn."""
    other: tuple[float, ...] = ()
    load: float = 0.0
    """The machine's load when it began."""
    why_not: str = ""
    """Why there are no figures."""

    @property
    def ratio(self) -> float | None:
        """The middle of ours through the middle of the other; None where nothing was measured."""
        if not (self.ours and self.other):
            return None
        return statistics.median(self.ours) / statistics.median(self.other)

    @property
    def ratios(self) -> Spread | None:
        """The spread of the ratios, turn by turn."""
        pairs = [mine / theirs for mine, theirs in zip(self.ours, self.other, strict=False)]
        return spread(pairs) if pairs else None

    def met(self, goal: float) -> bool | None:
        """Tell whether the goal is met; None where nothing was measured."""
        return None if self.ratio is None else self.ratio <= goal


def measure(
    it: Comparison, bench: Bench, *, times: int, load: float, told: Callable[[Row], None] = lambda _row: None
) -> Row:
    """Make a comparison, its sides in turns, the other first.

    :param told: is told the figures after each turn, so that an interruption loses none.
    """
    row = Row(name=it.name, cell=bench.cell.id, load=round(load, 2))
    try:
        with it.sides(bench) as sides:
            for _ in range(times):
                row = replace(row, other=(*row.other, round(sides.other(), 3)))
                row = replace(row, ours=(*row.ours, round(sides.ours(), 3)))
                told(row)
    except PyxisMatrixError as error:
        # What fails now and then is no way to the same end: the turns before do not count either.
        return Row(name=it.name, cell=bench.cell.id, load=row.load, why_not=f"failed: {error}")
    return row


def timed(act: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> float:
    """Return how many seconds something takes."""
    begin = clock()
    act()
    return clock() - begin
