"""A session: whatever happens in it, its result is written, and its exit code tells the truth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
import errno
from pathlib import Path
import signal
from typing import Any, Protocol, cast

from docker.errors import APIError
from packaging.version import Version
import pytest

from ci import environment_file
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.errors import LaunchError, NotRunError, PyxisMatrixError
from ci.matrix import loading
from ci.matrix.model import Matrix
from ci.matrix.pytest_words import Given
from ci.options import Options
from ci.options.inputs import own_suite
from ci.record import store
from ci.record.outcomes import Outcome, Selection
from ci.record.store import Result
from ci.session import running
from ci.session.handover import additions
from ci.session.record import Record
from ci.terminal import signals
from ci.terminal.processes import Completed
from tests.support.environments import environment, login
from tests.support.report_logs import BEGIN, END, report, selection

LEGACY, REAL = "slurm22.05-legacy-debian12-amd64", "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"
PASSED, SKIPPED, FAILED = report("a", "passed"), report("b", "skipped"), report("c", "failed")


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


@pytest.fixture
def planned(rows: Matrix, tmp_path: Path) -> EnvironmentPlan:
    options = Options(run="run", name="suite", results=tmp_path, pytest=True)
    return plan_environment(rows.cell(LEGACY), rows, options)


def changed(planned: EnvironmentPlan, **options: object) -> EnvironmentPlan:
    """Return the plan with other options."""
    given, settled = (replace(it, **options) for it in (planned.given, planned.options))  # type: ignore[arg-type]
    return replace(planned, given=given, options=settled)


@pytest.fixture
def launched(tmp_path: Path, planned: EnvironmentPlan) -> Environment:
    file = environment(
        LEGACY,
        login=login(host="127.0.0.1", port=4711),
        engine_client="/state/bin/docker",
        engine_environment={"DOCKER_BUILDKIT": "1"},
        observed={"slurm": "22.05.8"},
        results=str(tmp_path / "run" / LEGACY / "suite"),
    )
    anything = cast("Any", None)
    path = tmp_path / "environment.json"
    return Environment(plan=planned, file=file, path=path, cluster=anything, ready={"sshd": 1.5})


class Run(Protocol):
    """Runs a session; ``called`` is the command line that it came to."""

    called: list[str]

    cwd: Path | None
    """Where the last command was started."""
    env: Mapping[str, str]
    """With which variables."""

    def __call__(
        self,
        act: Callable[[], int],
        tests: str | None = None,
        *,
        command: Sequence[str] = ("pytest",),
        given: Given | None = None,
        said: str | None = None,
        **options: object,
    ) -> tuple[int, Result]:
        """Return exit code and result.

        :param said: what pytest says of its selection, if it is not that all tests were to run.
        """


@pytest.fixture
def run(planned: EnvironmentPlan, launched: Environment, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a session in which the command does what it is told and leaves these tests behind."""

    @contextmanager
    def opened(record: Record) -> Iterator[Environment]:
        record.environment = launched
        yield launched

    def go(
        act: Callable[[], int],
        tests: str | None = None,
        *,
        command: Sequence[str] = ("pytest",),
        given: Given | None = None,
        said: str | None = None,
        **options: object,
    ) -> tuple[int, Result]:
        theirs = cast("Path | None", options.get("suite"))
        own = own_suite(theirs, pytest=bool(options.get("pytest", True))) if theirs else None
        plan = changed(planned, **options)

        def call(command: list[str], *, cwd: Path | None, env: Mapping[str, str], **_more: object) -> Completed:
            runner.called, runner.cwd, runner.env = command, cwd, env
            if tests is None:
                return Completed(command=tuple(command), exit_code=act(), output="")
            with (folder_of(plan) / store.REPORT_LOG_FILE).open("w", encoding="utf-8") as log:
                log.write(BEGIN + tests)
                log.flush()
                exit_code = act()
                log.write((selection(tests) if said is None else said) + END)
            return Completed(command=tuple(command), exit_code=exit_code, output="")

        monkeypatch.setattr(running, "environment_of", opened)
        monkeypatch.setattr("ci.terminal.console.attach", call)
        return running.run(Record(plan=plan, command=command, given=given, suite=own))

    runner = cast("Run", go)
    return runner


