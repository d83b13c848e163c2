"""Sessions of pyxis-matrix. nox -s "pyxis_basic(CELL)" runs a suite on one cell; with -- --help it prints its options.

The list has the cells of the default group. nox -s ci -- cells --group full prints the ids of all cells; any of them
can stand in the brackets. nox -t GROUP -s SUITE takes the cells of a group.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
import os
from pathlib import Path
import sys

import nox

# Plain `nox` does not put this folder on sys.path.
sys.path.insert(0, str(Path(__file__).parent))

from ci import behind_nox, inputs, options, paths
from ci.artefacts import candidates, sources
from ci.engine import emulation
from ci.errors import PyxisMatrixError
from ci.matrix import loading, pytest_words
from ci.matrix.arch import Arch
from ci.matrix.asked import mentioned, mentioned_legacy, selected
from ci.matrix.cells import Cell, Runtime
from ci.matrix.suites import SUITES
from ci.option_values import RunsOn
from ci.options import Scope
from ci.python import venvs
from ci.terminal import signals

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "none"  # nox' own are one per cell and suite; see `venv_with`

# Taking an environment down takes seconds; nox' own limits are 0.3 s and 0.2 s.
PATIENCE = 60.0
PATIENCE_WITH_A_GROUP = 180.0  # several at the same time; see ci/group/children.py
PROJECT = nox.project.load_toml("pyproject.toml")
DEVELOPMENT = ("run", "test", "lint")
CODE = ("ci", "tests", "noxfile.py")
CI_FILES = (  # by the schema that comes with check-jsonschema
    ("vendor.github-workflows", *map(str, sorted(Path(".github/workflows").glob("*.yml")))),
    ("vendor.dependabot", ".github/dependabot.yml"),
    ("vendor.gitlab-ci", "ci/gitlab-ci.yml"),
)
ARGV = sys.argv[1:]
# All cells of one nox call belong to one run.
os.environ.setdefault(options.RUN_VARIABLE, options.Options().run)
# nox itself neither passes SIGTERM on to its children nor waits for them.
signals.pass_on_termination()
# Where this process is killed, our children have the kernel signal them.
os.environ[signals.PARENT_VARIABLE] = str(os.getpid())

try:
    MATRIX = loading.load()
    CONTAINER_CELLS = mentioned(ARGV, MATRIX, Arch.host(), os.environ)
    LEGACY_CELLS = mentioned_legacy(ARGV, MATRIX, Arch.host(), os.environ)
except PyxisMatrixError as problem:
    print(problem, file=sys.stderr)  # noqa: T201 - nox has nothing to report with yet
    sys.exit(problem.exit_code)

Session = Callable[..., None]
HELPED: list[str] = []  # the session that has shown its help: one is enough for all cells


def each(*chosen: Cell) -> Callable[[Session], Session]:
    """Return the decorator that makes one session per cell, named and tagged after it."""
    return nox.parametrize("cell", [nox.param(cell.id, id=cell.id, tags=list(cell.tags)) for cell in chosen])


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
    run(session, venv_with(session, *DEVELOPMENT), "pytest", "-o", "testpaths=tests/unit", *session.posargs)


@nox.session(default=False)
def component(session: nox.Session) -> None:
    """Run the component tests: real programs and a real container engine, no real enroot and Pyxis."""
    run(session, venv_with(session, *DEVELOPMENT), "pytest", "-o", "testpaths=tests/component", *session.posargs)


@nox.session(default=False)
def page(session: nox.Session) -> None:
    """Test the page of a report in a real browser (Chromium; `apt-get install chromium`)."""
    venv = venv_with(session, "run", "test", "browser", subject=False)
    run(session, venv, "pytest", "-o", "testpaths=tests/browser", *session.posargs)


@nox.session(default=False)
def scale(session: nox.Session) -> None:
    """Measure how the report grows, with synthetic results (`-- 50 500 5000`; --without-browser)."""
    venv = venv_with(session, "run", "test", "browser", subject=False)
    run(session, venv, "python", "-m", "tests.scale", *session.posargs)


@nox.session(default=False)
def mutations(session: nox.Session) -> None:
    """Break product and cluster on purpose, and show which suite turns red (`-- CELL`, `-- --only NAME`)."""
    refuse_another_subject(session, "pyxis_basic")
    run(session, venv_with(session, *DEVELOPMENT), "python", "-m", "tests.mutations", *session.posargs)


@nox.session(default=False)
def attacks(session: nox.Session) -> None:
    """Try to make results say more than was seen (`-- --without-cell`, `-- --only NAME`)."""
    refuse_another_subject(session, "pyxis_basic")
    run(session, venv_with(session, "run", "test"), "python", "-m", "tests.attacks", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure two ways to the same end, side by side, and print their ratios (`-- NAME`, `-- --list`)."""
    with one_message(session):
        checkout = behind_nox.checkout_in(session.posargs)
    venv = venv_with(session, "run", "test", checkout=checkout)
    run(session, venv, "python", "-m", "tests.bench", *session.posargs)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Start a cell, run one job and take it down, many times, and look for what is left (`-- --times 100 CELL`)."""
    run(session, venv_with(session, "run", "test", subject=False), "python", "-m", "tests.soak", *session.posargs)


@nox.session(default=False)
def machine(session: nox.Session) -> None:
    """Boot a whole Debian machine (systemd, cgroup v2) under qemu, and run the main job in it (`-- --os debian13`)."""
    run(session, venv_with(session, "run", "test", subject=False), "python", "-m", "tests.machine", *session.posargs)


@nox.session(default=False)
def images(session: nox.Session) -> None:
    """Build the images of a group or of cells (`-- --group edges`, `-- CELL`)."""
    command(session, "images")


@nox.session(default=False)
def matrix(session: nox.Session) -> None:
    """Run suites on all cells of a group, several at a time (`-- --group edges --jobs 2`)."""
    with one_message(session):
        checkout = behind_nox.checkout_in(session.posargs)
    venv = venv_with(session, "run", "test", checkout=checkout)
    run(session, venv, "python", "-m", "ci", "matrix", *session.posargs, patience=PATIENCE_WITH_A_GROUP)


@nox.session(default=False)
def bisect(session: nox.Session) -> None:
    """Find where an answer changes (`-- --axis pyxis --good 0.19.0 --bad 0.24.0 --cell CELL -- SUITE -k TEST`)."""
    with one_message(session):
        checkout = behind_nox.checkout_in(session.posargs)
    run(session, venv_with(session, "run", "test", checkout=checkout), "python", "-m", "ci", "bisect", *session.posargs)


@nox.session(default=False)
def plan(session: nox.Session) -> None:
    """Plan the jobs of a fleet of machines (`-- --group edges --shards 6 --format github`)."""
    command(session, "plan")


@nox.session(default=False)
def pins(session: nox.Session) -> None:
    """Write upstream's checksums into containers/pins.toml."""
    command(session, "pins")


