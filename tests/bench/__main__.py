"""Measures two ways to the same end side by side: ``nox -s bench [-- NAME …] [--cell CELL] [--times N]``.

What counts is the ratio, which another machine has as well; seconds are only for context. The two sides take turns, by
hyperfine. On a machine that is busy nothing is measured, for such figures are none. Calls with the same ``--run`` fill
one table. Exit code 1 says that a goal was missed or that a side failed.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
import difflib
import json
import os
from pathlib import Path
import shlex
import shutil
import sys

from ci import environment_file, paths
from ci.artefacts import sources
from ci.engine.connection import connect
from ci.environment import launching
from ci.errors import LaunchError, NotRunError, PyxisMatrixError, SelectionError
from ci.images.building import sources_of
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, SlurmSource
from ci.matrix.model import Matrix
from ci.matrix.suites import SUITES, Suite, suite
from ci.options import Options, Scope, add_to
from ci.options.values import whole
from ci.record import store
from ci.terminal import console
from tests.bench.table import Comparison, Row, Table, comparisons, load
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
        "--variants", type=variants, default=_VARIANTS, metavar="K", help=f"cells that are built (default: {_VARIANTS})"
    )
    parser.add_argument(
        "--suite", action="append", default=[], metavar="SUITE", help="for comparisons of suites (repeatable)"
    )
    parser.add_argument("--write", action="store_true", help=f"put the table into {pages.PERFORMANCE.name}")
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine, too; not with --write")
    add_to(parser, Scope.IMAGES, Scope.RESULT)
    return parser


def _run(asked: argparse.Namespace) -> int:
    chosen = select(asked.names)
    if asked.list:
        sys.stdout.write("".join(f"{it.name}: {it.ours}; against: {it.other} (≤ {it.goal:g})\n" for it in chosen))
        return 0
    check_load(os.getloadavg()[0], os.cpu_count() or 1, busy=asked.busy, write=asked.write)
    if not shutil.which("hyperfine"):
        raise NotRunError("hyperfine was not found", next_step="apt-get install hyperfine")
    matrix = loading.load()
    cell = matrix.cell(asked.cell, Arch.host()) if asked.cell else usual_cell(matrix)
    if unfit := [f"{it.name}: {why}" for it in chosen if asked.names and (why := it.unfit(cell))]:
        raise SelectionError(f"not on {cell.id}: {'; '.join(unfit)}", next_step="nox -s bench -- --list")
    options = replace(Options.of(asked), name=NAME)
    path = options.results / options.run / "bench.json"
    date = f"{store.utc_now():%Y-%m-%d}"
    table = Table(run=options.run, machine=machine(connect()), date=date, path=path, rows=load(path))
    paths.make_directory(options.folder(cell))
    given = variables(cell, matrix, options, suites_of(cell, matrix, asked.suite), asked.variants)
    return go(chosen, cell, table, given, times=asked.times, write=asked.write)


def variables(cell: Cell, matrix: Matrix, options: Options, suites: Sequence[Suite], variants: int) -> dict[str, str]:
    """Return what the commands of comparisons find in their environment."""
    where, python = sources_of(options), shlex.quote(sys.executable)
    like = [it for it in matrix.cells("full", Arch.host()) if (it.runtime, it.os) == (cell.runtime, cell.os)]
    like = [it for it in like if it.arch is cell.arch and not sources.missing(it, where)]
    same = [cell, *(it for it in like if it.slurm == cell.slurm and it != cell)]
    others = {it.slurm: it for it in reversed(like) if it.slurm != cell.slurm}
    compiled = [it for it in others.values() if it.slurm.source is SlurmSource.ARCHIVE]
    folder, run = str(options.folder(cell)), f"{options.run}-{NAME}"
    return {
        "PYTHON": python,
        "CI": f"{python} -m ci",
        "SIDES": f"{python} -m tests.bench.sides",
        "PIP": f"{python} -m pip --disable-pip-version-check "
        f"--python {folder}/venv/bin/python install --requirement {folder}/wanted.txt --constraint {folder}/limits.txt",
        "CELL": cell.id,
        "SECOND": next((it.id for it in others.values()), ""),
        "VARIANT_CELLS": _enough(same, variants),
        "COMPILED_CELLS": _enough(compiled, variants),
        "OPTIONS": shlex.join(options.words(Scope.IMAGES, Scope.CLUSTER)),
        "RUN": run,
        "FOLDER": folder,
        "OWN": shlex.join(["--run", run, "--results", folder]),
        "SUITE": suites[0].name,
        "SUITE_WORDS": " ".join(f"--suite {it.name}" for it in suites),
        "SUITES": " ".join(f"{it.name}:{it.workers}" for it in suites),
        "CONFORMANCE": shlex.join(SUITES["pyxis_conformance"].words()),
        environment_file.VARIABLE: str(launching.state_dir(run, cell.id) / launching.ENVIRONMENT_FILE),
    }


def _enough(cells: Sequence[Cell], variants: int) -> str:
    """Return as many ids as are asked for; none if there are not so many whose release files are to be had."""
    return " ".join(it.id for it in cells[:variants]) if len(cells) >= variants else ""


def go(
    chosen: Sequence[Comparison], cell: Cell, table: Table, given: Mapping[str, str], *, times: int | None, write: bool
) -> int:
    """Make comparisons and show the table, after an interruption as well; return an exit code."""
    made: list[bool | None] = []
    try:
        for it in chosen:
            if why := it.unfit(cell):
                if it.name not in table.rows:
                    table.put(Row(name=it.name, cell=cell.id, why_not=why))
                continue
            with console.step(f"{it.name}: {it.ours}; against: {it.other}"):
                rows = measure(it, cell, table, given, times=times or it.times)
            made += [row.met(goal) for row, goal in zip(rows, (it.goal, it.part_goal), strict=False)]
    finally:
        sys.stdout.write(table.text(comparisons()))
        sys.stdout.flush()
    if write:
        pages.put(NAME, table.text(comparisons()))
    return 0 if all(made) else 1


def measure(it: Comparison, cell: Cell, table: Table, given: Mapping[str, str], *, times: int) -> list[Row]:
    """Make a comparison, its sides in turns, the other first; keep what came after each turn. Return its rows."""
    rows = [Row(name=name, cell=cell.id, load=round(os.getloadavg()[0], 2)) for name in (it.name, it.part) if name]
    try:
        _bash(it.setup, given, it.name)
        for _ in range(times):
            for side, command in (("other", it.other_command), ("ours", it.ours_command)):
                seconds = [_hyperfine(it, command, {**given, "SIDE": side})]
                seconds += [float(Path(given["FOLDER"], f"part-{side}").read_text())] if it.part else []
                rows = [row.plus(side, value) for row, value in zip(rows, seconds, strict=True)]
            for row in rows:
                table.put(row)
    except PyxisMatrixError as error:
        # What fails now and then is no way to the same end: the turns before do not count either.
        rows = [replace(row, ours=(), other=(), why_not=f"failed: {error}") for row in rows]
        console.warn(f"{it.name}: {error}")
        for row in rows:
            table.put(row)
    finally:
        _bash(it.cleanup, given, it.name)
    return rows


def _hyperfine(it: Comparison, command: str, given: Mapping[str, str]) -> float:
    """Return the seconds of one run of a command, which has to succeed."""
    file = Path(given["FOLDER"], "hyperfine.json")
    words = ["hyperfine", "--runs", "1", "--shell", "bash", "--show-output", "--export-json", str(file)]
    log = Path(given["FOLDER"], f"{it.name}.log")
    environment = {**os.environ, **given}
    done = console.call(
        [*words, "--prepare", it.prepare, command], cwd=paths.REPOSITORY, env=environment, log=log, grace=60.0
    )
    done.check(LaunchError, f"a side of {it.name} failed")
    return float(json.loads(file.read_text(encoding="utf-8"))["results"][0]["times"][0])


def _bash(command: str, given: Mapping[str, str], name: str) -> None:
    log = Path(given["FOLDER"], f"{name}.log")
    done = console.call(["bash", "-c", command], cwd=paths.REPOSITORY, env={**os.environ, **given}, log=log, grace=60.0)
    done.check(LaunchError, f"what {name} needs failed")


def select(names: Sequence[str]) -> tuple[Comparison, ...]:
    """Return the comparisons of these names; all where none is named."""
    known = {it.name: it for it in comparisons()}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise SelectionError(
                f"there is no comparison {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
                why=f"there are: {', '.join(known)}",
                next_step="nox -s bench -- --list",
            )
    return tuple(it for it in known.values() if not names or it.name in names)


def suites_of(cell: Cell, matrix: Matrix, names: Sequence[str]) -> tuple[Suite, ...]:
    """Return the suites for comparisons of suites: those that a group runs on such a cell, or those named."""
    wanted = [suite(name) for name in names] or [it for it in SUITES.values() if it.default]
    fitting = tuple(it for it in wanted if not it.unfit(cell, matrix.subject))
    if len(fitting) < len(wanted) and names:
        why = "; ".join(f"{it.name}: {it.unfit(cell, matrix.subject)}" for it in wanted if it not in fitting)
        raise SelectionError(f"a suite cannot be used with {cell.id}", why=why)
    return fitting


def check_load(load: float, cores: int, *, busy: bool, write: bool) -> None:
    """Refuse a busy machine, unless figures that are none are wanted all the same."""
    if busy and write:
        raise SelectionError(
            "--busy cannot be used with --write",
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
