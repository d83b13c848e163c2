"""`ci.report.retold`: a report is taken in beside newer results, so a cell is added without the files of the others."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
import pytest

from ci.cli.main import main
from ci.errors import ResultsError
from ci.record import planned
from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState
from ci.record.planned import PlannedCell, RunPlan
from ci.record.store import CellRecord, Result
from ci.report import finding, writing
from ci.report.merging import ReportRequest
from ci.report.model import Compat, Merged, State, SuiteReport
from tests.support import results as made
from tests.support.compared import FIRST, NEW, OLD, SECOND, Capture, Compare, on
from tests.support.merged import texts
from tests.support.results import BEGIN, Story, cell, passed, result, saw

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
OTHER = cell("24.11", "debian13", "4.1.2", "0.24.0")
DAY = timedelta(days=1)
LATER = BEGIN + DAY
NAME = "tests/integration/test_pyxis_basic.py::test_it"
NOT_ASKED = TestOutcome(name="t::b", outcome=TestState.NOT_ASKED)
SKIPPED = TestOutcome(name=NAME, outcome=TestState.SKIPPED)
Again = Callable[..., Merged]


@pytest.fixture
def again(tmp_path: Path) -> Again:
    """Return what makes a report of some results, throws them away, and merges the report with others."""

    def merge(told: list[Result], *newer: Result, kept: bool = False, length: int = 20) -> Merged:
        made.write(tmp_path / "old", *told)
        at(tmp_path / "told", [tmp_path / "old"])
        made.write(tmp_path / "new", *newer, *(told if kept else []))
        return merge_of([tmp_path / "told", tmp_path / "new"], tmp_path, length)

    return merge


def merge_of(roots: list[Path], base: Path, length: int = 20) -> Merged:
    asked = ReportRequest(roots=[it for it in roots if it.exists()], base=base, length=length)
    return writing.merge(asked, now=lambda: datetime(2026, 12, 1, tzinfo=UTC))


def at(folder: Path, roots: list[Path]) -> Merged:
    """Write a report into a folder."""
    folder.mkdir(exist_ok=True)
    merged = merge_of(roots, folder)
    writing.write(merged, folder)
    return merged


def suites(of: Merged) -> Mapping[tuple[str, str], SuiteReport]:
    return {(cell.id, suite.suite): suite for cell, suite in of.compat.results()}


def the_suite(of: Merged) -> SuiteReport:
    (found,) = suites(of).values()
    return found


def red(of: CellRecord = REAL, *names: str, **more: Any) -> Result:  # noqa: ANN401 - of `result`
    """Return a result with failed tests, and one that passed."""
    failed = [TestOutcome(name=it, outcome=TestState.FAILED, message="it broke") for it in names or (NAME,)]
    return result(of, outcome=Outcome.FAILED, tests=[*failed, passed("t::well")], **more)


KINDS = [
    *Story([REAL, OTHER, cell("25.11.7", "debian13", "4.1.2", "0.21.0")]).night(1),
    red(NEW, reason="one broke"),
    result(NEW, "registry", Outcome.ERROR, tests=[], reason="no cluster"),
    result(NEW, "slurm_facts", Outcome.SKIPPED, tests=[], reason="no mirror"),
    result(NEW, "mine", Outcome.SUCCEEDED, tests=[]),
    replace(result(FIRST, outcome=Outcome.PARTLY), selection=Selection(collected=9, deselected=8, by=("-k it",))),
    result(FIRST, "registry", reused_from="earlier"),
    result(FIRST, "pyxis_conformance", tests=[*saw({"task-prolog": "fails"}), passed("t::again")]),
    result(OLD, "registry", Outcome.PARTLY, tests=[passed("t::a"), NOT_ASKED]),
    result(OLD, "pyxis_advanced", tests=[TestOutcome(name="t::a", outcome=TestState.PASSED, reruns=2, message="late")]),
]


def test_a_report_alone_tells_what_it_told(tmp_path: Path) -> None:
    made.write(tmp_path / "old", *KINDS, result(REAL, run="from the future", started=datetime(2031, 1, 1, tzinfo=UTC)))
    before = at(tmp_path / "told", [tmp_path / "old"]).compat
    after = merge_of([tmp_path / "told"], tmp_path).compat
    assert len(before.cells) == 6
    assert without_files(after) == without_files(before)
    assert not [suite for _, suite in after.results() if suite.folder or suite.files], "it leads to no files"


def without_files(compat: Compat) -> Any:  # noqa: ANN401 - JSON
    cells = [
        replace(it, suites=tuple(replace(suite, folder="", files=()) for suite in it.suites)) for it in compat.cells
    ]
    # A result that can't be true, and that another one has taken the place of, is not in a report.
    gone = {"cells": tuple(cells), "contradictions": (), "runs": tuple(run for run in compat.runs if run.shown)}
    return json.loads(msgspec.json.encode(replace(compat, **gone)))


def test_a_cell_is_added_and_the_others_stay(again: Again) -> None:
    report = again([result(REAL), result(REAL, "registry")], result(OTHER, run="tomorrow", started=LATER))
    assert {key: suite.state for key, suite in suites(report).items()} == {
        (REAL.id, "pyxis_basic"): State.PASSED,
        (REAL.id, "registry"): State.PASSED,
        (OTHER.id, "pyxis_basic"): State.PASSED,
    }
    assert [run.id for run in report.compat.runs] == ["tomorrow", result(REAL).run]
    assert [len(suite.images) for suite in suites(report).values()] == [5, 5, 5]
    assert (report.compat.contradictions, report.compat.problems) == ((), ())


def test_a_newer_run_of_a_cell_takes_its_place_and_the_old_one_is_history(again: Again) -> None:
    told = result(REAL, "pyxis_conformance", tests=saw({"task-prolog": "fails"}))
    newer = result(REAL, "pyxis_conformance", tests=saw({"task-prolog": "starts"}), run="tomorrow", started=LATER)
    suite = the_suite(again([told], newer))
    assert (suite.run, suite.saw) == ("tomorrow", {"task-prolog": ("starts",)})
    assert [it.run for it in suite.history] == ["tomorrow", told.run]


def test_an_older_run_does_not(again: Again) -> None:
    report = again([result(REAL, run="told", started=LATER)], red(started=BEGIN, run="older"))
    assert (the_suite(report).run, the_suite(report).state, the_suite(report).reason) == ("told", State.PASSED, "")


@pytest.mark.parametrize("is_told", [True, False])
def test_a_part_of_a_suite_hides_no_whole_one(again: Again, *, is_told: bool) -> None:
    part = replace(result(REAL, outcome=Outcome.PARTLY), selection=Selection(collected=2, deselected=1, by=("-k it",)))
    newer = replace(part, run="tomorrow", started=LATER)
    assert the_suite(again([newer], result(REAL)) if is_told else again([result(REAL)], newer)).state is State.PASSED


@pytest.mark.parametrize(
    ("newer", "state"),
    [
        (result(REAL, run="b", started=LATER), State.PASSED),
        (result(REAL, run="b", started=LATER, tests=[passed("t::another")]), State.PASSED),
        (
            result(REAL, run="b", started=LATER, tests=[passed("t::x"), SKIPPED]),
            State.FAILED,
        ),
    ],
    ids=["asked", "removed", "skipped"],
)
def test_what_was_red_in_a_report_stands_until_it_is_asked_again(again: Again, newer: Result, state: State) -> None:
    suite = the_suite(again([red(run="a")], newer))
    assert suite.state is state
    assert ("run b is newer, but did not ask again" in suite.reason) == (state is State.FAILED)


def test_a_suite_that_was_red_as_a_whole_is_answered_by_one_that_a_report_tells(again: Again) -> None:
    older = result(REAL, outcome=Outcome.ERROR, tests=[], reason="no cluster", run="older")
    assert the_suite(again([result(REAL, started=LATER, run="told")], older)).state is State.PASSED


def test_its_own_result_counts_once_and_has_its_files(again: Again) -> None:
    found = suites(again(list(Story([REAL, OTHER, FIRST, SECOND, NEW]).night(1)), kept=True))
    assert {len(suite.history) for suite in found.values()} == {1}
    assert {suite.folder.partition("/")[0] for suite in found.values()} == {"new"}


def test_the_times_that_a_report_tells_are_limited_as_others_are(again: Again) -> None:
    told = [result(REAL, run=f"r{day}", started=BEGIN + day * DAY) for day in range(4)]
    suite = the_suite(again(told, result(REAL, run="r9", started=BEGIN + 9 * DAY), length=3))
    assert [it.run for it in suite.history] == ["r9", "r3", "r2"]


# -- what can't be true ---------------------------------------------------------------------------------------------


def test_a_report_and_results_that_say_the_opposite_of_one_run_are_named(again: Again) -> None:
    report = again([result(REAL, run="one")], red(run="one"))
    assert the_suite(report).state is State.FAILED
    assert "failed in one" in report.compat.contradictions[0].what


def test_a_later_answer_with_the_same_fingerprint_is_flaky_and_no_other_machines(again: Again) -> None:
    report = again([red(run="a", fingerprint="f")], result(REAL, run="b", started=LATER, fingerprint="f"))
    assert (the_suite(report).state, the_suite(report).flaky, report.compat.contradictions) == (State.PASSED, True, ())


def test_a_contradiction_is_told_as_long_as_its_result_counts(again: Again, tmp_path: Path) -> None:
    untrue = replace(red(), outcome=Outcome.PASSED, exit_code=0)
    report = again([untrue])
    assert "1 of its tests did not" in report.compat.contradictions[0].what
    assert the_suite(report).state is State.ERROR
    assert the_suite(report).reason.count("it contradicts itself") == 1
    made.write(tmp_path / "new", result(REAL, run="b", started=LATER))
    answered = merge_of([tmp_path / "told", tmp_path / "new"], tmp_path)
    assert (the_suite(answered).state, answered.compat.contradictions) == (State.PASSED, ())


def edited(folder: Path, of: Result, key: str, value: object) -> Path:
    """Write a result's report, and change what it says of the suite."""
    made.write(folder / "old", of)
    at(folder / "told", [folder / "old"])
    file = folder / "told/compat.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["cells"][0]["suites"][0][key] = value
    file.write_text(json.dumps(data), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("outcome", "passed", "it says passed, but 1 of its tests did not"),
        ("versions", {"pyxis": "0.24.0"}, "observed inside: pyxis"),
        ("started", "2031-01-01T00:00:00Z", "it is dated 2031-01-01"),
    ],
)
def test_a_report_that_somebody_changed_is_believed_no_more_than_a_result(
    tmp_path: Path, key: str, value: object, what: str
) -> None:
    report = merge_of([edited(tmp_path, red(), key, value)], tmp_path).compat
    assert what in report.contradictions[0].what
    assert [suite.state.red for _, suite in report.results()] == [True]


