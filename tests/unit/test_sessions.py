"""What nox starts for a session of a suite: what it refuses, what it leaves out and tells nox, and what it runs."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
import os
from pathlib import Path
import socket
import sys

import pytest

from ci import options, paths
from ci.artefacts import sources
from ci.cli.main import main
from ci.engine import emulation
from ci.environment.plan import EnvironmentPlan
from ci.errors import EngineError, NotRunError, SelectionError, SubjectError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.suites import SUITES
from ci.options import Scope, inputs
from ci.record import store
from ci.record.store import CellRecord
from ci.report.model import State
from ci.session import running
from ci.session.record import Record
from ci.terminal import console
from ci.terminal.processes import Completed
from tests.support import results as made

ROOT = Path(__file__).resolve().parents[2]
HERE, THERE = Arch.host(), next(it for it in Arch if it is not Arch.host())
CELL, LEGACY = f"slurm22.05-embedded-debian12-{HERE}", f"slurm22.05-legacy-debian12-{HERE}"
FOREIGN = f"slurm22.05-embedded-debian12-{THERE}"


class EnoughError(BaseException):
    """Ends a session where the cell would be started."""


Started = list[tuple[EnvironmentPlan, list[str]]]


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    """Have folders of the test's own, and start no cell: what would be is recorded."""
    for name in ("PYXIS_MATRIX_RUN", paths.NOT_RUN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path / "results"))
    seen: Started = []

    def run(record: Record, _up: object = None) -> None:
        seen.append((record.plan, list(record.command)))
        raise EnoughError

    monkeypatch.setattr(running, "run", run)
    return seen


