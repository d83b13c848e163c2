"""Starts a cell, runs one job and takes it down, many times: ``nox -s soak -- --times 100 [CELL]``.

After each round it is looked for what was not there before: containers, networks, volumes, images, mounts, network
interfaces, processes, temporary files, keys and ports. It stops at the first round that fails or leaves something
(``--keep-going``: at the end), with exit code 53. Ctrl-C ends it with what came so far.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
import os
from pathlib import Path
import sys
import tempfile

from ci import paths
from ci.engine.connection import connect
from ci.environment.plan import plan_environment
from ci.errors import SoakError, typed
from ci.images.building import Builder, sources_of
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.options import Options, Scope, add_to
from ci.options.values import whole
from ci.record import store
from ci.terminal import console
from tests.soak.leaks import Lookout
from tests.soak.rounds import Rounds, Soak
from tests.support import pages
from tests.support.figures import load_is_high, machine
from tests.support.program import guarded, usual_cell

NAME = "soak"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the rounds; return an exit code."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), "what the soak asked of it")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s soak --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cell", nargs="?", metavar="CELL", help="what (default: the embedded cell of the group smoke)")
    number = whole(1, None, "a number of rounds")
    parser.add_argument("--times", type=number, default=100, metavar="N", help="rounds (default: 100)")
    parser.add_argument("--keep-going", action="store_true", help="go on after a round that fails or leaves something")
    parser.add_argument("--write", action="store_true", help=f"put what came into {pages.PERFORMANCE.name}")
    add_to(parser, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)
    return parser


def _run(asked: argparse.Namespace) -> int:
    matrix = loading.load()
    cell = matrix.cell(asked.cell, Arch.host()) if asked.cell else usual_cell(matrix)
    options = replace(Options.of(asked), name=NAME)
    plan = plan_environment(cell, matrix, options)
    engine = connect()
    folder = paths.make_directory(options.folder(cell))
    load = os.getloadavg()[0]
    if load_is_high(load, os.cpu_count() or 1):
        console.warn(
            f"this machine is busy (load {load:.1f}): the seconds say little; what is left is seen all the same"
        )
    with console.step(f"images of {cell.id}"):  # before the first round, whose seconds they would be
        Builder(engine, sources_of(options), logs=folder).build(plan.images)
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-soak-") as temporary:
        lookout = Lookout(engine=engine, run=f"{options.run}-", temporary=Path(temporary))
        rounds = Rounds(
            cell=cell.id,
            run=options.run,
            folder=folder,
            lookout=lookout,
            words=(*options.words(Scope.IMAGES, Scope.CLUSTER), "--results", str(folder / "rounds")),
        )
        soak = Soak(
            cell=cell.id,
            run=options.run,
            asked=asked.times,
            machine=machine(engine),
            started=f"{store.utc_now():%Y-%m-%d}",
            load=round(load, 2),
            engine_files=lookout.engine_files(),
        )
        return go(rounds, soak, folder / "soak.json", keep_going=asked.keep_going, write=asked.write)


def go(rounds: Rounds, soak: Soak, path: Path, *, keep_going: bool, write: bool) -> int:
    """Make the rounds and say what came, also of those before an interruption.

    :raises SoakError: if one failed or left something.
    """
    try:
        for made in rounds.make(soak.asked):
            soak = replace(soak, rounds=(*soak.rounds, made))
            soak.save(path)
            took = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in made.seconds.items())
            (console.say if made.good else console.warn)(f"round {made.number} of {soak.asked}: {took}")
            if not (made.good or keep_going):
                break
    finally:
        sys.stdout.write(soak.summary())
        sys.stdout.flush()
    if write:
        pages.put(NAME, soak.summary())
    if not soak.good:
        raise SoakError(
            "a round failed, or something is left",
            where=str(path),
            why="the summary above names the rounds; what failing ones wrote is beside that file",
            next_step=f"{typed('down RUN')} removes what a run left",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