@pytest.mark.parametrize(
    ("key", "value"),
    [("counts", {"passed": 10**9}), ("counts", {}), ("images", [77])],
    ids=["more tests than there can be", "fewer than it has", "an image that is not there"],
)
def test_a_report_that_makes_no_sense_is_an_error_that_names_it(tmp_path: Path, key: str, value: object) -> None:
    of = result(REAL, tests=[TestOutcome(name="t::late", outcome=TestState.PASSED, reruns=1)])
    file = edited(tmp_path, of, key, value)
    with pytest.raises(ResultsError, match="a report is invalid") as caught:
        merge_of([file], tmp_path)
    assert f"{file}" in str(caught.value)
    assert f"{REAL.id} pyxis_basic" in str(caught.value)


# -- what else a report has -----------------------------------------------------------------------------------------


def test_what_was_planned_could_not_be_read_or_has_not_ended_is_still_told(tmp_path: Path) -> None:
    (bad,) = made.write(tmp_path / "old", result(REAL, "registry"))
    (bad / "result.json").write_text("{")
    made.write(tmp_path / "old", result(REAL), result(OTHER, outcome=Outcome.UNFINISHED, tests=[], run="r"))
    wanted = PlannedCell(id=REAL.id, suites=("pyxis_basic", "slurm_facts"), not_run="no room")
    plan = RunPlan(run="r", started=BEGIN, matrix="", cells=(wanted,))
    (tmp_path / "old/r" / planned.PLAN_FILE).write_bytes(msgspec.json.encode(plan))
    before = at(tmp_path / "told", [tmp_path / "old"]).compat
    after = merge_of([tmp_path / "told"], tmp_path).compat
    for of in (before, after):
        assert of.cells[0].missing == {"slurm_facts": "no room"}
        assert (len(of.problems), [it.cell for it in of.unfinished]) == (1, [OTHER.id])


