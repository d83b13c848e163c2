"""`ci.results.merging`: many results become one report, the newest counts, and nothing is lost."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace
import pytest

from ci.errors import ResultsError
from ci.matrix.loading import Matrix
from ci.results import compat, grid, writing
from ci.results.compat import ChangeKind, Compat, State
from ci.results.merging import LONGEST_MESSAGE, Merged
from ci.results.outcomes import Outcome, TestOutcome, TestState
from ci.results.store import CellRecord, Result
from ci.results.words import sentence
from ci.results.writing import Asked
from tests.support import results as made
from tests.support.results import BEGIN, cell, passed, result

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
NEWER = cell("24.11", "debian13", "4.1.2", "0.24.0")
EMBEDDED = cell("22.05", "debian12", kind="embedded")
LEGACY = cell("22.05", "debian12", kind="legacy")
DAY = timedelta(days=1)
Merge = Callable[..., Compat]


def a_test(state: TestState, message: str = "", reruns: int = 0) -> TestOutcome:
    return TestOutcome(name=f"t::{state}", outcome=state, seconds=1.0, message=message, reruns=reruns)


KNOWN = (passed("t::a"), a_test(TestState.XFAILED, "a bare 404 (NVIDIA/enroot#273)"))


@pytest.fixture
def merge_all(tmp_path: Path) -> Callable[..., Merged]:
    """Return a function that writes results and merges them."""

    def merge(*of: Result, previous: Compat | None = None, rows: Matrix | None = None, length: int = 20) -> Merged:
        made.write(tmp_path / "results", *of)
        asked = Asked(
            roots=(tmp_path / "results",), base=tmp_path / "report", previous=previous, rows=rows, length=length
        )
        return writing.merge(asked, now=lambda: datetime(2026, 12, 1, tzinfo=UTC))

    return merge


@pytest.fixture
def merge(merge_all: Callable[..., Merged]) -> Merge:
    """Return a function that writes results and returns their report."""
    return lambda *of, **more: merge_all(*of, **more).compat


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
    report = writing.merge(Asked(roots=(tmp_path / "results", copy), base=tmp_path)).compat
    assert [run.results for run in report.runs] == [1]
    assert [len(suite.history) for _, suite in report.results()] == [1]


def test_shards_of_one_run_on_several_machines_are_one_run(tmp_path: Path) -> None:
    for shard, of in (("shard-1", REAL), ("shard-2", NEWER)):
        made.write(tmp_path / shard / "results", result(of, run="fleet"))
    report = writing.merge(Asked(roots=(tmp_path / "shard-1", tmp_path / "shard-2"), base=tmp_path)).compat
    assert [(run.id, run.shown) for run in report.runs] == [("fleet", 2)]
    assert {suite.folder for _, suite in report.results()} == {
        f"shard-1/results/fleet/{REAL.id}/pyxis_basic/",
        f"shard-2/results/fleet/{NEWER.id}/pyxis_basic/",
    }


def test_no_results_at_all_is_an_error_that_says_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ResultsError, match="no results found") as caught:
        writing.merge(Asked(roots=(tmp_path,), base=tmp_path))
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
        ((Outcome.SKIPPED, Outcome.SKIPPED), State.NOT_RUN),
        ((Outcome.PASSED, Outcome.PASSED), State.PASSED),
    ],
)
def test_a_cell_is_as_good_as_its_worst_suite(merge: Merge, of_suites: tuple[Outcome, ...], state: State) -> None:
    report = merge(*(result(REAL, f"s{number}", outcome) for number, outcome in enumerate(of_suites)))
    assert [it.state for it in report.cells] == [state]


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
    assert table.columns == (("3.4.1", "0.10.0"), ("4.1.2", "0.9.0"), ("4.1.2", "0.10.0"))
    assert table.groups == (("3.4.1", 1), ("4.1.2", 2))
    assert [row.slurm for row in table.rows] == ["9.08", "22.05"], "versions are sorted as versions"
    assert [[it.id for box in row.boxes for it in box.cells] for row in table.rows] == [
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
    assert tables[2].columns == (("amd64", ""),)


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


def test_results_without_axes_have_their_place_too(merge: Merge) -> None:
    odd = CellRecord(id="odd", runtime="nvidia")
    (table, strange) = grid.tables(merge(result(odd), result(CellRecord(id="x", runtime="martian"))))
    assert [it.id for row in table.rows for box in row.boxes for it in box.cells] == ["odd"]
    assert strange.remark == "unknown runtime, not counted"


# -- history --------------------------------------------------------------------------------------------------------


def nights(*outcomes: Outcome, fingerprint: str = "f", seconds: tuple[float, ...] = ()) -> list[Result]:
    return [
        result(
            REAL,
            outcome=outcome,
            run=f"r{number}",
            started=BEGIN + number * DAY,
            fingerprint=fingerprint,
            seconds=seconds[number] if seconds else 10.0,
        )
        for number, outcome in enumerate(outcomes)
    ]


def the_suite(report: Compat) -> compat.SuiteReport:
    ((_, suite),) = report.results()
    return suite


def test_history_goes_on_from_the_previous_report_and_is_cut_at_its_length(tmp_path: Path, merge: Merge) -> None:
    before = merge(*nights(Outcome.PASSED, Outcome.FAILED, Outcome.PASSED))
    made.write(tmp_path / "new", result(REAL, run="r3", started=BEGIN + 3 * DAY))
    asked = Asked(roots=(tmp_path / "new",), base=tmp_path, previous=before, length=3)
    after = the_suite(writing.merge(asked).compat)
    assert [past.run for past in after.history] == ["r3", "r2", "r1"]


def test_both_outcomes_with_one_fingerprint_are_flaky(merge: Merge) -> None:
    assert the_suite(merge(*nights(Outcome.PASSED, Outcome.FAILED))).flaky


@pytest.mark.parametrize("outcomes", [(Outcome.FAILED, Outcome.FAILED), (Outcome.PASSED, Outcome.INTERRUPTED)])
def test_one_outcome_is_not_flaky(merge: Merge, outcomes: tuple[Outcome, ...]) -> None:
    assert not the_suite(merge(*nights(*outcomes))).flaky


def test_without_a_fingerprint_or_with_another_one_nobody_knows(merge: Merge) -> None:
    assert not the_suite(merge(*nights(Outcome.PASSED, Outcome.FAILED, fingerprint=""))).flaky
    changed = replace(nights(Outcome.PASSED, Outcome.FAILED)[1], fingerprint="other", started=BEGIN + 9 * DAY)
    assert not the_suite(merge(result(REAL, fingerprint="f", started=BEGIN + 8 * DAY), changed)).flaky


def test_what_was_reused_was_not_run_again_and_proves_nothing_new(merge: Merge) -> None:
    failed, reused = nights(Outcome.FAILED, Outcome.PASSED)
    assert not the_suite(merge(failed, replace(reused, reused_from="r9"))).flaky


def test_a_trend_needs_enough_earlier_times(merge: Merge) -> None:
    assert the_suite(merge(*nights(*[Outcome.PASSED] * 3, seconds=(10, 11, 30)))).trend == 0
    assert the_suite(merge(*nights(*[Outcome.PASSED] * 4, seconds=(10, 11, 12, 22)))).trend == 2.0


# -- what changed ---------------------------------------------------------------------------------------------------


def changed(before: Compat, after: Compat) -> list[tuple[ChangeKind, str]]:
    assert after.changes is not None
    assert after.changes.since == before.made
    return [(it.kind, f"{it.before} {it.after}") for it in after.changes.items]


@pytest.mark.parametrize(
    ("was", "now", "change"),
    [
        (Outcome.PASSED, Outcome.FAILED, (ChangeKind.BROKEN, "passed failed")),
        (Outcome.ERROR, Outcome.PASSED, (ChangeKind.FIXED, "error passed")),
        (Outcome.ERROR, Outcome.FAILED, (ChangeKind.CHANGED, "error failed")),
        (Outcome.PASSED, Outcome.SKIPPED, (ChangeKind.CHANGED, "passed not run")),
    ],
)
def test_what_changed_is_named(merge: Merge, was: Outcome, now: Outcome, change: tuple[ChangeKind, str]) -> None:
    before = merge(result(REAL, outcome=was))
    after = merge(result(REAL, outcome=now, run="b", started=BEGIN + DAY), previous=before)
    assert changed(before, after) == [change]


def test_that_it_was_reused_is_no_change(merge: Merge) -> None:
    before = merge(result(REAL))
    assert changed(before, merge(result(REAL, reused_from="a", started=BEGIN + DAY), previous=before)) == []


def test_other_versions_inside_are_a_change(merge: Merge) -> None:
    before = merge(result(REAL))
    new = result(REAL, started=BEGIN + DAY)
    after = merge(replace(new, versions={**new.versions, "kernel": "6.12"}), previous=before)
    assert changed(before, after) == [(ChangeKind.VERSIONS, "passed passed")]
    assert after.changes is not None
    assert after.changes.items[0].versions == {"kernel": ("6.1.0-44-amd64", "6.12")}


def test_new_and_gone_suites_are_named(tmp_path: Path, merge: Merge) -> None:
    before = merge(result(REAL))
    made.write(tmp_path / "b", result(NEWER))
    after = writing.merge(Asked(roots=(tmp_path / "b",), base=tmp_path, previous=before)).compat
    assert changed(before, after) == [(ChangeKind.NEW, "None passed"), (ChangeKind.GONE, "passed None")]


def test_making_a_report_again_of_the_same_results_keeps_what_it_told(merge: Merge) -> None:
    first = merge(result(REAL))
    second = merge(result(REAL, outcome=Outcome.FAILED, run="b", started=BEGIN + DAY), previous=first)
    assert merge(previous=second).changes == second.changes