def folder_of(plan: EnvironmentPlan) -> Path:
    return plan.options.folder(plan.cell)


def written(plan: EnvironmentPlan) -> Result:
    return store.load(folder_of(plan) / store.RESULT_FILE)


@pytest.mark.parametrize(
    ("exit_code", "tests", "expected"),
    [
        (0, PASSED, (Outcome.PASSED, 0)),
        (0, PASSED + SKIPPED, (Outcome.PASSED, 0)),
        (1, PASSED + FAILED, (Outcome.FAILED, 1)),
        (0, SKIPPED, (Outcome.SKIPPED, 1)),
        (5, "", (Outcome.FAILED, 5)),
        (0, None, (Outcome.ERROR, 1)),
    ],
    ids=["passed", "some skipped", "failed", "all skipped", "nothing selected", "no report"],
)
def test_exit_code_and_outcome(
    *, run: Run, planned: EnvironmentPlan, exit_code: int, tests: str | None, expected: tuple[Outcome, int]
) -> None:
    code, result = run(lambda: exit_code, tests)
    assert (result.outcome, code) == expected
    kept = written(planned)
    assert (kept.outcome, kept.exit_code) == expected
    assert kept.versions == {"slurm": "22.05.8"}
    assert kept.ready == {"sshd": 1.5}


@pytest.mark.parametrize(("exit_code", "outcome"), [(0, Outcome.SUCCEEDED), (7, Outcome.FAILED)])
def test_what_is_not_pytest_is_judged_by_its_exit_code_and_never_passed(
    run: Run, exit_code: int, outcome: Outcome
) -> None:
    code, result = run(lambda: exit_code, pytest=False)
    assert (code, result.outcome) == (exit_code, outcome)


@pytest.mark.parametrize(
    ("given", "asked", "by"),
    [
        (Given(words=("-k", "a"), narrowing=("-k a",)), [], ("-k a",)),
        (None, [("-m", "fast"), ("--lf", "")], ("-m fast", "--lf")),
    ],
    ids=["suite of the project", "suite of somebody else"],
)
def test_what_was_asked_for_in_part_is_partly_run(
    run: Run, given: Given | None, asked: list[tuple[str, str]], by: tuple[str, ...]
) -> None:
    def told(exit_code: int, tests: str) -> tuple[int, Result]:
        return run(lambda: exit_code, tests, given=given, said=selection(tests, *asked))

    code, result = told(0, PASSED)
    assert (code, result.outcome) == (0, Outcome.PARTLY)
    assert result.selection == Selection(collected=1, deselected=0, by=by)
    assert result.reason.startswith(f"only a part of the suite was asked for: {', '.join(by)}, 1 of 1 tests")
    code, result = told(1, PASSED + FAILED)
    assert (code, result.outcome) == (1, Outcome.FAILED)
    code, result = told(0, SKIPPED)
    assert (code, result.outcome) == (1, Outcome.SKIPPED)


def test_the_answers_of_another_version_are_no_verdict_on_a_release(run: Run) -> None:
    answers = (("slurm", Version("24.11.7")),)
    _, result = run(lambda: 0, PASSED, given=Given(), answers_of=answers)
    assert (result.outcome, result.selection and result.selection.by) == (
        Outcome.PARTLY,
        ("--answers-of slurm=24.11.7",),
    )


