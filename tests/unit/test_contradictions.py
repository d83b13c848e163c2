"""Results that can't be true, and results that disagree: each is named in every form; none is a reason for green."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace
import pytest

from ci.errors import ResultsError
from ci.group import reuse
from ci.record import store
from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState
from ci.record.store import Result
from ci.report import finding, writing
from ci.report.finding import FoundResult
from ci.report.merging import ReportRequest
from ci.report.model import Merged, State
from tests.support import results as made
from tests.support.merged import printed, states, texts
from tests.support.questions import questions
from tests.support.results import BEGIN, cell, passed, result

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
ARCHIVE = cell("25.11.7", "debian13", "4.1.2", "0.24.0")
CANDIDATE = cell("22.05", "debian12", "3.4.1", "0.24.0+g1a2b3c4")
EMBEDDED = cell("22.05", "debian12", kind="embedded")
LEGACY = cell("22.05", "debian12", kind="legacy")
ARM = cell("24.11", "debian13", "4.1.2", "0.24.0", arch="arm64")
SITE = replace(REAL, id=f"{REAL.id}@blue", site="blue")
GOOD = result(REAL)
NOW = datetime(2026, 12, 1, tzinfo=UTC)
GREEN = {State.PASSED, State.REUSED, State.KNOWN}
Capture = pytest.CaptureFixture[str]


def a_test(state: TestState, name: str = "t::x") -> TestOutcome:
    return TestOutcome(name=name, outcome=state, message="why")


def with_versions(of: Result, **versions: str) -> Result:
    return replace(of, versions={**of.versions, **versions})


def with_cell(of: Result, **values: object) -> Result:
    return replace(of, cell=replace(of.cell, **values))


def without_versions(of: Result, *names: str) -> Result:
    return replace(of, versions={name: it for name, it in of.versions.items() if name not in names})


def with_selection(of: Result, collected: int, deselected: int = 0, *by: str) -> Result:
    return replace(of, selection=Selection(collected=collected, deselected=deselected, by=by))


PART = with_selection(result(REAL, outcome=Outcome.PARTLY), 10, 9, "-k a")
KNOWN = result(REAL, outcome=Outcome.SKIPPED, tests=[a_test(TestState.XFAILED)])
LIES = {
    "a failed test": (result(REAL, tests=[passed("t::a"), a_test(TestState.FAILED)]), "1 of its tests did not"),
    "a test that broke": (result(REAL, tests=[passed("t::a"), a_test(TestState.ERROR)]), "1 of its tests did not"),
    "a test that did not end": (
        result(REAL, tests=[passed("t::a"), a_test(TestState.INTERRUPTED)]),
        "t::x interrupted",
    ),
    "no test": (result(REAL, tests=[]), "no test passed"),
    "only tests that were skipped": (result(REAL, tests=[a_test(TestState.SKIPPED)]), "no test passed"),
    "only known failures": (result(REAL, tests=[a_test(TestState.XFAILED)]), "no test passed"),
    "a test twice": (result(REAL, tests=[passed("t::a"), passed("t::a")]), "it lists a test twice: t::a"),
    "an exit code": (replace(GOOD, exit_code=1), "it says passed, but its exit code is 1"),
    "embedded as real": (
        with_cell(result(EMBEDDED), runtime="nvidia"),
        "its runtime is nvidia, but the id says embedded",
    ),
    "real as legacy": (with_cell(GOOD, runtime="legacy"), "its runtime is legacy, but the id says nvidia"),
    "no id": (with_cell(GOOD, id="a-cell"), "a-cell is not the id of a cell"),
    "another axis": (
        with_cell(GOOD, axes={**REAL.axes, "pyxis": "0.24.0"}),
        "its pyxis is 0.24.0, but the id says 0.19.0",
    ),
    "no axis": (with_cell(GOOD, axes={**REAL.axes, "enroot": None}), "its enroot is none, but the id says 3.4.1"),
    "another system": (with_cell(GOOD, os="debian13", axes={}), "its os is debian13, but the id says debian12"),
    "another Pyxis inside": (
        with_versions(GOOD, pyxis="0.24.0"),
        "pyxis is 0.24.0, not 0.19.0 as the id says",
    ),
    "another enroot inside": (with_versions(GOOD, enroot="3.4.10"), "observed inside: enroot is 3.4.10, not"),
    "another Slurm inside": (with_versions(GOOD, slurm="22.050.8"), "observed inside: slurm is 22.050.8, not"),
    "another release of Slurm": (
        with_versions(result(ARCHIVE), slurm="25.11.6"),
        "slurm is 25.11.6, not",
    ),
    "another release of a candidate": (
        with_versions(result(CANDIDATE), pyxis="0.23.0"),
        "pyxis is 0.23.0, not",
    ),
    "another machine inside": (with_versions(GOOD, arch="aarch64"), "observed inside: arch is aarch64, not amd64"),
    "another system inside": (
        with_versions(GOOD, os="Debian GNU/Linux 13 (trixie)"),
        "os is Debian GNU/Linux 13 (t",
    ),
    "nothing observed": (replace(GOOD, versions={}), "slurm is unknown, not 22.05"),
    "only Slurm observed": (replace(GOOD, versions={"slurm": "22.05.8"}), "pyxis is unknown, not 0.19.0"),
    "no machine observed": (without_versions(GOOD, "arch"), "arch is unknown, not amd64"),
    "no system observed": (without_versions(GOOD, "os"), "os is unknown, not debian12"),
    "a candidate that nobody saw": (
        without_versions(result(CANDIDATE), "pyxis"),
        "pyxis is unknown, not 0.24.0+g1a2b3c4",
    ),
    "embedded, nothing observed": (replace(result(EMBEDDED), versions={}), "slurm is unknown, not 22.05"),
    "legacy, nothing observed": (replace(result(LEGACY), versions={}), "slurm is unknown, not 22.05"),
    "a site, nothing observed": (replace(result(SITE, outcome=Outcome.PARTLY), versions={}), "slurm is unknown, not"),
    "reused, nothing observed": (replace(GOOD, versions={}, reused_from="earlier"), "slurm is unknown, not 22.05"),
    "a part, nothing observed": (replace(PART, versions={}), "slurm is unknown, not 22.05"),
    "known failures, nothing observed": (replace(KNOWN, versions={}), "slurm is unknown, not 22.05"),
    "no selection": (replace(GOOD, selection=None), "it says passed, but not which tests were selected"),
    "a part without selection": (
        replace(PART, selection=None),
        "it says partly run, but not which tests were selected",
    ),
    "known failures without selection": (replace(KNOWN, selection=None), "it says skipped, but not which tests were"),
    "tests that did not run": (
        with_selection(GOOD, 10),
        "it says passed, but has 1 of the 10 tests that were selected",
    ),
    "a module in the place of tests": (
        with_selection(result(REAL, tests=[passed("t::a"), a_test(TestState.SKIPPED, "u")]), 2),
        "it says passed, but has 1 of the 2 tests that were selected",
    ),
    "a part in which tests did not run": (with_selection(PART, 10, 1, "-k a"), "but has 1 of the 9 tests that were"),
    "tests that were deselected": (
        with_selection(GOOD, 10, 9),
        "it says passed, but 9 of its 10 tests were deselected",
    ),
    "a part as the whole": (with_selection(GOOD, 10, 9, "-k a"), "only a part of the suite was asked for: -k a"),
    "a test that was not asked": (
        result(REAL, tests=[passed("t::a"), a_test(TestState.NOT_ASKED)]),
        "it says passed, but 1 of its tests were not asked",
    ),
    "a failed test under skipped": (
        result(REAL, outcome=Outcome.SKIPPED, tests=[a_test(TestState.XFAILED), a_test(TestState.FAILED, "t::y")]),
        "it says skipped, but 1 of its tests did not: t::y failed",
    ),
    "a command in the place of a suite": (
        result(REAL, outcome=Outcome.SUCCEEDED, tests=[]),
        "it says succeeded, as a command does, but pyxis_basic is a suite with tests",
    ),
    "a date to come": (result(REAL, started=datetime(2031, 1, 1, tzinfo=UTC)), "it is dated 2031-01-01 00:00"),
}
TRUE = {
    "as it is": GOOD,
    "a series": with_versions(GOOD, slurm="22.05.8"),
    "a package's number": with_versions(GOOD, slurm="22.05.8-1"),
    "a candidate": with_versions(result(CANDIDATE), pyxis="0.24.0"),
    "as a system says it": with_versions(result(ARM), arch="aarch64", os="Debian GNU/Linux 13 (trixie)"),
    "a system without a number": with_versions(
        result(cell("26.05", "sid", "4.1.2", "0.24.0")), os="Debian GNU/Linux forky/sid"
    ),
    "embedded": with_versions(result(EMBEDDED), enroot="9.9"),
    "legacy": result(LEGACY, "legacy_integration"),
    "a candidate that knows no commit": result(CANDIDATE),
    "a site whose owner said its enroot and Pyxis": without_versions(result(SITE), "enroot", "pyxis"),
    "reused": replace(GOOD, reused_from="earlier"),
    "all are known failures": KNOWN,
    "a known failure beside": result(REAL, tests=[passed("t::a"), a_test(TestState.XFAILED)]),
    "a command": result(EMBEDDED, "command", outcome=Outcome.SUCCEEDED, tests=[]),
    "a clock that is a little ahead": result(REAL, started=NOW + timedelta(minutes=5)),
}


def seeing(of: Result) -> Result:
    """Return the result, with tests that saw a hazard."""
    saw = (("by-slurm", "on the host"),)
    return replace(of, tests=tuple(replace(test, saw=saw) for test in of.tests))


# -- one result -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", LIES)
def test_a_result_that_can_not_be_true_has_observed_nothing(merged: Callable[..., Merged], lie: str) -> None:
    with questions():
        (cell,) = merged([seeing(LIES[lie][0])]).compat.cells
    assert (cell.hazards, [suite.saw for suite in cell.suites]) == ((), [{}])


@pytest.mark.parametrize("truth", TRUE)
def test_a_result_that_can_be_true_has_observed_what_its_tests_saw(merged: Callable[..., Merged], truth: str) -> None:
    with questions():
        (cell,) = merged([seeing(TRUE[truth])]).compat.cells
    assert (cell.hazards == ("by-slurm",)) == bool(TRUE[truth].tests)


@pytest.mark.parametrize("lie", LIES)
def test_a_result_that_can_not_be_true_is_an_error_and_is_named_in_every_form(
    lie: str, merged: Callable[..., Merged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    of, words = LIES[lie]
    report = merged([of])
    assert states(report) == [State.ERROR]
    assert [it.state for it in report.compat.cells] == [State.ERROR]
    assert words in "".join(it.what for it in report.compat.contradictions)
    for name, text in texts(report).items():
        assert words in text, name
    code, text = printed(tmp_path, monkeypatch, capsys)
    assert code == ResultsError.exit_code
    assert "! error" in text
    assert words.partition(", and now")[0] in text
    assert "real cells: 1 passed" not in text


@pytest.mark.parametrize("truth", TRUE)
def test_a_result_that_can_be_true_is_believed(truth: str, merged: Callable[..., Merged]) -> None:
    report = merged([TRUE[truth]])
    assert report.compat.contradictions == ()
    assert set(states(report)) <= GREEN | {State.SUCCEEDED}


@pytest.mark.parametrize(
    "truth",
    [
        PART,
        with_selection(result(REAL, "mine"), 10, 9),  # their settings leave the others out
        replace(result(SITE, outcome=Outcome.PARTLY, tests=[passed("t::a"), a_test(TestState.NOT_ASKED)])),
        replace(result(REAL, outcome=Outcome.SKIPPED, tests=[]), versions={}),
        replace(result(REAL, outcome=Outcome.ERROR, tests=[]), versions={}),
        replace(result(REAL, outcome=Outcome.INTERRUPTED, tests=[]), versions={"slurm": "22.05.8"}),
    ],
)
def test_what_claims_no_more_than_it_saw_is_believed(merged: Callable[..., Merged], truth: Result) -> None:
    assert merged([truth]).compat.contradictions == ()


def test_a_part_of_a_suite_of_ones_own_is_no_whole_one(merged: Callable[..., Merged]) -> None:
    report = merged([with_selection(result(REAL, "mine"), 10, 9, "-k a")])
    assert (states(report), len(report.compat.contradictions)) == ([State.ERROR], 1)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ERROR, Outcome.INTERRUPTED])
def test_what_is_red_and_ended_well_is_named_and_stays_red(merged: Callable[..., Merged], outcome: Outcome) -> None:
    report = merged([replace(result(REAL, outcome=outcome), exit_code=0)])
    assert [it.what for it in report.compat.contradictions] == [f"it says {outcome}, but its exit code is 0"]
    assert states(report) == [State.FAILED if outcome is Outcome.FAILED else State.ERROR]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("run/other/pyxis_basic", f"its cell is {REAL.id}, but its folder is that of other"),
        (f"run/{REAL.id}/registry", "its suite is pyxis_basic, but its folder is that of registry"),
    ],
)
def test_a_result_in_another_ones_folder_is_an_error(tmp_path: Path, where: str, words: str) -> None:
    store.write(GOOD, tmp_path / where / "result.json")
    report = writing.merge(ReportRequest(roots=(tmp_path,), base=tmp_path), now=lambda: NOW)
    assert states(report) == [State.ERROR]
    assert [it.what for it in report.compat.contradictions] == [words]


def test_a_result_that_can_not_be_true_does_not_decide_what_kind_of_cell_it_is(merged: Callable[..., Merged]) -> None:
    bad = with_cell(result(REAL, "registry", started=BEGIN + timedelta(days=1)), runtime="legacy")
    report = merged([result(REAL, outcome=Outcome.FAILED), bad])
    assert [(it.runtime, it.state) for it in report.compat.cells] == [("nvidia", State.FAILED)]


@pytest.mark.parametrize("lie", ["a failed test", "a date to come"])
def test_what_can_not_be_true_is_not_reused_and_hides_nothing(tmp_path: Path, lie: str) -> None:
    lied = replace(
        LIES[lie][0], fingerprint="f", run="lie", started=max(LIES[lie][0].started, BEGIN + timedelta(days=1))
    )
    made.write(tmp_path, lied)
    assert reuse.unchanged(reuse.earlier(tmp_path, REAL.id, "pyxis_basic", but="now"), "f") is None
    made.write(tmp_path, result(REAL, outcome=Outcome.FAILED, run="failed", fingerprint="f"))
    assert reuse.unchanged(reuse.earlier(tmp_path, REAL.id, "pyxis_basic", but="now"), "f") is None


# -- several results ------------------------------------------------------------------------------------------------


def test_one_that_is_dated_in_the_future_hides_nothing_that_came_later(merged: Callable[..., Merged]) -> None:
    future = result(REAL, run="future", started=datetime(2031, 1, 1, tzinfo=UTC))
    report = merged([future, result(REAL, outcome=Outcome.FAILED, run="now")])
    ((_, suite),) = report.compat.results()
    assert (suite.run, suite.state) == ("now", State.FAILED)
    assert [it.run for it in suite.history] == ["now", "future"]
    assert [(it.run, it.what[:22]) for it in report.compat.contradictions] == [("future", "it is dated 2031-01-01")]


# -- not finished ---------------------------------------------------------------------------------------------------

BEGUN = replace(result(REAL, outcome=Outcome.UNFINISHED, tests=[], reason="it began and has not ended"), exit_code=40)


def test_what_did_not_end_is_so_in_every_form(
    merged: Callable[..., Merged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    report = merged([result(REAL, run="before", started=BEGIN - timedelta(days=1)), BEGUN])
    assert states(report) == [State.UNFINISHED]
    assert [(it.run, it.suite) for it in report.compat.unfinished] == [(BEGUN.run, "pyxis_basic")]
    for name, text in texts(report).items():
        assert "not finished" in text.lower(), name
        assert BEGUN.reason in text, name
    code, text = printed(tmp_path, monkeypatch, capsys)
    assert code == 0
    assert "… not finished" in text
    assert "real cells: 1 not finished" in text


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_beginning_gives_way_to_what_it_came_to(merged: Callable[..., Merged], order: list[int]) -> None:
    report = merged([BEGUN], [GOOD], order=order)
    ((_, suite),) = report.compat.results()
    assert (suite.state, len(suite.history)) == (State.PASSED, 1)
    assert (report.compat.unfinished, report.compat.contradictions) == ((), ())


def test_what_was_found_tells_what_its_file_says(tmp_path: Path) -> None:
    made.write(tmp_path, LIES["no test"][0])
    (found,) = finding.find([tmp_path])
    assert isinstance(found, FoundResult)
    assert (found.result.outcome, found.result.exit_code) == (Outcome.ERROR, ResultsError.exit_code)
