"""pytest's own log, written by real sessions: alone and with workers, tried again, interrupted, killed."""

from collections.abc import Callable
import os
from pathlib import Path
import sys

import pytest

from ci.record import reportlog
from ci.record.outcomes import Outcome, TestState
from ci.record.reportlog import ReportLog
from tests.component.weather import Process, until

SUITE = """
import pathlib
import pytest

SEEN = pathlib.Path(__file__).with_name("seen")


@pytest.fixture
def broken():
    raise OSError("no registry")


@pytest.fixture
def broken_behind():
    yield
    raise OSError("not removed")


def test_good(): pass
def test_bad(): assert 1 == 2, "not equal"
def test_setup(broken): pass
def test_teardown(broken_behind): pass
@pytest.mark.skip(reason="no GPU")
def test_skipped(): pass
@pytest.mark.xfail(reason="pyxis#175", strict=True)
def test_known(): assert False
@pytest.mark.xfail(reason="pyxis#176", strict=True)
def test_known_that_passes(): pass
@pytest.mark.flaky(reruns=3, only_rerun=["in passing"])
def test_second_try():
    if not SEEN.exists():
        SEEN.touch()
        pytest.fail("broken in passing")
@pytest.mark.flaky(reruns=2)
def test_every_try(): pytest.fail("still broken")
"""
SLOW = """
import pathlib
import time


def test_first(): pass
def test_endless():
    pathlib.Path(__file__).with_name("began").touch()
    time.sleep(600)
def test_never(): pass
"""

Start = Callable[..., Process]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "reportlog.jsonl"


