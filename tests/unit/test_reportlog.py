"""`ci.record.reportlog`: what pytest's log says of each test, and what that makes of the suite."""

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

import pytest

from ci.record import reportlog
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.reportlog import ReportLog

BEGIN: dict[str, Any] = {"$report_type": "SessionStart", "pytest_version": "9.0.0"}
END: dict[str, Any] = {"$report_type": "SessionFinish", "exitstatus": 0}
KNOWN: dict[str, Any] = {"user_properties": [[reportlog.KNOWN_PROPERTY, "known-failure 3"]]}
"""What the project's plugin adds to the report of a failure that matrix.toml knows."""


def report(when: str, outcome: str = "passed", *, name: str = "t.py::a", **more: object) -> dict[str, Any]:
    return {"$report_type": "TestReport", "nodeid": name, "when": when, "outcome": outcome, "duration": 0.25, **more}


def crash(message: str) -> dict[str, Any]:
    return {"longrepr": {"reprcrash": {"path": "t.py", "lineno": 1, "message": message}, "reprtraceback": {}}}


def passed(name: str = "t.py::a") -> list[dict[str, Any]]:
    return [report(when, name=name) for when in ("setup", "call", "teardown")]


def log(path: Path, *lines: dict[str, Any], begin: Sequence[dict[str, Any]] = (BEGIN,), rest: str = "") -> ReportLog:
    file = path / "reportlog.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in [*begin, *lines]) + rest, encoding="utf-8")
    return reportlog.read(file)


def selection(*names: str, deselected: int = 0) -> dict[str, Any]:
    return {"$report_type": "Selection", "selected": names, "deselected": deselected}


def told(path: Path, *lines: dict[str, Any]) -> tuple[TestOutcome, ...]:
    found = log(path, *lines, END)
    assert not found.problem
    return found.tests


# -- a test ---------------------------------------------------------------------------------------------------------


def test_a_test_that_passed_is_named_as_pytest_does_and_has_the_time_of_its_phases(tmp_path: Path) -> None:
    (found,) = told(tmp_path, *passed("tests/t.py::C::a[x::y b]"))
    assert found == TestOutcome(name="tests/t.py::C::a[x::y b]", outcome=TestState.PASSED, seconds=0.75)


@pytest.mark.parametrize(
    ("lines", "state", "message"),
    [
        ([report("call", "failed", **crash("assert 1 == 2\nmore"))], "failed", "assert 1 == 2\nmore"),
        ([report("call", "failed", longrepr="[XPASS(strict)] known")], "failed", "[XPASS(strict)] known"),
        (
            [report("call", "failed", longrepr="not the known failure\n\nE  x")],
            "failed",
            "not the known failure\n\nE  x",
        ),
        ([report("call", "failed", longrepr={"reprcrash": None})], "failed", ""),
        ([report("setup", "failed", **crash("OSError: x"))], "error", "setup failed: OSError: x"),
        ([report("teardown", "failed", **crash("OSError: x"))], "error", "teardown failed: OSError: x"),
        (
            [
                report(
                    "setup", "failed", longrepr="file t.py, line 3\n  def a(b):\nE   fixture 'b' not found\n>  others"
                )
            ],
            "error",
            "setup failed: fixture 'b' not found",
        ),
        ([report("setup", "skipped", longrepr=["t.py", 4, "Skipped: no GPU"])], "skipped", "no GPU"),
        ([report("call", "skipped", longrepr=["t.py", 4, "Skipped: no GPU"])], "skipped", "no GPU"),
        (
            [report("call", "skipped", longrepr=["t.py", 4, "Skipped: not asked: needs root"])],
            "not asked",
            "needs root",
        ),
        ([report("call", "skipped", wasxfail="pyxis#175", **crash("assert 0"), **KNOWN)], "xfailed", "pyxis#175"),
        ([report("call", "skipped", wasxfail="reason: pyxis#175", **KNOWN)], "xfailed", "pyxis#175"),
        ([report("call", "skipped", wasxfail="reason: ours")], "expected failure", "ours"),
        ([report("setup", "skipped", wasxfail="reason: [NOTRUN] ours")], "expected failure", "[NOTRUN] ours"),
        ([report("call", "passed", wasxfail="lax")], "passed", ""),
        ([report("???", "failed", longrepr="worker 'gw1' crashed")], "failed", "worker 'gw1' crashed"),
    ],
)
def test_each_kind_of_end_is_told_apart(tmp_path: Path, lines: list[dict[str, Any]], state: str, message: str) -> None:
    before = [] if lines[0]["when"] == "setup" else [report("setup")]
    after = [] if lines[-1]["when"] in {"teardown", "???"} else [report("teardown")]
    (found,) = told(tmp_path, *before, *lines, *after)
    if state != "passed":
        assert (found.outcome, found.message) == (state, message)
    assert found.outcome == state


