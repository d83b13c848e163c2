"""`ci.report.history`: earlier times of a suite, flaky or not, faster or slower, and what changed."""

from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace
import pytest

from ci.record.outcomes import Outcome
from ci.record.store import Result
from ci.report import writing
from ci.report.merging import ReportRequest
from ci.report.model import ChangeKind, Compat, SuiteReport
from tests.support import results as made
from tests.support.results import BEGIN, cell, result
from tests.unit.conftest import Merge

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
NEWER = cell("24.11", "debian13", "4.1.2", "0.24.0")
DAY = timedelta(days=1)


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


def the_suite(report: Compat) -> SuiteReport:
    ((_, suite),) = report.results()
    return suite


def test_history_goes_on_from_the_previous_report_and_is_cut_at_its_length(tmp_path: Path, merge: Merge) -> None:
    before = merge(*nights(Outcome.PASSED, Outcome.FAILED, Outcome.PASSED))
    made.write(tmp_path / "new", result(REAL, run="r3", started=BEGIN + 3 * DAY))
    asked = ReportRequest(roots=(tmp_path / "new",), base=tmp_path, previous=before, length=3)
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
    after = writing.merge(ReportRequest(roots=(tmp_path / "b",), base=tmp_path, previous=before)).compat
    assert changed(before, after) == [(ChangeKind.NEW, "None passed"), (ChangeKind.GONE, "passed None")]


def test_making_a_report_again_of_the_same_results_keeps_what_it_told(merge: Merge) -> None:
    first = merge(result(REAL))
    second = merge(result(REAL, outcome=Outcome.FAILED, run="b", started=BEGIN + DAY), previous=first)
    assert merge(previous=second).changes == second.changes