def test_every_form_tells_of_a_suite_whose_tests_have_no_names(again: Again) -> None:
    report = again([result(REAL, tests=[passed(f"t::{it}") for it in range(7)])], result(OTHER))
    found = texts(report)
    assert all("7 passed" in found[form] for form in ("text", "html", "junit"))
    assert "::0" not in "".join(found.values()), "no name is made up"
    assert found["junit"].count("<testcase") == 1
    assert found["junit"].count('tests="1"') == 2


# -- on the command line --------------------------------------------------------------------------------------------


def test_a_report_is_only_read_where_it_is_named(tmp_path: Path) -> None:
    made.write(tmp_path / "results", result(REAL))
    made.write(tmp_path / "old", result(OTHER))
    at(tmp_path / "results/report", [tmp_path / "old"])
    assert {it.id for it in merge_of([tmp_path / "results"], tmp_path).compat.cells} == {REAL.id}
    report = tmp_path / "results/report"
    for named in (report, report / "compat.json"):
        roots = finding.places([str(tmp_path / "results"), str(named)], tmp_path)
        assert {it.id for it in merge_of(list(roots), tmp_path).compat.cells} == {REAL.id, OTHER.id}
    # Of a folder that has results, too, the report is what they came to before.
    made.write(report, result(FIRST))
    assert {it.id for it in merge_of([report], tmp_path).compat.cells} == {FIRST.id}