@pytest.mark.parametrize(
    "phases",
    [["setup", "teardown"], ["teardown"], ["setup", "teardown", "setup", "teardown"]],
    ids=["only set up", "only taken down", "twice"],
)
def test_a_test_of_which_only_the_fixtures_ran_is_not_passed(tmp_path: Path, phases: list[str]) -> None:
    lines = [report(when) for when in phases]
    found = log(tmp_path, *lines, selection("t.py::a"), END)
    assert [(test.outcome, test.message) for test in found.tests] == [
        (TestState.ERROR, "its setup succeeded, but the test itself was not run")
    ]
    assert found.outcome(0) is Outcome.ERROR
    # One that did run does not speak for it.
    found = log(tmp_path, *lines, *passed("t.py::b"), selection("t.py::a", "t.py::b"), END)
    assert found.outcome(0) is Outcome.ERROR


def test_a_try_that_left_the_test_out_is_not_made_good_by_another_one(tmp_path: Path) -> None:
    (found,) = told(tmp_path, *passed(), report("setup"), report("teardown"))
    assert found.outcome is TestState.ERROR


def test_the_worst_phase_counts_and_has_its_message(tmp_path: Path) -> None:
    late = report("teardown", "failed", **crash("late"))
    (found,) = told(tmp_path, report("setup"), report("call", "failed", **crash("in the test")), late)
    assert (found.outcome, found.message) == (TestState.FAILED, "in the test")
    (found,) = told(tmp_path, report("setup"), report("call"), late)
    assert (found.outcome, found.message) == (TestState.ERROR, "teardown failed: late")


def test_a_test_that_ran_twice_counts_once_with_the_worse_outcome(tmp_path: Path) -> None:
    bad = [report("setup"), report("call", "failed", **crash("no")), report("teardown")]
    for lines in ([*passed(), *bad], [*bad, *passed()]):
        (found,) = told(tmp_path, *lines)
        assert (found.outcome, found.message, found.reruns) == (TestState.FAILED, "no", 0)


def test_reports_of_several_workers_may_be_mixed(tmp_path: Path) -> None:
    mixed = [line for pair in zip(passed("t.py::a"), passed("t.py::b"), strict=True) for line in pair]
    assert [(test.name, test.outcome.value) for test in told(tmp_path, *mixed)] == [
        ("t.py::a", "passed"),
        ("t.py::b", "passed"),
    ]


def test_a_subtest_that_failed_makes_its_test_failed(tmp_path: Path) -> None:
    inner = report("call", "failed", **crash("1 != 1")) | {"$report_type": "SubTestReport"}
    good = report("call") | {"$report_type": "SubTestReport"}
    (found,) = told(tmp_path, report("setup"), good, inner, report("call"), report("teardown"))
    assert (found.outcome, found.message) == (TestState.FAILED, "1 != 1")


