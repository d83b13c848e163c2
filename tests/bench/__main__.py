"""Measures two ways to the same end side by side: ``nox -s bench [-- NAME …] [--cell CELL] [--times N]``.

What counts is the ratio, which another machine has as well; seconds are only for context. hyperfine runs the sides in
turns. On a machine that is busy nothing is measured, for such figures are none. Calls with the same ``--run`` fill one
table. Exit code 1 says that a goal was missed or that a side failed.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from ci.matrix.suites import SUITES
from ci.options import Options, Scope, add_to
from ci.options.values import whole
from ci.record import store
from ci.terminal import console
from tests.bench.table import Comparison, comparisons, load, text
from tests.support.figures import busy, machine
from tests.support.program import cell_of, guarded, parser_of

NAME = "bench"
_VARIANTS = 6
"""Cells that are built in comparisons of images."""


def main(words: Sequence[str] | None = None) -> int:
    """Make the comparisons; return an exit code."""
    return guarded(lambda: _run(_parser().parse_args(words)), "what a comparison asked of it")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(NAME, __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="comparisons (default: all that fit)")
    parser.add_argument("--cell", metavar="CELL", help="where (default: the embedded cell of the group smoke)")
    turns = whole(1, None, "a number of turns")
    parser.add_argument("--times", type=turns, metavar="N", help="turns (default: each comparison's own)")
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine, too")
    add_to(parser, Scope.IMAGES, Scope.RESULT)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    chosen = select(arguments.names)
    if why := busy():
        wait = "wait until it has nothing else to do, or try with --busy what runs, whatever the figures"
        if not arguments.busy:
            raise NotRunError("this machine is busy, and figures of it say nothing", why=why, next_step=wait)
        console.warn(f"this machine is busy, and figures of it say nothing ({why})")
    if not shutil.which("hyperfine"):
        raise NotRunError("hyperfine was not found", next_step="apt-get install hyperfine")
    matrix = loading.load()
    cell = cell_of(arguments.cell, matrix)
    unfit = {comparison.name: why for comparison in chosen if (why := comparison.unfit(cell))}
    if unfit and arguments.names:
        raise SelectionError(f"{' and '.join(unfit)} cannot be made on {cell.id}", why="; ".join(unfit.values()))
    options = replace(Options.of(arguments), name=NAME)
    paths.make_directory(options.folder(cell))
    head = f"Run {options.run}, {store.utc_now():%Y-%m-%d}, on {machine(connect())}."
    fitting = [comparison for comparison in chosen if comparison.name not in unfit]
    return go(fitting, head, variables(cell, matrix, options), times=arguments.times)


def select(names: Sequence[str]) -> tuple[Comparison, ...]:
    """Return the comparisons of these names, and what is measured with them; all where none is named."""
    known = [comparison.name for comparison in comparisons()]
    if unknown := [name for name in names if name not in known]:
        raise SelectionError(f"there is no comparison {unknown[0]!r}; there are {', '.join(known)}")
    chosen = set(names or known)
    return tuple(comparison for comparison in comparisons() if {comparison.name, comparison.measured_with} & chosen)


def variables(cell: Cell, matrix: Matrix, options: Options) -> dict[str, str]:
    """Return what the commands of comparisons find in their environment."""
    python = shlex.quote(sys.executable)
    # Those that a group runs on such a cell.
    suites = [suite for suite in SUITES.values() if suite.default and not suite.unfit(cell, matrix.subject)]
    alike = [(each, (each.runtime, each.os, each.arch)) for each in matrix.cells("full", Arch.host())]
    like = [each for each, kind in alike if kind == (cell.runtime, cell.os, cell.arch)]
    like = [each for each in like if not sources.missing(each, sources_of(options))]
    same = [cell, *(other for other in like if other.slurm == cell.slurm and other != cell)]
    others = {other.slurm: other for other in reversed(like) if other.slurm != cell.slurm}
    compiled = [other for other in others.values() if other.slurm.source is SlurmSource.ARCHIVE]
    folder, run = str(options.folder(cell)), f"{options.run}-{NAME}"
    return {
        "PYTHON": python,
        "CI": f"{python} -m ci",
        "SIDES": f"{python} -m tests.bench.sides",
        "CELL": cell.id,
        "SECOND": next((other.id for other in others.values()), ""),
        "VARIANT_CELLS": _enough(same),
        "COMPILED_CELLS": _enough(compiled),
        "OPTIONS": shlex.join(options.words(Scope.IMAGES, Scope.CLUSTER)),
        "RUN": run,
        "FOLDER": folder,
        "OWN": shlex.join(["--run", run, "--results", folder]),
        "SUITE": suites[0].name,
        "SUITE_WORDS": " ".join(f"--suite {suite.name}" for suite in suites),
        "SUITES": " ".join(f"{suite.name}:{suite.workers}" for suite in suites),
        "CONFORMANCE": shlex.join(SUITES["pyxis_conformance"].words()),
        environment_file.VARIABLE: str(launching.state_dir(run, cell.id) / launching.ENVIRONMENT_FILE),
    }


def _enough(cells: Sequence[Cell]) -> str:
    """Return the ids of so many; none if there are not so many whose release files are to be had."""
    return " ".join(cell.id for cell in cells[:_VARIANTS]) if len(cells) >= _VARIANTS else ""


def go(fitting: Sequence[Comparison], head: str, given: Mapping[str, str], *, times: int | None) -> int:
    """Make comparisons and show the run's table, after an interruption as well; return an exit code."""
    run = Path(given["FOLDER"]).parents[1]
    load(run)  # an invalid file is refused before anything is measured
    try:
        for comparison in fitting:
            if not comparison.measured_with:
                with console.step(comparison.name):
                    measure(comparison, given, times=times or comparison.times)
    finally:
        figures = load(run)
        sys.stdout.write(text(head, figures))
        sys.stdout.flush()
    return 0 if all(each.name in figures and figures[each.name].met(each.goal) for each in fitting) else 1


def measure(comparison: Comparison, given: Mapping[str, str], *, times: int) -> None:
    """Have hyperfine make a comparison; its file has each turn as soon as that has ended."""
    folder, name = Path(given["FOLDER"]), comparison.name
    measured = [name, *(other.name for other in comparisons() if other.measured_with == name)]
    files = [folder / f"{each}.json" for each in measured]

    def call(*words: str) -> None:
        log, environment = folder / f"{name}.log", {**os.environ, **given}
        done = console.call(words, cwd=paths.REPOSITORY, env=environment, log=log, grace=60.0)
        done.check(LaunchError, f"a command of {name} failed")

    for file in files:
        file.unlink(missing_ok=True)
    try:
        call("bash", "-c", comparison.setup)
        call(*comparison.hyperfine(times, folder / f"{name}.json"))
    except PyxisMatrixError as error:
        # What fails now and then is no way to the same end: the turns before do not count either.
        console.warn(f"{name}: {error}")
        for file in files:
            file.write_text(json.dumps({"results": [], "failed": f"failed: {error}"}), encoding="utf-8")
    finally:
        call("bash", "-c", comparison.cleanup)


if __name__ == "__main__":
    sys.exit(main())
