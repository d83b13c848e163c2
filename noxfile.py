"""Sessions of pyxis-matrix. nox -s "pyxis_basic(CELL)" runs a suite on one cell; with -- --help it prints its options.

The list has the cells of the default group. nox -s ci -- cells --group full prints the ids of all cells; any of them
can stand in the brackets. nox -t GROUP -s SUITE takes the cells of a group.
"""
# Here cells are listed, virtual environments made, and `python -m ci` started: it reads what stands behind --.

from collections.abc import Callable, Iterable, Mapping, Sequence
import os
from pathlib import Path
import sys
import tempfile

import nox

# Plain `nox` does not put this folder on sys.path.
sys.path.insert(0, str(Path(__file__).parent))

from ci import paths
from ci.errors import PyxisMatrixError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.mentioned import mentioned, selected
from ci.matrix.suites import OWN, SUITES
from ci.options import packages
from ci.options.packages import RUN_SUITES, SUITES_NEED
from ci.terminal import signals

# Tags per parameter, default=False and interrupt_timeout; ci/machine/venv.py installs the same.
nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "none"  # nox' own are one per cell and suite; see `venv_with`

# Seconds that what is started has for its end after Ctrl-C: it may have to take environments down, those of a group all
# at the same time (ci/group/children.py). nox' own limits are 0.3 s and 0.2 s.
PATIENCE = 180.0
BROWSER = (*SUITES_NEED, "browser")
DEVELOPMENT = (*SUITES_NEED, "lint")
CODE = ("ci", "tests", "noxfile.py")
CI_FILES = (  # by the schema that comes with check-jsonschema
    ("vendor.github-workflows", *map(str, sorted(Path(".github/workflows").glob("*.yml")))),
    ("vendor.github-actions", *map(str, sorted(Path(".github/actions").glob("*/action.yml")))),
    ("vendor.dependabot", ".github/dependabot.yml"),
    ("vendor.gitlab-ci", "ci/gitlab-ci.yml"),
)
# By the session's name, what `nox -l` says, and where the tests are.
OWN_TESTS = {
    "component": ("Run the component tests: real programs and a real engine, no real enroot and Pyxis.", "component"),
    "page": ("Test the page of a report in a real browser (Chromium; `apt-get install chromium`).", "browser"),
}
# By the session's name, what `nox -l` says. Each starts `python -m tests.NAME`.
PROGRAMS = {
    "scale": "Measure how the report grows, with synthetic results (`-- 50 500 5000`; --without-browser).",
    "mutations": "Break product and cluster on purpose, and show which suite turns red (`-- CELL`, `-- --only NAME`).",
    "attacks": "Try to make results say more than was seen (`-- --without-cell`, `-- --only NAME`).",
    "bench": "Measure two ways to the same end, side by side, and print their ratios (`-- NAME`).",
    "soak": "Start a cell, run one job and take it down, many times; look for what is left (`-- --times 100 CELL`).",
    "picture": "Draw what a command prints on a terminal (`-- docs/terminal.svg -- report RUN`).",
    "machine": "Boot a whole Debian machine (systemd, cgroup v2) under qemu; the main job in it (`-- --os debian13`).",
}
# Likewise; each starts `python -m ci NAME`.
COMMANDS = {
    "images": "Build the images of a group or of cells (`-- --group edges`, `-- CELL`).",
    "matrix": "Run suites on all cells of a group, several at a time (`-- --group edges --jobs 2`).",
    "bisect": "Find where an answer changes (`-- --axis pyxis --good OLD --bad NEW --cell CELL -- SUITE -k TEST`).",
    "plan": "Plan the jobs of a fleet of machines (`-- --group edges --shards 6 --format github`).",
    "pins": "Write upstream's checksums into containers/pins.toml.",
    "report": "Merge results of runs, shards and machines into one report (`-- results/RUN OTHER`; default: all).",
    "compare": "Say what changes between cells or versions (`-- CELL_A CELL_B`, `-- --from slurm=24.11.7 --to …`).",
    "ask": "Say whether a combination works (`-- --slurm 25.05.8 --enroot 3.4.1 --pyxis 0.21.0`).",
    "reproduce": "Write a script that shows a test's fault without this project (`-- RUN CELL TEST`).",
    "site": "Run suites on a cluster that exists, over SSH, as an ordinary user (`-- USER@HOST`, `-- FILE`).",
    "profile": "Check a site's settings, or make a profile of them over SSH (`-- check DIR`, `-- import USER@HOST`).",
    "bump": "Add new releases of Slurm, enroot and Pyxis to matrix.toml and the pins (`-- --check`: only say them).",
}
REPORT = ("--output", str(paths.results_dir() / paths.REPORT_FOLDER))
ARGV = sys.argv[1:]
# All cells of one nox call belong to one run.
os.environ.setdefault(paths.RUN_VARIABLE, paths.new_run_id())
# nox itself neither passes SIGTERM on to its children nor waits for them.
signals.pass_on_termination()
# Where this process is killed, our children have the kernel signal them.
os.environ[signals.PARENT_VARIABLE] = str(os.getpid())

try:
    MATRIX = loading.load()
    CELLS = mentioned(ARGV, MATRIX, Arch.host(), os.environ)
    CELLS_OF_SUITES = {
        **{it.name: (it.summary, [cell for cell in CELLS if cell.runtime in it.runtimes]) for it in SUITES.values()},
        OWN: ("Run a suite of your own: `-- PATH`, on this machine or, with `--on login`, on the login node.", CELLS),
    }