@nox.session(default=False)
def report(session: nox.Session) -> None:
    """Merge results of runs, shards and machines into one report (`-- results/RUN OTHER`; default: all in results/)."""
    command(session, "report", "--output", str(paths.results_dir() / paths.REPORT_FOLDER))


@nox.session(default=False)
def bump(session: nox.Session) -> None:
    """Add new releases of Slurm, enroot and Pyxis to matrix.toml and the pins (`-- --check`: only say them)."""
    command(session, "bump")


@nox.session(default=False)
def ci(session: nox.Session) -> None:
    """Run `python -m ci` with its packages installed (`-- up CELL`, `-- down --all`, `-- report`, `-- --help`)."""
    command(session)


@nox.session(default=False)
@each(*CONTAINER_CELLS)
def pyxis_basic(session: nox.Session, cell: str) -> None:
    """Build, push and run container tasks through Slurm: the main job."""
    container_suite(session, cell)


@nox.session(default=False)
@each(*CONTAINER_CELLS)
def pyxis_advanced(session: nox.Session, cell: str) -> None:
    """Run arrays, mounts, workflows, failures and several nodes through the subject."""
    container_suite(session, cell)


@nox.session(default=False)
@each(*CONTAINER_CELLS)
def pyxis_conformance(session: nox.Session, cell: str) -> None:
    """Check what this version of Pyxis and enroot does, option by option, with plain srun and sbatch."""
    container_suite(session, cell)