@pytest.fixture
def start(tmp_path: Path, log: Path) -> Start:
    """Return a function that starts a pytest session on files with the given text."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")

    def started(*arguments: str, **files: str) -> Process:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        paths = [str(tmp_path / f"{name}.py") for name in files]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *arguments]
        return Process([*command, *paths, *reportlog.options(log)], reportlog.variables(os.environ))

    return started


def wait_for_endless(process: Process, folder: Path) -> None:
    """Wait until the test that never ends has begun."""
    until("a test that does not end", lambda: (folder / "began").exists() or process.process.poll() is not None)
    assert process.process.poll() is None, process.output


def states(seen: ReportLog) -> dict[str, str]:
    return {test.name: test.outcome.value for test in seen.tests}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_kind_of_end_is_told_apart(start: Start, log: Path, workers: str) -> None:
    process = start("-n", workers, test_all=SUITE)
    assert process.end() == 1, process.output
    seen = reportlog.read(log)
    assert seen.problem == ""
    found = {test.name.removeprefix("test_all.py::test_"): test for test in seen.tests}
    assert {name: (test.outcome.value, test.message.splitlines()[:1], test.reruns) for name, test in found.items()} == {
        "good": ("passed", [], 0),
        "bad": ("failed", ["AssertionError: not equal"], 0),
        "setup": ("error", ["setup failed: OSError: no registry"], 0),
        "teardown": ("error", ["teardown failed: OSError: not removed"], 0),
        "skipped": ("skipped", ["no GPU"], 0),
        "known": ("expected failure", ["pyxis#175"], 0),
        "known_that_passes": ("failed", ["[XPASS(strict)] pyxis#176"], 0),
        "second_try": ("passed", ["Failed: broken in passing"], 1),
        "every_try": ("failed", ["Failed: still broken"], 2),
    }
    assert (seen.outcome(1), seen.reason(1)) == (Outcome.FAILED, "")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_session_that_is_killed_leaves_what_was_seen(start: Start, log: Path, tmp_path: Path, workers: str) -> None:
    process = start("-n", workers, "--dist", "loadfile", test_slow=SLOW)
    wait_for_endless(process, tmp_path)
    # With workers, reports are a little behind the tests.
    until("the report of its setup", lambda: "test_slow.py::test_endless" in states(reportlog.read(log)), limit=10)
    process.kill()
    assert process.end() == -9
    seen = reportlog.read(log)
    assert states(seen) == {"test_slow.py::test_first": "passed", "test_slow.py::test_endless": "interrupted"}
    assert seen.outcome(-9) is Outcome.ERROR
    assert seen.reason(-9) == "pytest did not finish: 1 of its tests had ended, 1 had begun (ended by SIGKILL)"


def test_ctrl_c_is_an_interruption_and_leaves_what_was_seen(start: Start, log: Path, tmp_path: Path) -> None:
    process = start(test_slow=SLOW)
    wait_for_endless(process, tmp_path)
    process.press_ctrl_c()
    code = process.end()
    seen = reportlog.read(log)
    assert states(seen) == {"test_slow.py::test_first": "passed", "test_slow.py::test_endless": "interrupted"}
    assert (code, seen.problem, seen.outcome(code)) == (2, "", Outcome.INTERRUPTED)
    assert seen.reason(code) == "pytest was interrupted"


def test_a_worker_that_dies_fails_the_test_that_it_ran(start: Start, log: Path) -> None:
    process = start("-n", "2", test_dies="import os\ndef test_dies(): os._exit(7)\ndef test_other(): pass\n")
    code = process.end()
    seen = reportlog.read(log)
    assert states(seen) == {"test_dies.py::test_dies": "failed", "test_dies.py::test_other": "passed"}
    assert seen.outcome(code) is Outcome.FAILED
    assert "crashed while running" in next(test.message for test in seen.tests if test.name.endswith("dies"))


def test_a_session_that_dies_in_a_test_without_workers_is_no_pass(start: Start, log: Path) -> None:
    code = start(test_dies="import os\ndef test_good(): pass\ndef test_dies(): os._exit(0)\n").end()
    seen = reportlog.read(log)
    assert states(seen) == {"test_dies.py::test_good": "passed", "test_dies.py::test_dies": "interrupted"}
    assert (code, seen.outcome(code)) == (0, Outcome.ERROR)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_module_that_fails_to_import_is_an_error_with_its_cause(start: Start, log: Path, workers: str) -> None:
    code = start("-n", workers, test_broken="import no_such_module\ndef test_x(): pass\n").end()
    seen = reportlog.read(log)
    (found,) = seen.tests
    assert (found.name, found.outcome) == ("test_broken.py", TestState.ERROR)
    assert found.message == "collection failed: ModuleNotFoundError: No module named 'no_such_module'"
    assert (seen.outcome(code), seen.reason(code)) == (Outcome.ERROR, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-option"], "pytest never began; its output says why (exit code 4)"),
        (["no-such-file.py"], "pytest found a path, an option or a conftest.py wrong; its output says which"),
    ],
)
def test_a_session_that_never_began_says_so(start: Start, log: Path, arguments: list[str], words: str) -> None:
    code = start(*arguments).end()
    seen = reportlog.read(log)
    assert (code, seen.outcome(code), seen.reason(code)) == (4, Outcome.ERROR, words)


def test_nothing_selected_is_no_pass(start: Start, log: Path) -> None:
    code = start("-k", "no_such_test", test_all=SUITE).end()
    seen = reportlog.read(log)
    assert (code, seen.tests, seen.outcome(code)) == (5, (), Outcome.FAILED)
    assert seen.reason(code) == "pytest found no test to run"


# -- what is not run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("option", ["--setup-plan", "--setup-only", "--collect-only"])
def test_tests_that_were_not_called_did_not_pass(start: Start, log: Path, option: str, workers: str) -> None:
    process = start("-n", workers, option, test_good="def test_a(): pass\ndef test_b(tmp_path): pass\n")
    code = process.end()
    seen = reportlog.read(log)
    assert "passed" not in states(seen).values(), process.output
    assert seen.outcome(code) in {Outcome.ERROR, Outcome.FAILED}, "with workers, pytest itself may refuse it"


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    ("options", "selected"), [([], 3), (["-k", "one or two"], 2), (["--deselect", "test_some.py::test_one"], 2)]
)
def test_the_log_tells_what_was_collected_and_what_was_deselected(
    start: Start, log: Path, options: list[str], selected: int, workers: str
) -> None:
    text = "def test_one(): pass\ndef test_two(): pass\ndef test_three(): pass\n"
    process = start("-n", workers, *options, test_some=text)
    assert process.end() == 0, process.output
    seen = reportlog.read(log)
    assert (len(seen.selected or ()), seen.deselected, seen.collected) == (selected, 3 - selected, 3)
    assert seen.outcome(0) is Outcome.PASSED


STOPPING = """
import pytest


@pytest.fixture(autouse=True)
def stop(request):
    yield
    request.session.shouldstop = "enough"


def test_one(): pass
def test_two(): pass
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_session_that_is_stopped_halfway_is_not_passed(start: Start, log: Path, workers: str) -> None:
    process = start("-n", workers, test_stopping=STOPPING)
    code = process.end()
    seen = reportlog.read(log)
    assert states(seen).get("test_stopping.py::test_one") == "passed", process.output
    assert len(seen.tests) == 1
    assert seen.outcome(code) is not Outcome.PASSED
    assert seen.outcome(0) is Outcome.ERROR


def test_a_session_that_a_test_ends_with_status_0_is_not_passed(start: Start, log: Path) -> None:
    ends = "def test_two(): pytest.exit('done', returncode=0)"
    code = start(test_ends=f"import pytest\ndef test_one(): pass\n{ends}\ndef test_three(): pass\n").end()
    assert code == 0
    assert reportlog.read(log).outcome(code) is not Outcome.PASSED
