"""Bisecting: its steps, its question, what a result answers, and what is said in the end."""

from collections.abc import Callable, Sequence
from dataclasses import replace
import os
from pathlib import Path
import re
import signal
import sys
from types import SimpleNamespace

import msgspec
from packaging.version import Version
import pytest

from ci import environment_file, paths
from ci.bisect import probing, steps
from ci.bisect.search import Judgement
from ci.bisect.steps import Span
from ci.cli import clusters
from ci.cli.main import main
from ci.errors import BisectError, BisectRangeError, CandidateError, LaunchError, SelectionError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.options import Options
from ci.options.inputs import own_suite
from ci.options.values import Origin
from ci.record import store
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import CellRecord, Result
from ci.report.finding import find
from ci.terminal import console, signals
from ci.terminal.processes import Completed
from tests.support import results as made
from tests.support.environments import environment, login
from tests.support.rows import SAMPLE

ROWS = loading.load(SAMPLE)
NAME = "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"
REAL = ROWS.cell(NAME)
PASSED, FAILED, NONE = Judgement.PASSED, Judgement.FAILED, Judgement.NONE


# -- the steps ------------------------------------------------------------------------------------------------------


def span(good: str, bad: str, axis: str = "pyxis") -> Span:
    return Span(axis=axis, good=good, bad=bad)


def test_the_releases_are_the_rows_between_and_each_is_asked_for_the_answers_of_the_first() -> None:
    found = steps.releases(span("0.19.0", "0.22.0"), REAL, ROWS, Options())
    assert [step.name for step in found] == ["0.19.0", "0.20.0", "0.21.0", "0.22.0"]
    assert [step.cell.id for step in found] == [NAME.replace("0.19.0", step.name) for step in found]
    assert {step.options.answers_of for step in found} == {(("pyxis", Version("0.19.0")),)}


def test_answers_that_were_asked_for_are_kept() -> None:
    asked = Options(answers_of=(("pyxis", Version("0.21")),))
    assert steps.releases(span("0.19.0", "0.20.0"), REAL, ROWS, asked)[1].options == asked


def test_releases_of_slurm_are_those_that_the_operating_system_can_have() -> None:
    found = steps.releases(span("22.05", "24.11.7", "slurm"), REAL, ROWS, Options())
    assert [(step.name, bool(step.obstacle)) for step in found if step.name in {"22.05", "24.11", "24.11.7"}] == [
        ("22.05", False),
        ("24.11", True),
        ("24.11.7", False),
    ]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (span("0.24.0", "0.19.0"), "--bad is older than --good"),
        (span("0.24.0", "0.24.0"), "the same release"),
        (span("0.19.0", "0.25.0"), "there is no pyxis 0.25.0.*its rows are 0.18.0"),
        (span("main", "0.24.0"), "there is no pyxis main"),
    ],
)
def test_ends_that_are_no_rows_or_stand_the_wrong_way_round_are_refused(wanted: Span, says: str) -> None:
    with pytest.raises(SelectionError) as caught:
        steps.releases(wanted, REAL, ROWS, Options())
    assert re.search(says, str(caught.value), re.DOTALL)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("slurm22.05-embedded-debian12-amd64", Options(), "has no pyxis"),
        (NAME.replace("amd64", "arm64"), Options(), "needs arm64 hardware"),
        (NAME, Options(pyxis=Origin(path=Path("/p"))), "--pyxis is what is bisected"),
        (NAME, Options(keep=True), "--keep cannot be used with a bisection"),
    ],
)
def test_what_no_step_could_be_tried_with_is_refused(name: str, options: Options, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        steps.check(span("0.19.0", "0.24.0"), ROWS.cell(name), options, Arch.AMD64)


# -- the question ---------------------------------------------------------------------------------------------------


def test_a_suite_of_ours_is_asked_without_known_failures() -> None:
    asked = probing.question(["pyxis_conformance", "-k", "variable"], REAL, ROWS)
    assert asked.name == "pyxis_conformance-asked", "its result is none of the suite"
    assert (asked.verb, asked.options) == (("run",), ("--as", asked.name, "--pytest"))
    assert asked.words[:3] == (sys.executable, "-m", "pytest")
    assert asked.words[-3:] == ("--runxfail", "-k", "variable")


def test_a_suite_of_ones_own_is_asked_as_its_session_runs_it(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_it(): pass\n", encoding="utf-8")
    asked = probing.question([str(tmp_path / "test_mine.py"), "--on", "login", "-x"], REAL, ROWS)
    assert asked.name == own_suite(tmp_path / "test_mine.py").name
    assert asked.verb == ("suite", "suite")
    assert asked.words == (str(tmp_path / "test_mine.py"), "--on", "login", "-x")
    there = probing.question([str(tmp_path), "--command", "make check"], REAL, ROWS)
    assert (there.words[1:], there.pytest) == (("--command", "make check"), False)


def test_a_command_alone_runs_on_the_login_node() -> None:
    asked = probing.question(["--command", "srun hostname"], REAL, ROWS)
    assert asked.words == (sys.executable, "-m", "ci", "shell", "--", "set -o pipefail; srun hostname")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to ask"),
        (["-k", "x"], "nothing to ask"),
        (["/not/there"], "the suite was not found"),
        (["pyxis_conformance", "--nodes", "2"], "--nodes comes after the last --"),
        (["legacy_integration"], "legacy_integration cannot be used with"),
        (["--command", "true", "-k", "x"], "nothing to ask"),
        (["--command", "true", "--on", "login"], "--on login has no suite to run"),
    ],
)
def test_what_is_no_question_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        probing.question(words, REAL, ROWS)


