"""`ci.report.unanswered`: a run that asks less than one that was red does not hide it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

from msgspec.structs import replace
import pytest

from ci.record.outcomes import Outcome, Selection, TestOutcome, TestState
from ci.record.store import Result
from ci.report import writing
from ci.report.forms import forms
from ci.report.merging import ReportRequest
from ci.report.model import Merged, State
from ci.report.words import sentence
from tests.support import results as made
from tests.support.results import BEGIN, cell, passed, result

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
ARM = cell("22.05", "debian12", "3.4.1", "0.19.0", arch="arm64")
SITE = replace(REAL, id=f"{REAL.id}@blue", site="blue")
A, B, C = "tests/x.py::a", "tests/x.py::b", "tests/x.py::c"
Merge = Callable[..., Merged]


def a_test(state: TestState, name: str = B, message: str = "boom") -> TestOutcome:
    return TestOutcome(name=name, outcome=state, message=message)


def run(number: int, of: Result, **more: object) -> Result:
    """Return a result as that of a run of a day."""
    return replace(of, run=f"run-{number}", started=BEGIN + timedelta(days=number), **more)


def of_tests(outcome: Outcome, *tests: TestOutcome, left: int = 0) -> Result:
    """Return a result of a whole suite; as many of its tests as are `left` were never begun."""
    whole = result(REAL, outcome=outcome, tests=tests)
    return replace(whole, selection=Selection(collected=len(tests) + left))


def part(outcome: Outcome, *tests: TestOutcome) -> Result:
    by = Selection(collected=9, deselected=9 - len(tests), by=("-k b",))
    return replace(result(REAL, outcome=outcome, tests=tests), selection=by)


RED = of_tests(Outcome.FAILED, passed(A), a_test(TestState.FAILED))
SKIPPED = a_test(TestState.SKIPPED, message="needs two nodes: --nodes 2")
LESS = of_tests(Outcome.PASSED, passed(A), SKIPPED)
BROKEN = result(REAL, outcome=Outcome.ERROR, tests=[], reason="the cluster did not become usable")
NOT_RUN = result(REAL, outcome=Outcome.SKIPPED, tests=[], reason="release missing: enroot 3.4.1")


@pytest.fixture
def merged(tmp_path: Path) -> Merge:
    """Return a function that merges results; each is in a folder of its own, as of a machine of its own."""

    def merge(*of: Result, apart: bool = False) -> Merged:
        for number, it in enumerate(of):
            made.write(tmp_path / (f"machine-{number}" if apart else "machine"), it)
        roots = sorted(tmp_path.glob("machine*"))
        return writing.merge(
            ReportRequest(roots=roots, base=tmp_path / "report"), now=lambda: datetime(2026, 12, 9, tzinfo=UTC)
        )

    return merge


def counts(of: Merged) -> tuple[str, State]:
    """Return which run counts, and its state."""
    ((_, suite),) = of.compat.results()
    return suite.run, suite.state


# What asks less: each after the red result, which it would hide.
LESSER = {
    "one node": (RED, LESS),
    "a known failure beside": (RED, of_tests(Outcome.PASSED, passed(A), a_test(TestState.XFAILED, C), SKIPPED)),
    "nothing passed": (RED, of_tests(Outcome.SKIPPED, a_test(TestState.SKIPPED, A), SKIPPED)),
    "releases missing": (RED, NOT_RUN),
    "emulated": (
        replace(RED, cell=ARM, versions={**RED.versions, "arch": "arm64"}),
        result(
            ARM,
            outcome=Outcome.SKIPPED,
            tests=[passed(A), passed(B)],
            reason="arm64 was emulated, so that no container",
        ),
    ),
    "a site without a registry": (
        replace(RED, cell=SITE),
        replace(
            of_tests(Outcome.PARTLY, passed(A), a_test(TestState.NOT_ASKED, message="needs a registry")), cell=SITE
        ),
    ),
    "a module that was skipped": (
        RED,
        replace(
            of_tests(Outcome.PASSED, passed("tests/y.py::a"), a_test(TestState.SKIPPED, "tests/x.py")),
            selection=Selection(collected=1),
        ),
    ),
    "reused": (RED, replace(LESS, reused_from="run-0", reason="unchanged since run-0")),
    "no cluster, then no releases": (BROKEN, NOT_RUN),
    "no test at all, then no releases": (of_tests(Outcome.FAILED), NOT_RUN),
    "a command": (
        replace(RED, suite="mine"),
        result(REAL, "mine", outcome=Outcome.SUCCEEDED, tests=[]),
    ),
    "a setup that broke": (of_tests(Outcome.ERROR, passed(A), a_test(TestState.ERROR)), LESS),
    "interrupted after a failure": (
        of_tests(Outcome.INTERRUPTED, passed(A), a_test(TestState.FAILED), a_test(TestState.INTERRUPTED, C)),
        LESS,
    ),
}


@pytest.mark.parametrize("lesser", LESSER)
@pytest.mark.parametrize("apart", [False, True], ids=["one folder", "two machines"])
def test_what_asks_less_does_not_hide_what_was_red(merged: Merge, lesser: str, *, apart: bool) -> None:
    red, less = LESSER[lesser]
    report = merged(run(1, red), run(2, less), apart=apart)
    assert counts(report) == ("run-1", State(red.outcome.value))
    assert f": 1 {red.outcome}" in sentence(report.compat.verdicts)
    ((_, suite),) = report.compat.results()
    assert [past.run for past in suite.history] == ["run-2", "run-1"]
    for name, form in forms().items():
        text = "".join(form.pieces(report)).replace("\\", "")
        assert "this result stands: run run-2 is newer, but did not ask again what was red: " in text, name


def test_the_report_says_what_was_not_asked_and_why(merged: Merge) -> None:
    ((_, suite),) = merged(run(1, RED), run(2, LESS)).compat.results()
    assert suite.reason.endswith(f"what was red: {B} (skipped: needs two nodes: --nodes 2)")


def test_where_nothing_ran_its_reason_is_said(merged: Merge) -> None:
    ((_, suite),) = merged(run(1, BROKEN), run(2, NOT_RUN)).compat.results()
    assert "what was red: the suite as a whole (skipped: release missing: enroot 3.4.1)\n" in suite.reason
    assert suite.reason.endswith("the cluster did not become usable")


def test_of_many_tests_some_are_named(merged: Merge) -> None:
    names = [f"tests/x.py::t{number}" for number in range(5)]
    red = of_tests(Outcome.FAILED, *(a_test(TestState.FAILED, name) for name in names))
    less = of_tests(Outcome.PASSED, passed(A), *(a_test(TestState.SKIPPED, name, "") for name in names))
    ((_, suite),) = merged(run(1, red), run(2, less)).compat.results()
    assert suite.reason.endswith(f"{names[1]} (skipped), {names[2]} (skipped) and 2 more")


# -- what answers it ------------------------------------------------------------------------------------------------

# Each after the red result and one that asked less.
ANSWERS = {
    "it passed": (RED, of_tests(Outcome.PASSED, passed(A), passed(B))),
    "it is a known failure": (RED, of_tests(Outcome.PASSED, passed(A), a_test(TestState.XFAILED))),
    "it was removed": (RED, of_tests(Outcome.PASSED, passed(A))),
    "it was renamed": (RED, of_tests(Outcome.PASSED, passed(A), passed(C))),
    "its module was removed": (RED, of_tests(Outcome.PASSED, passed("tests/y.py::a"))),
    "the cluster starts": (BROKEN, of_tests(Outcome.PASSED, passed(A), SKIPPED)),
    "the cluster starts, and all is as known": (BROKEN, of_tests(Outcome.SKIPPED, a_test(TestState.XFAILED))),
    "a command": (
        result(REAL, "mine", outcome=Outcome.FAILED, tests=[]),
        result(REAL, "mine", outcome=Outcome.SUCCEEDED, tests=[]),
    ),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_asked_again_or_is_no_more_is_answered(merged: Merge, answer: str) -> None:
    red, answered = ANSWERS[answer]
    report = merged(run(1, red), run(2, replace(NOT_RUN, suite=red.suite)), run(3, answered))
    ((_, suite),) = report.compat.results()
    assert (suite.run, suite.state.good) == ("run-3", True)
    assert "stands" not in suite.reason


def test_a_test_that_was_answered_once_may_be_skipped_from_then_on(merged: Merge) -> None:
    fixed = of_tests(Outcome.PASSED, passed(A), passed(B))
    assert counts(merged(run(1, RED), run(2, fixed), run(3, LESS))) == ("run-3", State.PASSED)


@pytest.mark.parametrize("test", [passed(B), passed(A)], ids=["with the test", "without it"])
@pytest.mark.parametrize("how", ["-k b", "--answers-of pyxis=0.24.0"])
def test_a_part_of_the_suite_answers_nothing(merged: Merge, test: TestOutcome, how: str) -> None:
    less = replace(part(Outcome.PARTLY, test), selection=Selection(collected=1, by=(how,)))
    assert counts(merged(run(1, RED), run(2, less), run(3, LESS))) == ("run-1", State.FAILED)


def test_a_run_that_did_not_come_to_it_does_not_say_that_a_test_is_no_more(merged: Merge) -> None:
    stopped = of_tests(Outcome.FAILED, a_test(TestState.FAILED, A), left=1)
    now = of_tests(Outcome.PASSED, passed(A), SKIPPED)
    assert counts(merged(run(1, RED), run(2, stopped), run(3, now))) == ("run-1", State.FAILED)


def test_each_of_several_that_are_red_has_to_be_answered(merged: Merge) -> None:
    # Each answers the one before it and asks less than it.
    other = of_tests(Outcome.FAILED, passed(B), a_test(TestState.FAILED, C))
    last = of_tests(Outcome.PASSED, passed(B), a_test(TestState.SKIPPED, C, "needs accounting"))
    assert counts(merged(run(1, RED), run(2, other), run(3, last))) == ("run-2", State.FAILED)


def test_a_newer_one_that_is_red_counts_and_names_the_one_that_is_not_answered(merged: Merge) -> None:
    other = of_tests(Outcome.FAILED, a_test(TestState.FAILED, A), SKIPPED)
    report = merged(run(1, RED), run(2, other))
    ((_, suite),) = report.compat.results()
    assert (suite.run, suite.state) == ("run-2", State.FAILED)
    assert suite.reason == (
        f"run run-1 was red as well, and no complete run since has asked again what was red: {B} "
        "(skipped: needs two nodes: --nodes 2)"
    )


def test_what_can_not_be_true_answers_nothing(merged: Merge) -> None:
    lie = replace(of_tests(Outcome.PASSED, passed(A), passed(B)), versions={**RED.versions, "pyxis": "0.24.0"})
    assert counts(merged(run(1, RED), run(2, lie), run(3, LESS))) == ("run-1", State.FAILED)


def test_one_that_is_dated_in_the_future_is_answered_by_what_came_now(merged: Merge) -> None:
    future = replace(RED, run="future", started=datetime(2031, 1, 1, tzinfo=UTC))
    assert counts(merged(future, run(2, of_tests(Outcome.PASSED, passed(A), passed(B))))) == ("run-2", State.PASSED)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_folders_decides_nothing(tmp_path: Path, order: tuple[int, ...]) -> None:
    every = [
        run(1, RED),
        run(2, LESS),
        run(3, of_tests(Outcome.FAILED, a_test(TestState.FAILED, A), passed(B), a_test(TestState.SKIPPED, C))),
        run(4, of_tests(Outcome.PASSED, a_test(TestState.SKIPPED, A), passed(C))),
    ]
    for number, it in enumerate(every):
        made.write(tmp_path / f"machine-{number}", it)
    asked = ReportRequest(roots=[tmp_path / f"machine-{it}" for it in order], base=tmp_path)
    assert counts(writing.merge(asked)) == ("run-3", State.FAILED)


def test_copies_are_one_result(merged: Merge) -> None:
    report = merged(run(1, RED), run(1, RED), run(2, LESS), apart=True)
    ((_, suite),) = report.compat.results()
    assert suite.run == "run-1"
    assert "was red, too" not in suite.reason
