"""Measures two ways to the same end side by side: ``nox -s bench [-- NAME …] [--cell CELL] [--times N]``.

What counts is the ratio, which another machine has as well; seconds are only for context. The two sides take turns.
On a machine that is busy nothing is measured, for such figures are none. Calls with the same ``--run`` fill one table.
Exit code 1 says that a goal was missed or that a side failed.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
import difflib
import os
from pathlib import Path
import sys

from ci import paths
from ci.engine.connection import connect
from ci.errors import NotRunError, SelectionError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.matrix.suites import SUITES, Suite, suite
from ci.options import Options, Scope, add_to
from ci.options.values import whole
from ci.record import store
from ci.terminal import console
from tests.bench import keeping
from tests.bench.comparisons import COMPARISONS
from tests.bench.keeping import Figures
from tests.bench.measuring import Bench, Comparison, Row, measure
from tests.support import pages
from tests.support.figures import load_is_high, machine
from tests.support.program import guarded, usual_cell

NAME = "bench"
_VARIANTS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the comparisons; return an exit code."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), "what a comparison asked of it")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s bench --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="comparisons (default: all that fit the cell)")
    parser.add_argument("--list", action="store_true", help="print the comparisons")
    parser.add_argument("--cell", metavar="CELL", help="where (default: the embedded cell of the group smoke)")
    turns = whole(1, None, "a number of turns")
    parser.add_argument("--times", type=turns, metavar="N", help="turns (default: each comparison's own)")
    variants = whole(2, None, "2 or more")
    parser.add_argument(
        "--variants", type=variants, default=_VARIANTS, metavar="K", help=f"for layers (default: {_VARIANTS})"
    )
    parser.add_argument(
        "--suite", action="append", default=[], metavar="SUITE", help="for comparisons of suites (repeatable)"
    )
    parser.add_argument("--write", action="store_true", help=f"put the table into {pages.PERFORMANCE.name}")
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine as well; goes without --write")
    add_to(parser, Scope.IMAGES, Scope.RESULT)
    return parser


def _run(asked: argparse.Namespace) -> int:
    chosen = select(asked.names)
    if asked.list:
        sys.stdout.write("".join(f"{it.name}: {it.ours}; against: {it.other} (≤ {it.goal:g})\n" for it in chosen))
        return 0
    check_load(os.getloadavg()[0], os.cpu_count() or 1, busy=asked.busy, write=asked.write)
    matrix = loading.load()
    cell = matrix.cell(asked.cell, Arch.host()) if asked.cell else usual_cell(matrix)
    suites = suites_of(cell, matrix, asked.suite)
    if unfit := [f"{it.name}: {why}" for it in chosen if asked.names and (why := it.unfit(cell))]:
        raise SelectionError(f"not on {cell.id}: {'; '.join(unfit)}", next_step="nox -s bench -- --list")
    options = replace(Options.of(asked), name=NAME)
    engine = connect()
    folder = paths.make_directory(options.folder(cell))
    bench = Bench(
        engine=engine,
        matrix=matrix,
        cell=cell,
        options=options,
        folder=folder,
        variants=asked.variants,
        suites=suites,
    )
    path = options.results / options.run / "bench.json"
    figures = Figures(
        run=options.run, machine=machine(engine), date=f"{store.utc_now():%Y-%m-%d}", rows=keeping.load(path)
    )
    return go(chosen, bench, Table(figures, path), times=asked.times, write=asked.write)


@dataclass
class Table:
    """The figures so far, and their file."""

    figures: Figures
    path: Path

    def put(self, row: Row) -> None:
        """Keep a row, in the file as well, so that an interruption costs only what it met."""
        rows: Mapping[str, Row] = {**self.figures.rows, row.name: row}
        self.figures = replace(self.figures, rows=rows)
        keeping.save(self.path, self.figures)

    def __str__(self) -> str:
        """Return the table."""
        return keeping.text(self.figures, COMPARISONS)


def go(chosen: Sequence[Comparison], bench: Bench, table: Table, *, times: int | None, write: bool) -> int:
    """Make comparisons and show the table, after an interruption as well; return an exit code."""
    made: list[tuple[Comparison, Row]] = []
    try:
        for it in chosen:
            if why := it.unfit(bench.cell):
                if it.name not in table.figures.rows:
                    table.put(Row(name=it.name, cell=bench.cell.id, why_not=why))
                continue
            with console.step(f"{it.name}: {it.ours}; against: {it.other}"):
                row = measure(it, bench, times=times or it.times, load=os.getloadavg()[0], told=table.put)
            table.put(row)
            made.append((it, row))
            if row.why_not:
                console.warn(f"{it.name}: {row.why_not}")
    finally:
        sys.stdout.write(str(table))
        sys.stdout.flush()
    if write:
        pages.put(NAME, str(table))
    return 0 if all(row.met(it.goal) for it, row in made) else 1


def select(names: Sequence[str]) -> tuple[Comparison, ...]:
    """Return the comparisons of these names; all where none is named."""
    known = {it.name: it for it in COMPARISONS}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise SelectionError(
                f"there is no comparison {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
                why=f"there are: {', '.join(known)}",
                next_step="nox -s bench -- --list",
            )
    return tuple(it for it in COMPARISONS if not names or it.name in names)


def suites_of(cell: Cell, matrix: Matrix, names: Sequence[str]) -> tuple[Suite, ...]:
    """Return the suites for comparisons of suites: those that a group runs on such a cell, or those named."""
    wanted = [suite(name) for name in names] or [it for it in SUITES.values() if it.default]
    fitting = tuple(it for it in wanted if not it.unfit(cell, matrix.subject))
    if len(fitting) < len(wanted) and names:
        why = "; ".join(f"{it.name}: {it.unfit(cell, matrix.subject)}" for it in wanted if it not in fitting)
        raise SelectionError(f"a suite does not fit {cell.id}", why=why)
    return fitting


def check_load(load: float, cores: int, *, busy: bool, write: bool) -> None:
    """Refuse a busy machine, unless figures that are none are wanted all the same."""
    if busy and write:
        raise SelectionError(
            "--busy goes without --write",
            why="figures of a busy machine are none, and the page is for those that are",
        )
    if not load_is_high(load, cores):
        return
    if not busy:
        raise NotRunError(
            "this machine is busy, and what is measured on it says nothing",
            why=f"its load is {load:.1f}, and it has {cores} cores",
            next_step="wait until it has nothing else to do, or try with --busy what runs, whatever the figures",
        )
    console.warn(f"this machine is busy (load {load:.1f}, {cores} cores): these figures are none")


if __name__ == "__main__":
    sys.exit(main())
