"""Comparisons of how suites are run: workers, cells side by side, several suites in one environment."""

from collections.abc import Iterator
import os
from pathlib import Path
import sys

from ci import paths
from ci.artefacts import sources
from ci.errors import NotRunError, PyxisMatrixError
from ci.images.building import sources_of
from ci.matrix.arch import Arch
from ci.matrix.suites import SUITES
from ci.options import Scope
from ci.session import running
from ci.session.handover import additions
from ci.terminal import console
from tests.bench.measuring import Bench, Sides, comparison

_CONFORMANCE = SUITES["pyxis_conformance"]


@comparison(
    "workers",
    goal=0.4,
    ours="`pyxis_conformance` with `-n 4`, in an environment that is up",
    other="the same with `-n 0`",
    times=1,
)
def workers(bench: Bench) -> Iterator[Sides]:
    """Compare tests side by side against one cluster with tests one by one."""
    with running.opened(bench.plan()) as launched:
        environment = {**os.environ, **additions(launched, os.environ)}

        def suite(count: int) -> float:
            words = [sys.executable, "-m", "pytest", *_CONFORMANCE.words(), "-n", str(count), "-q"]
            return _seconds(words, environment, bench.folder / f"workers-{count}.log")

        yield Sides(ours=lambda: suite(4), other=lambda: suite(0))


@comparison(
    "side-by-side",
    goal=0.7,
    ours="`matrix --jobs 2`: two cells, the first of the suites",
    other="the same with `--jobs 1`",
    times=1,
)
def side_by_side(bench: Bench) -> Iterator[Sides]:
    """Compare two cells at a time with one after the other."""
    where = sources_of(bench.options)
    same = [it for it in bench.matrix.cells("full", Arch.host()) if it.runtime is bench.cell.runtime]
    others = (it for it in same if it.slurm != bench.cell.slurm)
    second = next((it for it in others if not sources.missing(it, where)), None)
    if second is None:
        raise NotRunError(f"there are release files for no second cell like {bench.cell.id}")
    cells = (bench.cell, second)
    for each in cells:
        bench.images(each)
    names = [it.id for it in cells]
    suites = ["--suite", bench.suites[0].name]
    yield Sides(
        ours=lambda: _matrix(bench, "jobs-2", *names, *suites, "--jobs", "2"),
        other=lambda: _matrix(bench, "jobs-1", *names, *suites, "--jobs", "1"),
    )


@comparison(
    "one-environment",
    goal=0.75,
    ours="`matrix`: all suites on one cell, in one environment",
    other="the same suites with the same workers, each in a session and an environment of its own",
    times=1,
)
def one_environment(bench: Bench) -> Iterator[Sides]:
    """Compare one environment for all suites with one for each."""
    bench.images()
    wanted = [word for suite in bench.suites for word in ("--suite", suite.name)]
    yield Sides(
        ours=lambda: _matrix(bench, "together", bench.cell.id, *wanted),
        other=lambda: sum(_session(bench, suite.name) for suite in bench.suites),
    )


def _matrix(bench: Bench, name: str, *words: str) -> float:
    """Return the seconds of ``python -m ci matrix``."""
    own = ["--run", f"{bench.options.run}-{name}", "--results", str(bench.folder / "results")]
    given = bench.options.words(Scope.IMAGES, Scope.CLUSTER)
    command = [sys.executable, "-m", "ci", "matrix", *words, *given, *own, "--quiet"]
    return _seconds(command, dict(os.environ), bench.folder / f"{name}.log")


def _session(bench: Bench, name: str) -> float:
    """Return the seconds of what nox starts for one suite on one cell."""
    suite = SUITES[name]
    own = ["--run", f"{bench.options.run}-alone", "--results", str(bench.folder / "results")]
    given = bench.options.words(Scope.IMAGES, Scope.CLUSTER)
    run = [sys.executable, "-m", "ci", "suite", name, bench.cell.id, *given, *own]
    command = [*run, "--", "-n", str(suite.workers)]
    return _seconds(command, dict(os.environ), bench.folder / f"alone-{name}.log")


def _seconds(command: list[str], environment: dict[str, str], log: Path) -> float:
    """Return how long a command takes; tests that fail end before their time, so it has to succeed."""
    done = console.call(command, cwd=paths.REPOSITORY, env=environment, log=log, grace=60.0)
    return done.check(PyxisMatrixError, f"`{' '.join(command[2:5])}` failed").seconds