# -- the answer -----------------------------------------------------------------------------------------------------


def one(state: TestState, message: str = "") -> TestOutcome:
    return TestOutcome(name=f"tests/x.py::test_{state.value}", outcome=state, message=message)


def result(outcome: Outcome, exit_code: int, *tests: TestOutcome, reason: str = "") -> Result:
    return msgspec.structs.replace(
        made.result(CellRecord.of(REAL), outcome=outcome, tests=tests, reason=reason), exit_code=exit_code
    )


@pytest.mark.parametrize(
    ("found", "answer", "why"),
    [
        (result(Outcome.PASSED, 0, one(TestState.PASSED)), PASSED, ""),
        (result(Outcome.PASSED, 0, one(TestState.PASSED), one(TestState.SKIPPED)), PASSED, ""),
        (
            result(Outcome.FAILED, 1, one(TestState.PASSED), one(TestState.FAILED, "assert 1\nmore")),
            FAILED,
            "test_failed: assert 1",
        ),
        (result(Outcome.PARTLY, 0, one(TestState.PASSED)), PASSED, ""),
        (result(Outcome.PASSED, 0, one(TestState.PASSED), one(TestState.XFAILED, "known")), FAILED, "known"),
        (result(Outcome.PASSED, 0, one(TestState.PASSED), one(TestState.EXPECTED, "ours")), FAILED, "ours"),
        (result(Outcome.SKIPPED, 1, one(TestState.SKIPPED, "no GPU")), NONE, "no GPU"),
        (result(Outcome.ERROR, 1, one(TestState.FAILED), one(TestState.ERROR, "fixture")), NONE, "fixture"),
        (result(Outcome.ERROR, 23, reason="building failed\n  where: x"), NONE, "building failed"),
        (result(Outcome.ERROR, LaunchError.exit_code, reason="slurmd died"), NONE, "slurmd died"),
        (result(Outcome.ERROR, CandidateError.exit_code, reason="not Pyxis"), NONE, "not Pyxis"),
    ],
)
def test_what_a_suites_result_answers(found: Result, answer: Judgement, why: str) -> None:
    judged, said = probing.judge(found, where="log", pytest=True)
    assert judged is answer
    assert why in said


@pytest.mark.parametrize(
    ("exit_code", "answer"), [(0, PASSED), (1, FAILED), (2, FAILED), (5, FAILED), (124, FAILED), (125, NONE)]
)
def test_what_a_commands_exit_status_answers(exit_code: int, answer: Judgement) -> None:
    outcome = Outcome.FAILED if exit_code else Outcome.SUCCEEDED
    assert probing.judge(result(outcome, exit_code), where="log", pytest=False)[0] is answer