def test_a_module_that_failed_to_import_is_an_error_with_its_cause(tmp_path: Path) -> None:
    text = "ImportError while importing test module\nTraceback:\nx.py:1: in x\nE   ModuleNotFoundError: no module y\n"
    line = {"$report_type": "CollectReport", "nodeid": "x.py", "outcome": "failed", "longrepr": text}
    (found,) = told(tmp_path, {**line, "nodeid": "", "outcome": "passed", "longrepr": None}, line)
    assert (found.name, found.outcome) == ("x.py", TestState.ERROR)
    assert found.message == "collection failed: ModuleNotFoundError: no module y"


def test_a_module_that_was_skipped_is_seen(tmp_path: Path) -> None:
    skip = {"outcome": "skipped", "longrepr": ["x.py", 2, "Skipped: not here"]}
    (found,) = told(tmp_path, {"$report_type": "CollectReport", "nodeid": "x.py", **skip})
    assert (found.outcome, found.message) == (TestState.SKIPPED, "not here")


# -- second tries ---------------------------------------------------------------------------------------------------


AGAIN = [report("setup"), report("call", "rerun", **crash("broken in passing")), report("teardown")]


def test_a_test_that_passed_at_its_second_try_says_so_and_why(tmp_path: Path) -> None:
    (found,) = told(tmp_path, *AGAIN, *passed())
    assert found == TestOutcome(
        name="t.py::a", outcome=TestState.PASSED, seconds=1.5, message="broken in passing", reruns=1
    )


def test_a_setup_that_was_tried_again_counts_too(tmp_path: Path) -> None:
    (found,) = told(tmp_path, report("setup", "rerun", **crash("x")), report("teardown"), *passed())
    assert (found.outcome, found.message, found.reruns) == (TestState.PASSED, "x", 1)


def test_a_test_that_failed_at_every_try_has_its_last_message(tmp_path: Path) -> None:
    (found,) = told(
        tmp_path, *AGAIN, *AGAIN, report("setup"), report("call", "failed", **crash("still")), report("teardown")
    )
    assert (found.outcome, found.message, found.reruns) == (TestState.FAILED, "still", 2)


@pytest.mark.parametrize(("rest", "reruns"), [([], 0), ([report("setup")], 1)])
def test_a_second_try_that_did_not_end_is_not_taken_for_a_pass(
    tmp_path: Path, rest: list[dict[str, Any]], reruns: int
) -> None:
    (found,) = log(tmp_path, *AGAIN, *rest).tests
    assert (found.outcome, found.reruns) == (TestState.INTERRUPTED, reruns)


def test_a_test_that_tries_again_by_itself_says_how_often(tmp_path: Path) -> None:
    counted = [["other", "x"], [reportlog.RERUNS_PROPERTY, ["not there", "still not there"]]]
    (found,) = told(tmp_path, *(line | {"user_properties": counted} for line in passed()))
    assert (found.outcome, found.reruns, found.message) == (TestState.PASSED, 2, "still not there")


# -- a session that did not finish ----------------------------------------------------------------------------------


def test_what_was_seen_before_an_end_in_the_middle_is_kept(tmp_path: Path) -> None:
    half = json.dumps(report("call", name="t.py::b"))[:40]
    found = log(tmp_path, *passed(), report("setup", name="t.py::b"), rest=half)
    assert [(test.name, test.outcome.value) for test in found.tests] == [
        ("t.py::a", "passed"),
        ("t.py::b", "interrupted"),
    ]
    assert found.reason(-9) == "pytest did not finish: 1 of its tests had ended, 1 had begun (ended by SIGKILL)"
    assert found.outcome(-9) is Outcome.ERROR
    assert found.outcome(0) is Outcome.ERROR
    assert found.outcome(143) is Outcome.INTERRUPTED


def test_a_failure_that_was_seen_stays_one_though_its_teardown_never_ended(tmp_path: Path) -> None:
    (found,) = log(tmp_path, report("setup"), report("call", "failed", **crash("no"))).tests
    assert (found.outcome, found.message) == (TestState.FAILED, "no")


def test_no_log_means_that_pytest_never_began(tmp_path: Path) -> None:
    found = reportlog.read(tmp_path / "reportlog.jsonl")
    assert found.reason(4) == "pytest never began; its output says why (exit code 4)"
    assert found.outcome(0) is Outcome.ERROR