@pytest.fixture
def reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the file that nox names, for the reason of a session that is not run."""
    file = tmp_path / "reason"
    file.touch()
    monkeypatch.setenv(paths.NOT_RUN_VARIABLE, str(file))
    return file


def suite(name: str, *words: str, cell: str = CELL) -> int:
    return main(["suite", name, cell, "--", *words])


# -- what is not run ------------------------------------------------------------------------------------------------


def test_a_cell_without_its_files_is_left_out_and_nox_is_told_why(
    monkeypatch: pytest.MonkeyPatch, reason: Path, started: Started
) -> None:
    monkeypatch.setattr(sources, "missing", lambda *_given: "pyxis.tar.gz not found: look there")
    assert suite("pyxis_basic") == 0
    assert reason.read_text(encoding="utf-8") == "pyxis.tar.gz not found: look there"
    assert started == []


@pytest.mark.parametrize("words", [(), ("--strict",)], ids=["nobody to be told", "strict"])
def test_a_cell_that_is_needed_and_lacks_its_files_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: Path, words: tuple[str, ...]
) -> None:
    if not words:
        monkeypatch.delenv(paths.NOT_RUN_VARIABLE)
    monkeypatch.setattr(sources, "missing", lambda *_given: "pyxis.tar.gz not found")
    assert suite("pyxis_basic", *words) == NotRunError.exit_code
    assert "error: pyxis.tar.gz not found" in capsys.readouterr().err
    assert reason.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize(
    "obstacle", [None, EngineError("none", where="there", why="so", next_step="this")], ids=["emulator", "none"]
)
def test_a_cell_of_another_architecture_runs_where_it_is_not_needed_and_there_is_an_emulator(
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reason: Path,
    started: Started,
    obstacle: EngineError | None,
) -> None:
    monkeypatch.setattr(emulation, "obstacle", lambda _arch: obstacle)
    monkeypatch.setattr(sources, "missing", lambda *_given: None)
    with nullcontext() if obstacle else pytest.raises(EnoughError):
        assert suite("pyxis_basic", cell=FOREIGN) == 0
    said = f"{FOREIGN} is not run: it needs {THERE} hardware, or an emulator"
    assert reason.read_text(encoding="utf-8").startswith(said) is bool(obstacle)
    assert bool(started) is not bool(obstacle)
    started.clear()
    reason.write_text("", encoding="utf-8")
    assert suite("pyxis_basic", "--strict", cell=FOREIGN) == NotRunError.exit_code
    assert f"{FOREIGN} needs {THERE} hardware, and this is {HERE}" in capsys.readouterr().err
    assert (reason.read_text(encoding="utf-8"), started) == ("", [])


def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "missing", lambda *_given: "pyxis.tar.gz not found")


def no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "obstacle", lambda _arch: EngineError("none"))


@pytest.mark.parametrize("asks", ["needs it", "is strict", "can leave it out"])
@pytest.mark.parametrize(("cell", "lack"), [(CELL, no_files), (FOREIGN, no_emulator)], ids=["files", "hardware"])
def test_what_passed_before_under_the_runs_id_does_not_stay_where_the_cell_can_not_run(
    *,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    reason: Path,
    asks: str,
    cell: str,
    lack: Callable[[pytest.MonkeyPatch], None],
) -> None:
    lack(monkeypatch)
    of = CellRecord.of(loading.load().cell(cell))
    (folder,) = made.write(tmp_path / "results", made.result(of, run="again"))
    (folder / store.REPORT_LOG_FILE).write_text("of before", encoding="utf-8")
    if asks == "needs it":
        monkeypatch.delenv(paths.NOT_RUN_VARIABLE)
    monkeypatch.setenv("PYXIS_MATRIX_RUN", "again")
    code = suite("pyxis_basic", *(["--strict"] if asks == "is strict" else []), cell=cell)
    kept = store.load(folder / store.RESULT_FILE)
    assert (kept.exit_code, kept.tests, State.of(kept)) == (
        NotRunError.exit_code,
        (),
        State.ERROR if asks == "is strict" else State.NOT_RUN,
    )
    assert not (folder / store.REPORT_LOG_FILE).exists()
    skipped = asks == "can leave it out"
    assert code == (0 if skipped else NotRunError.exit_code)
    assert reason.read_text(encoding="utf-8") == (kept.reason if skipped else "")


def test_nothing_that_a_session_starts_can_say_that_it_was_not_run(
    monkeypatch: pytest.MonkeyPatch, reason: Path
) -> None:
    monkeypatch.setattr(sources, "missing", lambda *_given: None)
    with pytest.raises(EnoughError):
        suite("pyxis_basic")
    assert paths.NOT_RUN_VARIABLE not in os.environ
    assert reason.read_text(encoding="utf-8") == ""


def test_help_is_that_of_the_session_and_of_pytest_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: Path, started: Started
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(console, "attach", called.append)
    assert suite("pyxis_basic", "--nodes", "2", "--help") == 0
    shown = capsys.readouterr().out
    assert "--nodes N" in shown
    assert "--strict" in shown
    assert called == [[sys.executable, "-m", "pytest", "--help"]]
    assert (reason.read_text(encoding="utf-8"), started) == ("help was asked for", [])


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words", "problem"),
    [
        ("pyxis_basic", ("--on", "login"), "--on cannot be used with pyxis_basic"),
        ("registry", ("--with", "numpy"), "--with cannot be used with registry"),
        ("registry", ("--node", "3"), "did you mean --nodes?"),
        ("no_such", (), "there is no suite 'no_such'"),
        ("legacy_integration", ("--gpus", "1"), f"--gpus cannot be used with {LEGACY}"),
        ("legacy_integration", ("--suite", "/absent"), "the suite was not found"),
        ("suite", (), "the suite is missing"),
        ("suite", ("-k", "x"), "the suite is missing"),
        ("suite", ("/absent",), "there is no such file"),
        ("suite", (str(ROOT / "docs"),), "it holds no test_"),
        ("suite", (".", "--suite", "."), "PATH comes first after --"),
        ("suite", (str(ROOT), "--command", "make", "-x"), "so -x would be ignored"),
        *(
            (name, (word,), f"{word} {why} {name}")
            for name in ("pyxis_basic", "pyxis_advanced", "legacy_integration")
            for word, why in {"--setup-plan": "cannot be used with", "tests/unit": "is not a part of"}.items()
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(
    *,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    started: Started,
    name: str,
    words: tuple[str, ...],
    problem: str,
) -> None:
    code = suite(name, *words, cell=LEGACY if name == "legacy_integration" else CELL)
    assert code == SelectionError.exit_code
    assert problem in capsys.readouterr().err
    assert (list(tmp_path.iterdir()), started) == ([], [])


@pytest.mark.parametrize("flag", options.flags(Scope.RESULT))
@pytest.mark.parametrize("own", [False, True])
def test_an_option_of_commands_only_is_refused_with_the_variable_that_sessions_have(
    *,
    started: Started,
    theirs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flag: str,
    own: bool,
) -> None:
    said = f"pytest: error: unrecognized arguments: {flag} x\n"
    monkeypatch.setattr(console, "call", lambda words, **_: Completed(command=tuple(words), exit_code=4, output=said))
    assert suite(*(("suite", str(theirs)) if own else ("registry",)), "-x", flag, "x") == SelectionError.exit_code
    name = {"--run": "PYXIS_MATRIX_RUN", "--results": "PYXIS_MATRIX_RESULTS"}[flag]
    assert f"next: set {name} in the environment in place of {flag}" in capsys.readouterr().err
    assert started == []


@pytest.mark.parametrize("name", [it.name for it in SUITES.values() if it.subject])
def test_suites_of_the_sdk_refuse_another_subject(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], started: Started, name: str
) -> None:
    rows = loading.load()
    other = replace(rows, subject=replace(rows.subject, requirement="submitit", name="submitit"))
    monkeypatch.setattr(loading, "load", lambda: other)
    assert suite(name) == SelectionError.exit_code
    said = capsys.readouterr().err
    assert "the subject is submitit" in said
    assert "what fits any subject: pyxis_conformance" in said
    assert started == []


@pytest.mark.parametrize("command", ["suite", "up"])
def test_what_jobs_or_the_engine_could_not_use_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_given: [(2, 1, 6, "", ("10.0.0.7", 0))])
    monkeypatch.setattr(running, "connect", lambda: pytest.fail("it asks the engine"))
    (closed := tmp_path / "closed").mkdir(mode=0o700)
    begin = ["suite", "registry"] if command == "suite" else ["up"]
    assert main([*begin, CELL, "--subject", str(closed)]) == SubjectError.exit_code
    assert "only its owner may read it" in capsys.readouterr().err
    monkeypatch.setattr("ci.session.checks.check_localhost", lambda: None)
    assert main([*begin, CELL, "--registry-name", "registry"]) == SelectionError.exit_code
    assert "resolves to 10.0.0.7" in capsys.readouterr().err


# -- what runs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a suite of somebody's own."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "test_x.py").touch()
    return folder


Words = tuple[str, ...]


@pytest.mark.parametrize(
    "begin",
    [lambda path: ("suite", path), lambda path: ("legacy_integration", "--suite", path)],
    ids=["suite", "legacy_integration"],
)
def test_a_suite_of_somebodys_own_runs_with_its_options(
    started: Started, theirs: Path, begin: Callable[[str], Words]
) -> None:
    with pytest.raises(EnoughError):
        suite(*begin(str(theirs)), "--on", "login", "--with", "numpy", "-k", "x", "--user", "alice")
    ((plan, command),) = started
    options = plan.options
    assert (options.suite, options.name, options.user) == (theirs, inputs.own_suite(theirs).name, "alice")
    assert (options.plain, options.pytest, options.beside) == (True, True, ("numpy",))
    assert command == ["pytest", ".", "-k", "x"]


@pytest.mark.parametrize("on", ["host", "login"])
def test_a_suite_of_somebodys_own_gets_variables_where_it_runs(started: Started, theirs: Path, on: str) -> None:
    with pytest.raises(EnoughError):
        suite("suite", str(theirs), "--on", on, "--env", "A=b c", "--env", "SLURM_HOST=mine", "--env", "EMPTY=")
    ((plan, _),) = started
    told = plan.suite_environment.render({"host": "127.0.0.1", "port": "22"})
    assert (told["A"], told["EMPTY"], told["SLURM_PORT"]) == ("b c", "", "22")
    assert told["SLURM_HOST"] == "mine", "what was asked for wins"
    assert plan.given.words(Scope.SUITE)[-6:] == ["--env", "A=b c", "--env", "SLURM_HOST=mine", "--env", "EMPTY="]


@pytest.mark.parametrize("wrong", ["A", "=b", "1A=b", "a-b=c"])
def test_what_is_no_variable_is_refused(theirs: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    with pytest.raises(SystemExit):
        suite("suite", str(theirs), "--env", wrong)
    assert "is not NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("on", ["host", "login"])
def test_an_option_that_nobody_knows_costs_no_launch(
    started: Started, theirs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on: str
) -> None:
    asked: list[tuple[list[str], Path]] = []

    def call(words: list[str], *, cwd: Path) -> Completed:
        asked.append((words, cwd))
        unknown = [word for word in words if word == "--eror"]
        said = f"usage: pytest\npytest: error: unrecognized arguments: {' '.join(unknown)}\n" if unknown else ""
        return Completed(command=tuple(words), exit_code=4 if unknown else 0, output=said)

    monkeypatch.setattr(console, "call", call)
    assert suite("suite", str(theirs), "--on", on, "--eror", "-x") == SelectionError.exit_code
    assert "unknown option --eror" in capsys.readouterr().err
    assert (started, asked) == ([], [(["pytest", ".", "--eror", "-x", "--markers"], theirs)])
    with pytest.raises(EnoughError):  # one of a plugin's
        suite("suite", str(theirs), "--on", on, "--cov=x")
    with pytest.raises(EnoughError):
        suite("suite", str(theirs), "--on", on, "-k", "x", "-n", "2")
    assert len(asked) == 2, "pytest is asked only about what is not its own"


def test_a_command_runs_in_place_of_pytest(started: Started, theirs: Path) -> None:
    with pytest.raises(EnoughError):
        suite("suite", str(theirs), "--command", "make it && true", cell=LEGACY)
    ((plan, command),) = started
    assert (plan.options.pytest, command) == (False, ["bash", "-o", "pipefail", "-c", "make it && true"])


def test_options_may_stand_before_the_dashes_and_behind_them(started: Started) -> None:
    with pytest.raises(EnoughError):
        main(["suite", "legacy_integration", LEGACY, "--run", "r", "--nodes", "2", "--", "--nodes", "3", "-k", "x"])
    ((plan, command),) = started
    assert (plan.options.run, plan.options.nodes, command[-2:]) == ("r", 3, ["-k", "x"])