def test_no_plugin_of_pytest_is_found_beside_a_suite_of_the_project(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somebody/elses")
    run(lambda: 0, PASSED, given=Given())
    assert "/somebody/elses" not in run.env["PYTHONPATH"]
    run(lambda: 0, PASSED)
    assert run.env["PYTHONPATH"].endswith(":/somebody/elses")


def test_what_deselects_in_silence_makes_no_whole_of_a_suite_of_the_project(run: Run) -> None:
    said = selection(PASSED).replace('"deselected": 0', '"deselected": 3')
    _, result = run(lambda: 0, PASSED, given=Given(), said=said)
    assert result.outcome is Outcome.PARTLY
    assert result.selection == Selection(collected=4, deselected=3, by=("what a plugin or a conftest.py deselects",))
    # The settings of another project say what its suite is.
    _, result = run(lambda: 0, PASSED, said=said)
    assert (result.outcome, result.selection) == (Outcome.PASSED, Selection(collected=4, deselected=3))


@pytest.mark.parametrize("given", [None, Given()], ids=["of somebody else", "of the project"])
def test_what_ended_well_before_all_tests_ran_is_not_passed(run: Run, given: Given | None) -> None:
    code, result = run(lambda: 0, PASSED, given=given, said=selection(PASSED + FAILED))
    assert (code, result.outcome) == (1, Outcome.ERROR)
    assert "did not run 1 of its 2 tests" in result.reason
    assert run(lambda: 0, PASSED, given=given, said="")[1].outcome is Outcome.ERROR


def test_a_report_is_asked_for_last_and_only_of_pytest(run: Run, planned: EnvironmentPlan) -> None:
    folder = folder_of(planned)
    run(lambda: 0, PASSED)
    log = ["-p", "pytest_reportlog", "-p", "pyxis_matrix_selection", f"--report-log={folder / 'reportlog.jsonl'}"]
    assert run.called == ["pytest", *log, f"--junitxml={folder / 'junit.xml'}", "-o", "junit_logging=all"]
    run(lambda: 0, pytest=False)
    assert run.called == ["pytest"]


def test_a_cluster_for_a_person_leaves_no_result_that_could_count_as_passed(run: Run, planned: EnvironmentPlan) -> None:
    code, result = run(lambda: 0, command=[], pytest=False)
    assert (code, result.outcome) == (0, Outcome.SUCCEEDED)
    assert not (folder_of(planned) / store.RESULT_FILE).exists()


def test_an_error_is_written_and_raised(run: Run, planned: EnvironmentPlan) -> None:
    def act() -> int:
        raise LaunchError("it died", why="for this reason")

    with pytest.raises(LaunchError):
        run(act)
    kept = written(planned)
    assert (kept.outcome, kept.exit_code) == (Outcome.ERROR, LaunchError.exit_code)
    assert "for this reason" in kept.reason


def test_what_can_not_run_here_is_written_as_skipped_and_raised(run: Run, planned: EnvironmentPlan) -> None:
    def act() -> int:
        raise NotRunError("it is not compiled under emulation")

    with pytest.raises(NotRunError):
        run(act)
    kept = written(planned)
    assert (kept.outcome, kept.exit_code) == (Outcome.SKIPPED, NotRunError.exit_code)


def test_what_the_system_refuses_is_written_and_raised_as_an_error_of_ours(run: Run, planned: EnvironmentPlan) -> None:
    def act() -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "/cache/x.lock")

    with pytest.raises(PyxisMatrixError, match="refused"):
        run(act)
    kept = written(planned)
    assert (kept.outcome, kept.exit_code) == (Outcome.ERROR, PyxisMatrixError.exit_code)
    assert "/cache/x.lock" in kept.reason


def test_what_the_engine_refuses_is_told_from_what_the_system_does(run: Run, planned: EnvironmentPlan) -> None:
    def act() -> int:
        raise APIError("500", explanation="no such network")

    with pytest.raises(LaunchError, match="the engine refused"):
        run(act)
    assert "no such network" in written(planned).reason


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_written_and_raised(run: Run, planned: EnvironmentPlan, number: signal.Signals) -> None:
    def act() -> int:
        signal.raise_signal(number)
        return 0

    with pytest.raises(signals.Interrupted):
        run(act, PASSED)
    kept = written(planned)
    assert (kept.outcome, kept.exit_code) == (Outcome.INTERRUPTED, 128 + number)
    assert [test.name for test in kept.tests] == ["a"], "what was seen until then is kept"


