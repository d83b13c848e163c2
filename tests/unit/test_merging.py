"""`ci.report.merging`: many results become one report, the newest counts, and nothing is lost."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace
from packaging.version import Version
import pytest

from ci.errors import ResultsError
from ci.matrix.loading import Matrix
from ci.matrix.suites import SUITES
from ci.record import planned
from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState
from ci.record.planned import PlannedCell, RunPlan
from ci.record.store import CellRecord, Result
from ci.report import grid, writing
from ci.report.merging import LONGEST_MESSAGE, ReportRequest
from ci.report.model import Compat, Merged, State
from ci.report.words import sentence
from tests.support import results as made
from tests.support.results import BEGIN, cell, passed, result
from tests.unit.conftest import Merge

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
NEWER = cell("24.11", "debian13", "4.1.2", "0.24.0")
EMBEDDED = cell("22.05", "debian12", kind="embedded")
LEGACY = cell("22.05", "debian12", kind="legacy")
DAY = timedelta(days=1)


def a_test(state: TestState, message: str = "", reruns: int = 0) -> TestOutcome:
    return TestOutcome(name=f"t::{state}", outcome=state, seconds=1.0, message=message, reruns=reruns)


KNOWN = (passed("t::a"), a_test(TestState.XFAILED, "a bare 404 (NVIDIA/enroot#273)"))


def states(report: Compat) -> dict[tuple[str, str], State]:
    return {(of.id, suite.suite): suite.state for of, suite in report.results()}


# -- which result counts --------------------------------------------------------------------------------------------


def test_the_newest_result_of_a_cell_and_suite_counts_and_the_others_are_its_history(merge: Merge) -> None:
    old = result(REAL, outcome=Outcome.FAILED, run="a", started=BEGIN)
    new = result(REAL, run="b", started=BEGIN + DAY)
    report = merge(new, old, result(REAL, "registry", run="a"))
    ((of, registry), (_, basic)) = sorted(report.results(), key=lambda it: it[1].suite, reverse=True)
    assert (of.id, registry.suite, basic.run, basic.state) == (REAL.id, "registry", "b", State.PASSED)
    assert [(past.run, past.state) for past in basic.history] == [("b", State.PASSED), ("a", State.FAILED)]
    assert [(run.id, run.results, run.shown) for run in report.runs] == [("b", 1, 1), ("a", 2, 1)]


def test_results_that_are_named_twice_count_once(tmp_path: Path, merge: Merge) -> None:
    merge(result(REAL, run="a"))
    copy = tmp_path / "elsewhere"
    made.write(copy, result(REAL, run="a"))
    report = writing.merge(ReportRequest(roots=(tmp_path / "results", copy), base=tmp_path)).compat
    assert [run.results for run in report.runs] == [1]
    assert [len(suite.history) for _, suite in report.results()] == [1]


def test_shards_of_one_run_on_several_machines_are_one_run(tmp_path: Path) -> None:
    for shard, of in (("shard-1", REAL), ("shard-2", NEWER)):
        made.write(tmp_path / shard / "results", result(of, run="fleet"))
    report = writing.merge(ReportRequest(roots=(tmp_path / "shard-1", tmp_path / "shard-2"), base=tmp_path)).compat
    assert [(run.id, run.shown) for run in report.runs] == [("fleet", 2)]
    assert {suite.folder for _, suite in report.results()} == {
        f"shard-1/results/fleet/{REAL.id}/pyxis_basic/",
        f"shard-2/results/fleet/{NEWER.id}/pyxis_basic/",
    }


def test_no_results_at_all_is_an_error_that_says_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ResultsError, match="no results found") as caught:
        writing.merge(ReportRequest(roots=(tmp_path,), base=tmp_path))
    assert "a result is invalid" in str(caught.value)


# -- what it came to ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "state"),
    [
        (result(REAL), State.PASSED),
        (result(REAL, reused_from="earlier"), State.REUSED),
        (result(REAL, tests=KNOWN), State.KNOWN),
        (result(REAL, tests=KNOWN, reused_from="earlier"), State.KNOWN),
        (result(REAL, outcome=Outcome.SKIPPED, tests=KNOWN[1:]), State.KNOWN),
        (result(REAL, outcome=Outcome.SKIPPED, tests=[], reason="no mirror"), State.NOT_RUN),
        (result(REAL, outcome=Outcome.FAILED, tests=KNOWN), State.FAILED),
        (result(REAL, outcome=Outcome.ERROR, reused_from="earlier"), State.ERROR),
        (result(REAL, outcome=Outcome.INTERRUPTED), State.INTERRUPTED),
        (result(REAL, outcome=Outcome.PARTLY), State.PARTLY),
        (result(REAL, tests=[passed("t::a"), a_test(TestState.EXPECTED, "theirs")]), State.PASSED),
        (result(REAL, "mine", outcome=Outcome.SUCCEEDED, tests=[]), State.SUCCEEDED),
    ],
)
def test_a_suite_says_what_it_came_to(merge: Merge, of: Result, state: State) -> None:
    assert list(states(merge(of)).values()) == [state]


@pytest.mark.parametrize(
    ("of_suites", "state"),
    [
        ((Outcome.PASSED, Outcome.FAILED, Outcome.ERROR), State.FAILED),
        ((Outcome.PASSED, Outcome.ERROR, Outcome.INTERRUPTED), State.ERROR),
        ((Outcome.PASSED, Outcome.SKIPPED), State.PARTLY),
        ((Outcome.PASSED, Outcome.PARTLY), State.PARTLY),
        ((Outcome.PARTLY, Outcome.FAILED), State.FAILED),
        ((Outcome.SKIPPED, Outcome.SKIPPED), State.NOT_RUN),
        ((Outcome.PASSED, Outcome.PASSED), State.PASSED),
    ],
)
def test_a_cell_is_as_good_as_its_worst_suite(merge: Merge, of_suites: tuple[Outcome, ...], state: State) -> None:
    report = merge(*(result(REAL, name, outcome) for name, outcome in zip(SUITES, of_suites, strict=False)))
    assert [it.state for it in report.cells] == [state]


def part(outcome: Outcome, *tests: TestOutcome, days: int = 1) -> Result:
    """Return a later result of a part of a suite."""
    later = result(REAL, outcome=outcome, run="part", started=BEGIN + days * DAY, tests=tests)
    return replace(later, selection=Selection(collected=11, deselected=10, by=("-k x",)))


@pytest.mark.parametrize("whole", [Outcome.FAILED, Outcome.ERROR, Outcome.INTERRUPTED, Outcome.PASSED])
@pytest.mark.parametrize(
    "later",
    [
        part(Outcome.PARTLY, passed("t::x")),
        part(Outcome.SKIPPED, a_test(TestState.SKIPPED, "no GPU")),
        part(Outcome.INTERRUPTED, passed("t::x")),
        part(Outcome.FAILED),
        part(Outcome.PARTLY, passed("t::x"), days=-1),
    ],
    ids=["passed", "skipped", "interrupted", "selected nothing", "earlier"],
)
def test_a_part_of_a_suite_in_which_no_test_failed_does_not_hide_what_the_whole_came_to(
    merge: Merge, whole: Outcome, later: Result
) -> None:
    for given in ((result(REAL, outcome=whole), later), (later, result(REAL, outcome=whole))):
        report = merge(*given)
        ((_, suite),) = report.results()
        assert (suite.outcome, len(suite.history)) == (whole, 2)
        assert report.cells[0].state.value == whole.value


def test_a_test_that_failed_counts_also_where_only_a_part_was_asked_for(merge: Merge) -> None:
    bad = a_test(TestState.FAILED, "1 == 2")
    report = merge(result(REAL), part(Outcome.FAILED, bad))
    assert report.cells[0].state is State.FAILED
    report = merge(result(REAL), part(Outcome.FAILED, bad), result(REAL, run="again", started=BEGIN + 2 * DAY))
    assert report.cells[0].state is State.PASSED


def test_a_part_alone_is_partly_run(merge: Merge) -> None:
    report = merge(part(Outcome.PARTLY, passed("t::x")))
    assert sentence(report.verdicts) == "real cells: 1 partly run"


@pytest.mark.parametrize("name", ["command", "theirs", "own-pyxis_conformance", "pyxis_conformance-asked"])
@pytest.mark.parametrize(
    ("outcome", "told"),
    [(Outcome.PASSED, "1 passed"), (Outcome.SUCCEEDED, "1 succeeded"), (Outcome.FAILED, "1 failed")],
)
def test_what_is_no_suite_of_the_project_says_nothing_of_its_cell(
    merge: Merge, name: str, outcome: Outcome, told: str
) -> None:
    own = f"suites and commands of your own: {told} (no verdict on their cells)"
    report = merge(result(REAL, name, outcome))
    assert sentence(report.verdicts) == f"real cells: 1 not run; {own}"
    assert [suite.outcome for _, suite in report.results()] == [outcome], "it is shown all the same"
    # Nor does it change what the project's suites say.
    report = merge(result(REAL, name, outcome), result(REAL, outcome=Outcome.PASSED))
    assert sentence(report.verdicts) == f"real cells: 1 passed; {own}"


def test_a_cell_is_reused_only_if_all_its_suites_are(merge: Merge) -> None:
    assert merge(result(REAL, reused_from="a"), result(REAL, "registry")).cells[0].state is State.PASSED
    assert merge(result(REAL, "registry", reused_from="a", started=BEGIN + DAY)).cells[0].state is State.REUSED


def test_embedded_and_legacy_are_never_counted_as_real_cells(merge: Merge) -> None:
    report = merge(result(EMBEDDED, outcome=Outcome.FAILED), result(LEGACY, "legacy_integration"))
    assert sentence(report.verdicts) == (
        "real cells: none run; embedded: 1 failed (not a compatibility verdict); legacy: 1 passed (no containers)"
    )
    report = merge(result(REAL, tests=KNOWN), result(NEWER, run="b"))
    assert sentence(report.verdicts).startswith("real cells: 1 passed, 1 with known failures, 2 not run; embedded:")
    assert [it.compatibility for it in report.verdicts] == [True, False, False]


def test_tests_that_passed_at_once_are_kept_apart_and_all_others_in_the_report(
    merge_all: Callable[..., Merged],
) -> None:
    tests = [passed("t::a", 0.25), a_test(TestState.PASSED, "flaked", reruns=1), a_test(TestState.FAILED, "1 == 2")]
    merged = merge_all(result(REAL, outcome=Outcome.FAILED, tests=tests))
    ((_, suite),) = merged.compat.results()
    assert suite.counts == {"passed": 2, "failed": 1}
    assert [(test.name, test.reruns, test.message) for test in suite.tests] == [
        ("t::passed", 1, "flaked"),
        ("t::failed", 0, "1 == 2"),
    ]
    assert merged.passed[REAL.id, "pyxis_basic"].names == ("t::a",)
    assert suite.reruns == 1


def test_a_known_failure_names_its_issue(merge: Merge) -> None:
    ((_, suite),) = merge(result(REAL, tests=KNOWN)).results()
    assert [test.issue for test in suite.tests] == ["NVIDIA/enroot#273"]


@pytest.mark.parametrize("message", ["no issue", "(javascript:alert(1))", "see (NVIDIA/enroot#1) there"])
def test_other_text_in_brackets_is_no_issue(merge: Merge, message: str) -> None:
    ((_, suite),) = merge(result(REAL, tests=[a_test(TestState.XFAILED, message)])).results()
    assert [test.issue for test in suite.tests] == [""]


def test_a_message_of_any_length_is_shortened_and_says_so(merge: Merge) -> None:
    long = "x" * (LONGEST_MESSAGE + 5)
    ((_, suite),) = merge(result(REAL, outcome=Outcome.FAILED, tests=[a_test(TestState.FAILED, long)])).results()
    assert suite.tests[0].message.endswith("\n[5 more characters are in result.json]")


def test_equal_images_and_artefacts_stand_once(merge: Merge) -> None:
    report = merge(result(REAL), result(REAL, "registry"))
    assert len(report.images) == len(result(REAL).images)
    assert [len(suite.images) for _, suite in report.results()] == [5, 5]
    assert report.artefacts == result(REAL).artefacts


# -- the grid -------------------------------------------------------------------------------------------------------


def test_the_grid_has_slurm_down_and_enroot_and_pyxis_across(merge: Merge) -> None:
    cells = [
        cell(slurm, "debian12", enroot, pyxis)
        for slurm in ("9.08", "22.05")
        for enroot, pyxis in (("4.1.2", "0.9.0"), ("3.4.1", "0.10.0"), ("4.1.2", "0.10.0"))
    ]
    (table,) = grid.tables(merge(*map(result, cells)))
    assert table.columns == [("3.4.1", "0.10.0"), ("4.1.2", "0.9.0"), ("4.1.2", "0.10.0")]
    assert table.groups == [("3.4.1", 1), ("4.1.2", 2)]
    assert [slurm for slurm, _, _ in table.rows] == ["9.08", "22.05"], "versions are sorted as versions"
    assert [[it.id for box in row for it in box.cells] for _, _, row in table.rows] == [
        [cells[1].id, cells[0].id, cells[2].id],
        [cells[4].id, cells[3].id, cells[5].id],
    ]


def test_architectures_and_runtimes_have_tables_of_their_own(merge: Merge) -> None:
    arm = cell("22.05", "debian12", "3.4.1", "0.19.0", arch="arm64")
    tables = grid.tables(merge(*map(result, (LEGACY, EMBEDDED, arm, REAL))))
    assert [(table.runtime, table.arch) for table in tables] == [
        ("nvidia", "amd64"),
        ("nvidia", "arm64"),
        ("embedded", ""),
        ("legacy", ""),
    ]
    assert tables[2].remark == "not a compatibility verdict"
    assert tables[2].columns == [("amd64", "")]


def test_a_place_without_a_result_says_why(merge: Merge, load_matrix: Callable[..., Matrix]) -> None:
    rows = load_matrix(
        extra='[[exclude]]\nslurm = "24.11"\nenroot = "3.4.1"\npyxis = "0.19.0"\nreason = "it hangs"\n'
        'issue = "NVIDIA/pyxis#1"'
    )
    ours = [CellRecord.of(it) for it in rows.all_cells(None) if it.runtime == "nvidia" and it.arch == "amd64"]
    first, other = ours[0], ours[-1]
    report = merge(result(first), result(other), rows=rows)
    why = {(gap.slurm, gap.enroot): (gap.reason, gap.issue) for gap in report.gaps}
    assert len(report.gaps) == 2
    assert why["22.05", "4.1.2"] == ("no result of it in these folders", "")
    assert why["24.11", "3.4.1"] == ("matrix.toml leaves it out: it hangs", "NVIDIA/pyxis#1")
    report = merge(result(cell("1.1", "debian12", "3.4.1", "0.19.0")), rows=rows)
    assert {gap.reason for gap in report.gaps if gap.slurm == "1.1"} == {"no such cell in matrix.toml"}


def test_a_candidate_is_missing_among_candidates_only(merge: Merge, load_matrix: Callable[..., Matrix]) -> None:
    candidates = "0.24.0+g1a2b3c4", "0.24.0+g5f6e7d8"
    places = [("22.05", "debian12"), ("24.11", "debian13")]
    cells = [cell(*place, "3.4.1", it) for place, it in zip(places, candidates, strict=True)]
    report = merge(*map(result, [*cells, cell("24.11", "debian13", "3.4.1", "0.24.0")]), rows=load_matrix())
    assert {(gap.pyxis, gap.reason) for gap in report.gaps} == {
        (it, "a candidate that was not put into this cell") for it in candidates
    }
    assert [[pyxis for _, pyxis in it.columns] for it in grid.tables(report)] == [["0.24.0"], [*candidates]]


def test_results_without_axes_have_their_place_too(merge: Merge) -> None:
    odd = CellRecord(id="odd", runtime="nvidia")
    (table, strange) = grid.tables(merge(result(odd), result(CellRecord(id="x", runtime="martian"))))
    assert [it.id for _, _, row in table.rows for box in row for it in box.cells] == ["odd"]
    assert strange.remark == "unknown runtime, not counted"


# -- what was planned -----------------------------------------------------------------------------------------------


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., None]:
    """Return a function that writes what a run of a group means to do."""

    def write(*cells: PlannedCell, run: str = "group", days: int = 0, **more: object) -> None:
        plan = RunPlan(run=run, started=BEGIN + days * DAY, matrix="", cells=cells, **more)  # type: ignore[arg-type]
        (tmp_path / "results" / run).mkdir(parents=True, exist_ok=True)
        planned.begin(plan, tmp_path / "results" / run)

    return write


def test_cells_that_are_planned_have_their_place_before_they_have_results(
    merge: Merge, plan_of: Callable[..., None], load_matrix: Callable[..., Matrix]
) -> None:
    rows = load_matrix()
    cells = [it for it in rows.all_cells(None) if it.runtime == "nvidia" and it.pyxis == Version("0.24.0")]
    real, other = (it for it in cells if it.arch == "amd64" and it.slurm.version == "24.11")
    embedded = next(it for it in rows.all_cells(None) if it.runtime == "embedded")
    plan_of(
        PlannedCell(id=real.id, suites=("pyxis_basic",)),
        PlannedCell(id=embedded.id, suites=("pyxis_basic",)),
        left_out={other.id: "it needs arm64 hardware"},
    )
    report = merge(rows=rows)
    assert {gap.id: gap.reason for gap in report.gaps} == {
        real.id: "planned by the run group, and there is no result yet",
        other.id: "it needs arm64 hardware",
        embedded.id: "planned by the run group, and there is no result yet",
    }
    assert [(table.runtime, table.cells) for table in grid.tables(report)] == [("nvidia", 0), ("embedded", 0)]
    assert sentence(report.verdicts) == "real cells: 2 not run; embedded: 1 not run (not a compatibility verdict)"


def test_a_suite_that_was_planned_and_has_no_result_is_not_overlooked(
    merge: Merge, plan_of: Callable[..., None]
) -> None:
    plan_of(PlannedCell(id=REAL.id, suites=("pyxis_basic", "registry")))
    (one,) = merge(result(REAL)).cells
    assert (one.state, one.missing) == (
        State.PARTLY,
        {"registry": "planned by the run group, and there is no result yet"},
    )
    (one,) = merge(result(REAL, "registry")).cells
    assert (one.state, one.missing) == (State.PASSED, {})


def test_the_newest_plan_with_a_cell_counts(merge: Merge, plan_of: Callable[..., None]) -> None:
    plan_of(PlannedCell(id=REAL.id, suites=("pyxis_basic",)), run="new", days=1)
    plan_of(PlannedCell(id=REAL.id, suites=("pyxis_basic", "registry")), run="old")
    assert merge(result(REAL)).cells[0].missing == {}


def test_a_plan_that_can_not_be_read_is_named(tmp_path: Path, merge: Merge) -> None:
    (tmp_path / "results/run").mkdir(parents=True)
    (tmp_path / "results/run/matrix.json").write_text("{")
    (problem,) = merge(result(REAL)).problems
    assert problem.what.startswith("the plan of a run is invalid: ")