@nox.session(default=False)
@each(*CONTAINER_CELLS)
def registry(session: nox.Session, cell: str) -> None:
    """Pull from registries of every kind: http, TLS, passwords; all image formats and forms of reference."""
    container_suite(session, cell)


@nox.session(default=False)
@each(*(cell for cell in CONTAINER_CELLS if cell.runtime in SUITES["pyxis_upstream"].runtimes))
def pyxis_upstream(session: nox.Session, cell: str) -> None:
    """Run Pyxis' own test suite, of the cell's release, inside the cluster."""
    container_suite(session, cell)


@nox.session(default=False)
@each(*LEGACY_CELLS)
def legacy_integration(session: nox.Session, cell: str) -> None:
    """Run plain Slurm jobs over SSH, through the subject."""
    asked, rest = asked_of(session)
    if asked.suite_cell and not asked.suite:
        session.error("--cell says where to run the suite that --suite names, and there is none")
    if asked.suite:
        own_suite(session, asked.suite_cell or cell, asked, rest)
    else:
        project_suite(session, cell, asked, rest)


@nox.session(default=False)
@each(*CONTAINER_CELLS, *LEGACY_CELLS)
def suite(session: nox.Session, cell: str) -> None:
    """Run a suite of your own: `-- PATH`, on this machine or, with `--on login`, on the login node."""
    asked, rest = asked_of(session)
    if asked.suite or asked.suite_cell:
        session.error("the suite's PATH stands first behind --, and its cell in the brackets of suite(CELL)")
    if not rest or rest[0].startswith("-"):
        session.error(f"the suite is missing; its PATH stands first behind --: nox -s 'suite({cell})' -- PATH")
    path = Path(rest[0]).expanduser().absolute()
    own_suite(session, cell, replace(asked, suite=path), rest[1:])


def own_suite(session: nox.Session, cell: str, asked: options.Options, rest: list[str]) -> None:
    """Run a suite of somebody's own on a cell: pytest, or a shell command, in the suite's own folder."""
    with one_message(session):
        own, program = behind_nox.own_suite(asked.suite or Path(), asked, rest)
    possible(session, cell, own)
    words = own.words(Scope.IMAGES, Scope.CLUSTER, Scope.RESULT, Scope.COMMAND, Scope.SUITE)
    run_suite(session, cell, own, "run", cell, *words, "--", *program)


def container_suite(session: nox.Session, cell: str) -> None:
    """Run the container suite of the session's name on a cell."""
    asked, rest = asked_of(session)
    if asked.suite or asked.suite_cell:
        session.error("this session runs its own suite on its own cell; for yours: nox -s 'suite(CELL)' -- PATH")
    project_suite(session, cell, asked, rest)


def project_suite(session: nox.Session, cell: str, asked: options.Options, rest: list[str]) -> None:
    """Run the suite of this project that the session is named after on a cell."""
    refuse_another_subject(session, asked.name)
    with one_message(session):
        pytest_words.check_environment(os.environ)
        pytest_words.given(SUITES[asked.name], rest)
    if MATRIX.cell(cell).runtime is not Runtime.LEGACY:
        possible(session, cell, asked)
    words = asked.words(Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)
    run_suite(session, cell, asked, "suite", asked.name, cell, *words, "--", *rest)


def possible(session: nox.Session, cell: str, asked: options.Options) -> None:
    """Skip a cell whose files or hardware are missing; it is an error if somebody asked for this very cell."""
    with one_message(session):
        chosen = candidates.read(asked, MATRIX).into(MATRIX.cell(cell))
        needed = asked.strict or (os.environ.get("CI") == "true" and selected(chosen, ARGV, os.environ))
        reason = foreign(chosen, everything=needed or asked.plain) or sources.missing(
            chosen, sources.Sources.from_environment(asked.mirror, strict=asked.strict)
        )
    if reason and needed:
        session.error(reason)
    if reason:
        session.skip(reason)