def test_a_test_that_ctrl_c_broke_does_not_count_as_failed(run: Run, planned: EnvironmentPlan) -> None:
    def act() -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    late = '{"$report_type": "TestReport", "nodeid": "t", "when": "call", "outcome": "failed", "stop": 9e9}\n'
    with pytest.raises(signals.Interrupted):
        run(act, FAILED + late)
    assert {test.name: test.outcome for test in written(planned).tests} == {"c": "failed", "t": "interrupted"}


@pytest.mark.parametrize(
    ("options", "command", "again"),
    [
        ({"given": Given()}, ["python", "-m", "pytest", "x"], f'nox -s "suite({LEGACY})"'),
        (
            {"given": Given(words=("-k", "a b")), "nodes": 2},
            ["python", "-m", "pytest", "x"],
            f"nox -s \"suite({LEGACY})\" -- --nodes 2 -k 'a b'",
        ),
        (
            {"plain": True},
            ["python", "-m", "pytest", "/their suite", "-x"],
            f"nox -s ci -- run {LEGACY} --as suite --plain --pytest -- python -m pytest '/their suite' -x",
        ),
        ({"pytest": False}, ["make", "check it"], f"nox -s ci -- run {LEGACY} --as suite -- make 'check it'"),
    ],
    ids=["suite of the project", "with options", "suite of somebody else", "command"],
)
def test_the_result_says_how_to_run_it_again(run: Run, options: dict[str, Any], command: list[str], again: str) -> None:
    _, result = run(lambda: 0, PASSED, command=command, **options)
    assert result.again == again


def test_a_suite_of_somebodys_own_runs_in_its_projects_folder_and_says_how_to_run_it_again(
    run: Run, tmp_path: Path
) -> None:
    theirs = tmp_path / "their project" / "tests"
    theirs.mkdir(parents=True)
    (theirs / "test_x.py").touch()
    (theirs.parent / "pyproject.toml").touch()
    options: dict[str, Any] = {"plain": True, "suite": theirs, "user": "alice", "beside": ("numpy", "six<2")}
    _, result = run(lambda: 0, PASSED, command=["pytest", "tests", "-k", "a b"], **options)
    assert run.cwd == theirs.parent
    words = f"'{theirs}' --user alice --with numpy --with 'six<2' -k 'a b'"
    assert result.again == f'nox -s "suite({LEGACY})" -- {words}'

    _, result = run(
        lambda: 0, command=["bash", "-o", "pipefail", "-c", "make it"], **options, pytest=False, shell_command="make it"
    )
    assert result.again.endswith("--command 'make it'")


def test_a_log_of_an_earlier_session_is_not_taken_for_this_ones(run: Run, planned: EnvironmentPlan) -> None:
    log = folder_of(planned) / store.REPORT_LOG_FILE
    log.parent.mkdir(parents=True)
    log.write_text(BEGIN + PASSED + selection(PASSED) + END, encoding="utf-8")
    _, result = run(lambda: 4)
    assert (result.outcome, result.tests) == (Outcome.ERROR, ())


# -- what a command finds -------------------------------------------------------------------------------------------


def test_a_suite_of_this_project_is_told_by_the_file(launched: Environment) -> None:
    environ = {"PATH": "/usr/bin", "HOME": "/root", "PYTEST_ADDOPTS": "-q"}
    told = additions(launched, environ)
    assert told.keys().isdisjoint({"PYTEST_ADDOPTS", "SLURM_HOST"})
    assert told[environment_file.VARIABLE] == str(launched.path)
    assert told["PATH"] == "/state/bin:/usr/bin"  # the client that can build stands first
    assert told["DOCKER_BUILDKIT"] == "1"
    assert told["PYXIS_MATRIX_CACHE"] == "/root/.cache/pyxis-matrix"


def test_somebody_elses_suite_is_told_in_the_matrix_words(launched: Environment) -> None:
    plain = replace(launched, plan=changed(launched.plan, plain=True))
    told = additions(plain, {"PATH": "/usr/bin", "HOME": "/root"})
    assert (told["SLURM_HOST"], told["SLURM_PORT"], told["SLURM_USER"]) == ("127.0.0.1", "4711", "tester")
    # What is unknown is not set, rather than empty.
    assert not {"SLURM_PASSWORD", "REGISTRY_URL"} & told.keys()