except PyxisMatrixError as problem:
    print(problem, file=sys.stderr)  # noqa: T201 - nox has nothing to report with yet
    sys.exit(problem.exit_code)

HELPED: list[str] = []  # the session that has shown its help: one is enough for all cells


@nox.session(tags=["project"])
def lint(session: nox.Session) -> None:
    """Check style, formatting, imports between folders, and the files of CI services (ruff, import-linter, zizmor)."""
    venv = venv_with(session, *DEVELOPMENT)
    run(session, venv, "ruff", "check", *CODE)
    run(session, venv, "ruff", "format", "--check", *CODE)
    run(session, venv, "lint-imports")
    run(session, venv, "zizmor", "--offline", "--quiet", ".github")
    for files in CI_FILES:
        run(session, venv, "check-jsonschema", "--builtin-schema", *files)


@nox.session(tags=["project"])
def types(session: nox.Session) -> None:
    """Check types (mypy, strict)."""
    run(session, venv_with(session, *DEVELOPMENT, "browser"), "mypy")


@nox.session(tags=["project"])
def tests(session: nox.Session) -> None:
    """Run the unit tests, or those named (`-- PATH`); they need neither an engine nor a network."""
    run_tests(session, "unit")


@nox.session(default=False)
def ci(session: nox.Session) -> None:
    """Run `python -m ci` with its packages installed (`-- up CELL`, `-- down --all`, `-- report`, `-- --help`)."""
    run(session, venv_with(session, "run"), "python", "-m", "ci", *session.posargs)


def run_tests(session: nox.Session, folder: str) -> None:
    """Run what is named behind ``--``, or all tests of a folder, two files at a time: many wait for clusters."""
    words = ("-o", f"testpaths=tests/{folder}", "-n", "2", "--dist", "loadfile")  # a file's fixtures are made once
    slow = ("--durations=25", "--durations-min=10")  # in seconds: where the time of the gate goes
    venv = venv_with(session, *(BROWSER if folder == "browser" else DEVELOPMENT))
    run(session, venv, "pytest", *words, *slow, *session.posargs)


def add_command(name: str, summary: str, groups: tuple[str, ...], *words: str) -> None:
    """Make the session of a module that is run with these words, and what stands behind ``--``."""

    def command(session: nox.Session) -> None:
        own = [*session.posargs, "--"]  # behind a further -- is the command line of another program
        venv = venv_with(session, *groups, named=own[: own.index("--")])
        run(session, venv, "python", "-m", *words, *session.posargs)

    add(command, name, summary)


def add_suite(name: str, summary: str, cells: Iterable[Cell]) -> None:
    """Make the session of a suite: one for each cell, named and tagged after it."""

    @nox.parametrize("cell", [nox.param(cell.id, id=cell.id, tags=list(cell.tags)) for cell in cells])
    def suite(session: nox.Session, cell: str) -> None:
        if {"-h", "--help"} & set(session.posargs):
            if HELPED:
                session.skip("help was shown already")
            HELPED.append(name)
        venv = venv_with(session, *SUITES_NEED, named=[word for word in session.posargs if word != "--"])
        # On CI, a cell that was asked for by its name has to run: there it is not told how to say that it does not.
        needed = os.environ.get("CI") == "true" and selected(MATRIX.cell(cell), ARGV, os.environ)
        # No exit code means "not run" (ci/paths.py), so the reason comes by a file.
        with tempfile.NamedTemporaryFile("r", prefix="pyxis-matrix-", encoding="utf-8") as reason:
            more = {} if needed else {paths.NOT_RUN_VARIABLE: reason.name}
            run(session, venv, "python", "-m", "ci", "suite", name, cell, "--", *session.posargs, more=more)
            if said := reason.read():
                session.skip(said)

    add(suite, name, summary)


def add(function: Callable[..., None], name: str, summary: str) -> None:
    """Make a session that plain nox does not run."""
    # `nox -l` shows the first line of it.
    function.__doc__ = summary
    nox.session(name=name, default=False)(function)


def venv_with(session: nox.Session, *groups: str, named: Sequence[str] = ()) -> Path:
    """Return the virtual environment with these dependency groups; with those of tests, the subject is in it, too.

    :param named: words among which ``--subject`` and ``--with`` say what is installed; the tool reads all others.
    """
    python = session.python if isinstance(session.python, str) else sys.executable  # --force-python
    try:
        return packages.environment(session.cache_dir.parent, groups, MATRIX.subject, named=named, python=python)
    except PyxisMatrixError as problem:
        session.error(str(problem))


def run(session: nox.Session, venv: Path, *words: str, more: Mapping[str, str] | None = None) -> None:
    """Run a program of a virtual environment, which is also the first on PATH; `more` are variables that it gets."""
    path = f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    session.run(
        *(str(venv / "bin" / words[0]), *words[1:]),
        env={"VIRTUAL_ENV": str(venv), "PATH": path, **(more or {})},
        interrupt_timeout=PATIENCE,
        terminate_timeout=PATIENCE,
    )


for title, (line, folder) in OWN_TESTS.items():
    # Bound now, as a default: the loop's variable is another one when the session runs.
    add(lambda session, folder=folder: run_tests(session, folder), title, line)
for title, line in PROGRAMS.items():
    add_command(title, line, {"scale": BROWSER, "mutations": DEVELOPMENT}.get(title, SUITES_NEED), f"tests.{title}")
for title, line in COMMANDS.items():
    need = SUITES_NEED if title in RUN_SUITES else ("run",)
    add_command(title, line, need, "ci", title, *(REPORT if title == "report" else ()))
for title, (line, where) in CELLS_OF_SUITES.items():
    add_suite(title, line, where)