@pytest.mark.parametrize(
    ("found", "pytest_ran", "kind"),
    [
        (result(Outcome.FAILED, 5), True, SelectionError),
        (result(Outcome.FAILED, 127), False, SelectionError),
        (result(Outcome.ERROR, 4, reason="pytest found an option wrong"), True, BisectError),
        (result(Outcome.ERROR, 20, reason="no engine"), True, BisectError),
        (result(Outcome.ERROR, 24, reason="disk full"), False, BisectError),
    ],
)
def test_what_is_not_the_steps_fault_ends_it(found: Result, kind: type[Exception], *, pytest_ran: bool) -> None:
    with pytest.raises(kind):
        probing.judge(found, where="log", pytest=pytest_ran)


# -- the command ----------------------------------------------------------------------------------------------------

Ran = list[list[str]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[str], Result]], Ran]:
    """Return a function that puts a double in the place of the processes, which answers by the cell's id."""
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path))
    monkeypatch.setattr(Arch, "host", lambda: Arch.AMD64)

    def put(answer: Callable[[str], Result]) -> Ran:
        ran: Ran = []

        def call(words: Sequence[str], *, log: Path, **_more: object) -> Completed:
            ran.append(list(words))
            store.write(answer(words[4]), log.parent / store.RESULT_FILE)
            return Completed(command=tuple(words), exit_code=0, output="")

        monkeypatch.setattr(console, "call", call)
        return ran

    return put


def by_release(**answers: Judgement | None) -> Callable[[str], Result]:
    """Return what answers for a cell by its Pyxis: passed before what is named, then so until the next that is."""

    def answer(cell: str) -> Result:
        found = PASSED
        for release, it in answers.items():
            if Version(cell.partition("-pyxis")[2].partition("-")[0]) >= Version(f"0.{release.removeprefix('v')}"):
                found = it or PASSED
        if found is NONE:
            return result(Outcome.ERROR, 23, reason="it does not build")
        state = TestState.PASSED if found is PASSED else TestState.FAILED
        return result(Outcome(found.value), int(found is FAILED), one(state, "because"))

    return answer


WORDS = ("bisect", "--axis", "pyxis", "--good", "0.19.0", "--bad", "0.24.0", "--cell", NAME, "--run", "r")
QUESTION = ("--", "pyxis_conformance", "-k", "variable")


def test_it_finds_the_release_and_shows_what_it_asked(
    answers: Callable[[Callable[[str], Result]], Ran], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ran = answers(by_release(v21=FAILED))
    assert main([*WORDS, *QUESTION]) == 0
    shown = capsys.readouterr()
    rows = [line.split()[:2] for line in shown.out.splitlines()[1:]]
    assert rows == [["0.19.0", "passed"], ["0.20.0", "passed"], ["0.21.0", "failed"], ["0.24.0", "failed"]]
    assert "test_failed: because" in shown.out
    said = " ".join(shown.err.split())
    assert "pyxis 0.21.0 is the first release with another answer: failed; up to 0.20.0 it is passed" in said
    assert "--checkout PATH --good 0.20.0 --bad 0.21.0" in said
    assert len(ran) == 4
    assert all("--answers-of pyxis=0.19.0" in " ".join(words) for words in ran)
    step = tmp_path / paths.BISECTIONS_FOLDER / "r" / NAME / "pyxis_conformance-asked"
    assert (step / store.RESULT_FILE).is_file()
    assert list(find([tmp_path])) == [], "a test asked for another release's answers is in no report"


def test_a_reason_is_shown_whole_and_that_it_changed_is_said(
    answers: Callable[[Callable[[str], Result]], Ran], capsys: pytest.CaptureFixture[str]
) -> None:
    """What failed for one reason in the middle and for another at the end are two changes, and look like one."""
    long = "srun: error: " + "a b " * 60 + "end"

    def answer(cell: str) -> Result:
        why = long if "0.24.0" in cell else "srun: error: job 5"
        found = by_release(v21=FAILED)(cell)
        return found if found.outcome is Outcome.PASSED else result(Outcome.FAILED, 1, one(TestState.FAILED, why))

    answers(answer)
    assert main([*WORDS, *QUESTION]) == 0
    shown = capsys.readouterr()
    assert " ".join(shown.out.split()).count("a b") == 60
    said = " ".join(shown.err.split())
    assert "for several reasons" in said
    assert "0.21.0: test_failed: srun: error: job 5 0.24.0: test_failed: srun: error: a b" in said
    answers(by_release(v21=FAILED))
    assert main([*WORDS, "--", "pyxis_conformance", "-k", "other"]) == 0
    assert "for several reasons" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({}, BisectError.exit_code, "the answer is the same at both ends: passed"),
        ({"v24": NONE}, BisectError.exit_code, "an end has no answer"),
        ({"v20": NONE, "v22": FAILED}, BisectRangeError.exit_code, "is one of 3: 0.20.0, 0.21.0, 0.22.0"),
    ],
)
def test_where_it_finds_none_it_says_why_and_has_a_code_of_its_own(
    answers: Callable[[Callable[[str], Result]], Ran],
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Judgement],
    code: int,
    says: str,
) -> None:
    answers(by_release(**changes))
    assert main([*WORDS, *QUESTION]) == code
    shown = capsys.readouterr()
    assert says in " ".join(shown.err.split())
    assert "0.19.0" in shown.out, "what was asked is shown in any case"


