"""Starts a cell, runs one job and takes it down, many times: ``nox -s soak -- --times 100 [CELL]``.

After each round it is looked for what it has left: containers, networks, volumes, names of images, processes, temporary
files, keys and ports. It stops at the first round that fails or leaves something
(``--keep-going``: at the end), with exit code 1. Ctrl-C ends it with what came so far.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
import os
from pathlib import Path
import sys
import tempfile

from ci import paths
from ci.engine.connection import connect
from ci.environment.plan import plan_environment
from ci.errors import typed
from ci.images.building import Builder, sources_of
from ci.matrix import loading
from ci.options import Options, Scope, add_to
from ci.options.values import whole
from ci.record import files, store
from ci.terminal import console
from tests.soak.rounds import Round, Rounds, summary
from tests.support.figures import busy, machine
from tests.support.program import CheckFailedError, cell_of, guarded, parser_of

NAME = "soak"


def main(words: Sequence[str] | None = None) -> int:
    """Make the rounds; return an exit code."""
    return guarded(lambda: _run(_parser().parse_args(words)), "what the soak asked of it")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(NAME, __doc__)
    parser.add_argument("cell", nargs="?", metavar="CELL", help="what (default: the embedded cell of the group smoke)")
    number = whole(1, None, "a number of rounds")
    parser.add_argument("--times", type=number, default=100, metavar="N", help="rounds (default: 100)")
    parser.add_argument("--keep-going", action="store_true", help="go on after a round that fails or leaves something")
    add_to(parser, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    matrix, engine, load = loading.load(), connect(), os.getloadavg()[0]
    cell = cell_of(arguments.cell, matrix)
    options = replace(Options.of(arguments), name=NAME)
    plan = plan_environment(cell, matrix, options)
    folder = paths.make_directory(options.folder(cell))
    if why := busy():
        console.warn(f"this machine is busy ({why}): only the seconds say little; what is left is seen all the same")
    with console.step(f"images of {cell.id}"):  # before the first round, whose seconds they would be
        Builder(engine, sources_of(options), logs=folder).build(plan.images)
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-soak-") as temporary:
        words = (*options.words(Scope.IMAGES, Scope.CLUSTER), "--results", str(folder / "rounds"))
        own = Path(temporary)
        rounds = Rounds(cell=cell.id, run=options.run, folder=folder, engine=engine, temporary=own, words=words)
        head = f"of {arguments.times} rounds on {cell.id} (run {options.run}, {store.utc_now():%Y-%m-%d})"
        on = f"{machine(engine)}; load {load:.2g} when it began"
        path, again = folder / "soak.json", arguments.keep_going
        return go(rounds.once, arguments.times, path, lambda made: summary(head, on, made), keep_going=again)


def go(
    once: Callable[[int], Round], times: int, path: Path, said: Callable[[Sequence[Round]], str], *, keep_going: bool
) -> int:
    """Make the rounds and say what came, also of those before an interruption.

    :param said: returns the summary.
    :raises CheckFailedError: if one failed or left something.
    """
    rounds: list[Round] = []
    try:
        while len(rounds) < times and (keep_going or all(each.good for each in rounds)):
            rounds.append(done := once(len(rounds) + 1))
            files.dump(path, {"rounds": rounds}, what="the rounds")
            took = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in done.seconds.items())
            (console.say if done.good else console.warn)(f"round {done.number} of {times}: {took}")
    finally:
        sys.stdout.write(said(rounds))
        sys.stdout.flush()
    if not all(each.good for each in rounds):
        why = "the summary above names the rounds; what failing ones wrote is beside that file"
        remedy = f"{typed('down RUN')} removes what a run left"
        raise CheckFailedError("a round failed, or something is left", where=str(path), why=why, next_step=remedy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