@pytest.mark.parametrize("content", ["", "{", "\n", "[1]\n", "\x00\n", '{"$report_type": "SessionSta'])
def test_an_empty_or_broken_log_is_not_taken_for_a_suite_without_tests(tmp_path: Path, content: str) -> None:
    found = log(tmp_path, begin=[], rest=content)
    assert found.problem
    assert found.tests == ()
    assert found.outcome(0) is Outcome.ERROR


def test_an_invalid_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    found = log(tmp_path, {**report("call"), "duration": "long"}, *passed("t.py::b"), END)
    assert [test.name for test in found.tests] == ["t.py::b"]
    assert f"line 2 of pytest's report log {tmp_path / 'reportlog.jsonl'} is invalid" in found.problem
    assert "$.duration" in found.problem
    assert found.outcome(0) is Outcome.ERROR


def test_a_log_that_is_no_file_is_a_problem_with_its_path(tmp_path: Path) -> None:
    found = reportlog.read(tmp_path)
    assert str(tmp_path) in found.problem
    assert found.outcome(0) is Outcome.ERROR


def test_output_that_was_no_text_is_no_reason_to_fail(tmp_path: Path) -> None:
    (found,) = told(tmp_path, report("setup"), report("call", "failed", **crash("\udcff")), report("teardown"))
    assert found.message == "\udcff"


def test_lines_of_other_plugins_and_warnings_are_passed_over(tmp_path: Path) -> None:
    warning = {"$report_type": "WarningMessage", "when": "runtest", "category": "UserWarning", "message": "x"}
    assert len(told(tmp_path, warning, {"$report_type": "Weather"}, *passed())) == 1


def test_pytest_is_told_where_to_write(tmp_path: Path) -> None:
    asked = reportlog.options(tmp_path / "reportlog.jsonl")
    plugins = ("-p", "pytest_reportlog", "-p", "pyxis_matrix_selection")
    assert asked == (*plugins, f"--report-log={tmp_path / 'reportlog.jsonl'}")
    folder = reportlog.variables({})["PYTHONPATH"]
    assert [it.name for it in Path(folder).glob("*.py")] == ["pyxis_matrix_selection.py"], "nothing else is importable"
    assert reportlog.variables({"PYTHONPATH": "/theirs"})["PYTHONPATH"] == f"{folder}:/theirs"


# -- what the log says of the session ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["TestReport", "CollectReport", "SubTestReport", "SessionStart", "Selection"])
def test_a_line_behind_the_sessions_end_does_not_count(tmp_path: Path, kind: str) -> None:
    later = [{**line, "$report_type": kind} for line in passed("t.py::late")]
    found = log(tmp_path, *passed(), selection("t.py::a"), END, *later)
    assert [test.name for test in found.tests] == ["t.py::a"]
    assert "goes on after the session's end" in found.problem
    assert found.outcome(0) is Outcome.ERROR


def test_a_second_session_in_the_log_is_not_taken_for_the_first(tmp_path: Path) -> None:
    bad = [report("setup"), report("call", "failed", **crash("no")), report("teardown")]
    one, two = [*bad, selection("t.py::a"), END], [BEGIN, *passed(), selection("t.py::a"), END]
    for lines in ([*one, *two], [*bad, *two]):
        assert log(tmp_path, *lines).outcome(0) is Outcome.ERROR


def test_what_pytest_writes_of_itself_behind_its_end_does_no_harm(tmp_path: Path) -> None:
    warning = {"$report_type": "WarningMessage", "when": "config", "category": "UserWarning", "message": "x"}
    found = log(tmp_path, *passed(), selection("t.py::a"), END, warning, {"$report_type": "Weather"})
    assert (found.problem, found.outcome(0)) == ("", Outcome.PASSED)