def foreign(cell: Cell, *, everything: bool) -> str:
    """Return why a cell of another architecture is not run here; empty if it is, be it without starting containers."""
    if cell.arch is Arch.host():
        return ""
    if everything:
        return f"{cell.id} needs {cell.arch} hardware, and this is {Arch.host()}; run it on such a machine"
    found = emulation.obstacle(cell.arch)
    return f"{cell.id} is not run: {emulation.needed(cell.arch, found)}" if found else ""


def run_suite(session: nox.Session, cell: str, asked: options.Options, *words: str) -> None:
    """Run a command of `python -m ci` that runs a suite on a cell, with the subject installed beside it."""
    if asked.on is not RunsOn.HOST and not asked.suite:
        session.error("--on says where a suite of your own runs: nox -s 'suite(CELL)' -- PATH --on login")
    with one_message(session):  # before anything is installed
        asked.check(MATRIX.cell(cell))
        if asked.subject:
            inputs.check_project(asked.subject)
            inputs.check_open_to_jobs(asked.subject)
        if asked.registry_name:
            inputs.check_registry_name(asked.registry_name)
    venv = venv_with(session, "run", "test", checkout=asked.subject, beside=asked.beside)
    run(session, venv, "python", "-m", "ci", *words)


def command(session: nox.Session, *words: str) -> None:
    """Run a command of `python -m ci`."""
    run(session, venv_with(session, "run", subject=False), "python", "-m", "ci", *words, *session.posargs)


def asked_of(session: nox.Session) -> tuple[options.Options, list[str]]:
    """Return a session's own options and pytest's arguments; for --help, print the help of both and skip."""
    with one_message(session):
        asked, rest = behind_nox.split(session.posargs)
    if {"-h", "--help"} & set(rest):
        if HELPED:
            session.skip("help was shown already")
        HELPED.append(session.name)
        sys.stdout.write(behind_nox.help_text())
        sys.stdout.flush()
        run(session, venv_with(session, "run", "test"), "python", "-m", "pytest", "--help")
        session.skip("help was asked for")
    return replace(asked, name=session.name.partition("(")[0], pytest=True), rest


def refuse_another_subject(session: nox.Session, *names: str) -> None:
    """Refuse, before anything is built, to run suites with a subject that they can't use."""
    for name in names:
        if why := SUITES[name].refuses(MATRIX.subject):
            fitting = ", ".join(it.name for it in SUITES.values() if not it.subject)
            session.error(f"{name}: {why}. What fits any subject: {fitting}; and your own: nox -s suite -- PATH")


@contextmanager
def one_message(session: nox.Session) -> Iterator[None]:
    """End the session with an error of ours as its message."""
    try:
        yield
    except PyxisMatrixError as problem:
        session.error(str(problem))


def venv_with(
    session: nox.Session,
    *groups: str,
    checkout: Path | None = None,
    subject: bool = True,
    beside: tuple[str, ...] = (),
) -> Path:
    """Return the virtual environment with these dependency groups, more packages, and the subject or its checkout."""
    release = [MATRIX.subject.requirement] if subject and not checkout else []
    packages = venvs.Packages(
        requirements=(*nox.project.dependency_groups(PROJECT, *groups), *release, *beside),
        constraints=MATRIX.subject.constraints if subject else (),
        checkout=checkout,
        python=session.python if isinstance(session.python, str) else sys.executable,  # --force-python
    )
    with one_message(session):
        return venvs.shared(session.cache_dir.parent, "-".join(groups), packages)


def run(session: nox.Session, venv: Path, program: str, *arguments: str, patience: float = PATIENCE) -> None:
    """Run a program of a virtual environment, which is also the first on PATH for what it starts itself.

    :param patience: seconds that it has for its end after Ctrl-C.
    """
    session.run(
        *(str(venv / "bin" / program), *arguments),
        env={"VIRTUAL_ENV": str(venv), "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"},
        interrupt_timeout=patience,
        terminate_timeout=patience,
    )
