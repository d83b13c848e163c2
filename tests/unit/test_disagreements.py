"""Results that say another thing of the same: of one second, of several machines, copies; whatever their order."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
import json
from pathlib import Path

from msgspec.structs import replace
import pytest

from ci.errors import ResultsError
from ci.record.outcomes import Outcome
from ci.record.store import Result
from ci.report.forms import forms
from ci.report.model import Merged, State
from tests.support.merged import printed, states, texts
from tests.support.results import BEGIN, cell, result

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
CANDIDATE = cell("22.05", "debian12", "3.4.1", "0.24.0+g1a2b3c4")
EMBEDDED = cell("22.05", "debian12", kind="embedded")
ARM = cell("24.11", "debian13", "4.1.2", "0.24.0", arch="arm64")
GOOD = result(REAL)
SECOND = [result(REAL, run="a"), result(REAL, outcome=Outcome.FAILED, run="b"), result(REAL, run="c")]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_of_results_of_one_second_the_worst_counts_in_any_order(
    merged: Callable[..., Merged], order: tuple[int, ...]
) -> None:
    report = merged(*([it] for it in SECOND), order=list(order))
    ((_, suite),) = report.compat.results()
    assert (suite.state, len(suite.history)) == (State.FAILED, 3)
    assert "passed in a; failed in b; passed in c" in report.compat.contradictions[0].what


def test_two_results_of_one_run_and_one_second_are_both_there(merged: Callable[..., Merged]) -> None:
    report = merged([GOOD], [result(REAL, outcome=Outcome.FAILED)])
    ((_, suite),) = report.compat.results()
    assert (suite.state, len(suite.history)) == (State.FAILED, 2)
    assert len(report.compat.contradictions) == 1


def disagreeing(one: str, other: str, print_: str = "f") -> tuple[list[Result], list[Result]]:
    """Return a failure, and a later pass of another machine."""
    failed = result(REAL, outcome=Outcome.FAILED, run=one, fingerprint=print_)
    return [failed], [result(REAL, run=other, started=BEGIN + timedelta(hours=1), fingerprint="f")]


@pytest.mark.parametrize(
    "machines",
    [disagreeing("a", "b"), disagreeing("a", "a"), disagreeing("a", "a", "another")],
    ids=["one fingerprint", "one run and fingerprint", "one run"],
)
def test_machines_that_disagree_are_named_and_the_failure_counts(
    merged: Callable[..., Merged],
    machines: tuple[list[Result], list[Result]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = merged(*machines)
    assert states(report) == [State.FAILED]
    (told,) = report.compat.contradictions
    assert told.what.startswith("machines disagree: failed in a (")
    for name, text in texts(report).items():
        assert "machines disagree: failed in a" in text, name
    code, text = printed(tmp_path, monkeypatch, capsys)
    assert code == ResultsError.exit_code
    assert "✗ failed" in text
    assert "machines disagree: failed in a" in text


@pytest.mark.parametrize(
    "machines",
    [
        disagreeing("a", "b", "another"),
        disagreeing("a", "b", ""),
        ([*disagreeing("a", "b")[0], *disagreeing("a", "b")[1]],),
        ([result(REAL, outcome=Outcome.ERROR, run="a", fingerprint="f")], disagreeing("a", "b")[1]),
    ],
    ids=["other fingerprints", "no fingerprint", "one machine, later", "nothing known"],
)
def test_a_newer_answer_is_no_contradiction(merged: Callable[..., Merged], machines: tuple[list[Result], ...]) -> None:
    report = merged(*machines)
    assert (states(report), report.compat.contradictions) == ([State.PASSED], ())


def test_a_copy_is_no_contradiction_and_counts_once(merged: Callable[..., Merged]) -> None:
    with_teardown = replace(GOOD, seconds=GOOD.seconds + 4)
    report = merged([GOOD], [GOOD], [with_teardown])
    ((_, suite),) = report.compat.results()
    assert (len(suite.history), suite.seconds, report.compat.contradictions) == (1, with_teardown.seconds, ())


def test_the_report_is_the_same_whatever_the_order_of_folders(merged: Callable[..., Merged]) -> None:
    machines = [
        [*SECOND, replace(result(ARM), versions={"pyxis": "1"})],
        [
            GOOD,
            result(ARM, run="b", started=BEGIN + timedelta(days=1)),
            result(REAL, started=datetime(2031, 1, 1, tzinfo=UTC)),
        ],
        [result(REAL, outcome=Outcome.FAILED), result(CANDIDATE), result(EMBEDDED, outcome=Outcome.UNFINISHED)],
    ]
    reports = ["".join(forms()["json"].pieces(merged(*machines, order=list(it)))) for it in permutations(range(3))]
    assert len(set(reports)) == 1
    assert json.loads(reports[0])["contradictions"]


def test_an_earlier_report_of_the_same_results_adds_no_time(merged: Callable[..., Merged]) -> None:
    machines = [[GOOD], [result(REAL, outcome=Outcome.FAILED)]]
    before = merged(*machines).compat
    assert merged(*machines, before=before).compat.cells == before.cells


def test_what_an_earlier_report_believed_is_told_once(merged: Callable[..., Merged]) -> None:
    before = merged([GOOD]).compat
    ((_, suite),) = merged([replace(GOOD, exit_code=1)], before=before).compat.results()
    assert [it.state for it in suite.history] == [State.ERROR]