def test_a_test_that_was_to_run_and_did_not_is_missed(tmp_path: Path) -> None:
    found = log(tmp_path, *passed(), selection("t.py::a", "t.py::b", deselected=3), END)
    assert (found.outcome(0), found.collected, found.deselected) == (Outcome.ERROR, 5, 3)
    assert found.reason(0) == "pytest ended with exit code 0, and did not run 1 of its 2 tests"
    assert found.outcome(1) is Outcome.FAILED  # as after -x


def test_a_session_of_which_nobody_knows_the_selection_is_not_passed(tmp_path: Path) -> None:
    found = log(tmp_path, *passed(), END)
    assert found.outcome(0) is Outcome.ERROR
    assert "did not say which tests" in found.reason(0)


def test_an_exit_code_that_is_not_the_sessions_own_is_not_believed(tmp_path: Path) -> None:
    found = log(tmp_path, *passed(), selection("t.py::a"), {**END, "exitstatus": 1})
    assert found.outcome(0) is Outcome.ERROR
    assert found.reason(0) == "pytest ended with exit code 0, and its report log says 1"


# -- the suite's outcome --------------------------------------------------------------------------------------------


def seen(*states: str) -> ReportLog:
    tests = tuple(TestOutcome(name=f"t{n}", outcome=TestState(it)) for n, it in enumerate(states))
    return ReportLog(tests=tests, selected=tuple(test.name for test in tests))


@pytest.mark.parametrize(
    ("exit_code", "states", "expected"),
    [
        (0, ["passed", "passed"], "passed"),
        (0, ["passed", "skipped", "xfailed"], "passed"),
        (0, [], "failed"),
        (5, [], "failed"),
        (5, ["skipped"], "failed"),
        (0, ["skipped", "skipped"], "skipped"),
        (0, ["xfailed"], "skipped"),
        (0, ["expected failure", "skipped"], "skipped"),
        (0, ["passed", "expected failure"], "passed"),
        (1, ["passed", "failed"], "failed"),
        (1, ["failed", "error"], "failed"),
        (1, ["passed", "error"], "error"),
        (1, ["passed"], "failed"),
        (0, ["passed", "failed"], "failed"),
        (0, ["passed", "error"], "error"),
        (0, ["passed", "interrupted"], "interrupted"),
        (1, ["failed", "interrupted"], "failed"),
        (2, ["error"], "error"),
        (2, ["passed"], "interrupted"),
        (2, ["passed", "interrupted"], "interrupted"),
        (2, [], "interrupted"),
        (130, ["passed", "failed"], "interrupted"),
        (-15, [], "interrupted"),
        (143, ["passed"], "interrupted"),
        (3, ["passed"], "error"),
        (4, [], "error"),
        (-9, ["passed"], "error"),
        (127, [], "error"),
    ],
)
def test_the_outcome_of_a_suite(exit_code: int, states: Sequence[str], expected: str) -> None:
    assert seen(*states).outcome(exit_code) is Outcome(expected)


@pytest.mark.parametrize("exit_code", [-15, -9, 0, 1, 2, 3, 4, 5, 130])
@pytest.mark.parametrize(
    "states", [[], ["skipped"], ["xfailed", "skipped"], ["failed"], ["passed", "error"], ["passed", "interrupted"]]
)
def test_nothing_is_passed_without_a_passed_test_or_with_a_bad_one(exit_code: int, states: Sequence[str]) -> None:
    assert seen(*states).outcome(exit_code) is not Outcome.PASSED


@pytest.mark.parametrize(
    ("exit_code", "states", "words"),
    [
        (0, ["passed"], ""),
        (1, ["failed"], ""),
        (2, ["passed"], "pytest was interrupted"),
        (2, ["error"], ""),
        (3, ["passed"], "internal error"),
        (4, [], "a path, an option or a conftest.py"),
        (5, [], "found no test to run"),
        (0, [], "found no test to run"),
    ],
)
def test_an_end_that_the_tests_do_not_explain_is_explained(exit_code: int, states: Sequence[str], words: str) -> None:
    reason = seen(*states).reason(exit_code)
    assert words in reason
    assert bool(words) == bool(reason)