def test_a_cell_is_added_by_a_command(tmp_path: Path, capsys: Capture) -> None:
    compat = str(tmp_path / "compat")
    made.write(tmp_path / "old", result(REAL))
    assert main(["report", str(tmp_path / "old"), "--output", compat, "--without-files"]) == 0
    made.write(tmp_path / "new", result(OTHER, run="tomorrow", started=LATER))
    assert main(["report", compat, str(tmp_path / "new"), "--output", compat, "--without-files"]) == 0
    data = json.loads((tmp_path / "compat/compat.json").read_text())
    assert [it["id"] for it in data["cells"]] == [REAL.id, OTHER.id]
    assert [(it["kind"], it["cell"]) for it in data["changes"]["items"]] == [("new", OTHER.id)]
    assert main(["report", f"{compat}/compat.json"]) == 0
    assert "real cells: 2 passed" in capsys.readouterr().out
    (tmp_path / "compat/compat.json").write_text('{"schema": 1}')
    assert main(["report", compat, str(tmp_path / "new")]) == 40
    assert "a report has another schema" in capsys.readouterr().err


def test_a_report_and_results_are_compared(compare: Compare, tmp_path: Path) -> None:
    made.write(tmp_path / "old", on(OLD))
    at(tmp_path / "told", [tmp_path / "old"])
    both = ("--data", str(tmp_path / "told"), "--data", str(tmp_path / "results"))
    code, out, _ = compare([on(NEW, {"made-up": "worst"})], OLD.id, NEW.id, *both)
    assert (code, out.partition("\n")[0]) == (1, "differs; behaviours: 1 newly dangerous, 2 the same")
    # Beside results it is what they came to before.
    at(tmp_path / "results", [tmp_path / "results"])
    code, out, _ = compare([on(OLD)], OLD.id, NEW.id, "--data", str(tmp_path / "results"))
    assert (code, out.partition("\n")[0]) == (1, "differs; behaviours: 1 newly dangerous, 2 the same")