def test_one_that_was_interrupted_goes_on_and_asks_nothing_twice(
    answers: Callable[[Callable[[str], Result]], Ran], capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(cell: str) -> Result:
        if "0.21.0" in cell:
            raise signals.Interrupted(signal.SIGINT)
        return by_release(v21=FAILED)(cell)

    first = answers(interrupted)
    assert main([*WORDS, *QUESTION]) == 130
    assert "with --run r" in " ".join(capsys.readouterr().err.split())
    rest = answers(by_release(v21=FAILED))
    assert main([*WORDS, *QUESTION]) == 0
    assert [words[4].partition("-pyxis")[2][:6] for words in first] == ["0.19.0", "0.24.0", "0.21.0"]
    assert [words[4].partition("-pyxis")[2][:6] for words in rest] == ["0.21.0", "0.20.0"]
    assert "0.24.0" in capsys.readouterr().out, "earlier answers are shown with the others"
    other = answers(by_release(v21=FAILED))
    main([*WORDS, "--", "pyxis_conformance", "-k", "other"])
    assert len(other) == 4, "another question is asked anew"


def test_a_test_that_selects_nothing_ends_it_at_once(
    answers: Callable[[Callable[[str], Result]], Ran], capsys: pytest.CaptureFixture[str]
) -> None:
    ran = answers(lambda _cell: result(Outcome.FAILED, 5))
    assert main([*WORDS, *QUESTION]) == SelectionError.exit_code
    assert "selects no test" in capsys.readouterr().err
    assert len(ran) == 1


def test_commits_can_not_be_asked_of_enroot() -> None:
    wanted = span("3.4.1", "4.1.2", "enroot")
    with pytest.raises(SelectionError, match="--checkout cannot be used with --axis enroot"):
        steps.commits(wanted, None, replace(REAL), Options())  # type: ignore[arg-type] # it is not looked at


def test_a_command_is_run_on_the_login_node_of_the_environment_that_its_step_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = environment(
        NAME,
        run="r",
        containers=("the-node",),
        login=login(user="alice"),
        registry="localhost:5000",
        job_reference="localhost:5000/pyxis-matrix/job:1",
        engine_client="/usr/bin/docker",
    )
    environment_file.save(tmp_path / "environment.json", file)
    monkeypatch.setenv(environment_file.VARIABLE, str(tmp_path / "environment.json"))
    client = SimpleNamespace(path=Path("/usr/bin/docker"))
    engine = SimpleNamespace(build_client=client, found=SimpleNamespace(environment={"DOCKER_HOST": "unix:///d"}))
    monkeypatch.setattr(clusters, "connect", lambda: engine)
    became: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execvpe", lambda _file, words, environ: became.append((words, environ)))
    main(["shell", "--", "srun hostname && echo $HOME"])
    ((words, environ),) = became
    assert words[:2] == ["/usr/bin/docker", "exec"]
    assert words[-4:] == ["bash", "--login", "-c", "srun hostname && echo $HOME"]
    node = words.index("the-node")
    assert "--interactive" in words[:node], "what is piped into the command would be lost"
    assert words[node + 1 : node + 3] == ["env", "--ignore-environment"], (
        "the container's variables would be in its jobs"
    )
    assert {"USER=alice", "LOGNAME=alice", "HOME=/home/alice"} <= {*words[node:]}
    assert "JOB_IMAGE=localhost:5000/pyxis-matrix/job:1" in words
    assert words[words.index("--user") + 1] == "alice"
    assert environ["DOCKER_HOST"] == "unix:///d"
