"""What pytest says of its tests while they run: the log of pytest-reportlog, one line of JSON per report.

Each line is written when its test's phase has ended, in pytest's main process also under pytest-xdist. So what was seen
is kept however pytest ends, and what is missing at the end of the log tells that it did not finish.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
import json
import math
import os
from pathlib import Path, PurePath
import re
import signal
from typing import Any, Self

import msgspec

from ci import paths
from ci.record import files
from ci.record.outcomes import Outcome, TestOutcome, TestState

_OK, _TESTS_FAILED, _INTERRUPTED, _INTERNAL_ERROR, _WRONG_USAGE, _NO_TESTS = range(6)  # pytest.ExitCode
# Not of 0 and 1: there the tests say what there is to say.
_REASONS = {
    _INTERRUPTED: "pytest was interrupted",
    _INTERNAL_ERROR: "pytest had an internal error; its output has the traceback",
    _WRONG_USAGE: "pytest found a path, an option or a conftest.py wrong; its output says which",
    _NO_TESTS: "pytest found no test to run",
}
# As Python reports them (minus the signal) and as a shell does (128 plus the signal).
_SIGNALLED = {code for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM) for code in (-number, 128 + number)}

# What says why a job failed, the most telling first: enroot, Pyxis, Slurm itself. Left out is what they say of any.
# `0: slurmstepd-n1: error: …`: srun --label puts the task's number in front, slurmstepd the node behind its name.
_BY = r"(?:\d+: *)?(?:srun|sbatch|salloc|scancel|scontrol|squeue|sinfo|sacct|slurm(?:stepd|d|ctld))(?:-[^\s:]+)?: "
# Pyxis, SPANK and slurmstepd say these of each container that does not start, whatever kept it from that.
_OF_ANY = r"couldn't start container|child \d+ failed|printing enroot log|spank: required plugin|Failed to invoke spank"
_SAID_BY = (
    # enroot, by itself or as Pyxis copies its log: `pyxis:     [ERROR] …`.
    rf"(?m)^(?:\[ERROR\] |{_BY}error: pyxis: +\[ERROR\] )",
    rf"(?m)^{_BY}error: pyxis: (?! *\[|{_OF_ANY})",  # Pyxis itself; what it copies of enroot's log has a bracket there
    # Slurm; any step that fails ends with `srun: error: n1: task 0: Exited with exit code 1`, which tells nothing.
    rf"(?m)^{_BY}(?:error|fatal|unrecognized|invalid)\b(?!: (?:pyxis: |{_OF_ANY}|.* Exited with ))",
    # sacct and sacctmgr, which put no name in front.
    r"(?m)^(?:Slurm accounting storage is disabled|You are not running a supported accounting_storage)",
)
_HINTS = {
    # enroot takes docker://localhost:PORT#IMAGE; Docker's own form has a slash there.
    "Invalid image reference: docker://localhost:": "JOB_IMAGE has the form that this enroot takes",
    # Without the first letter: `Invalid partition name specified`, but `invalid partition specified: NAME`.
    "nvalid partition": "the cell's is debug; --partition NAME makes another",
    "ccounting": "start the cell with --accounting",
}
"""By words of such a line: what a suite of somebody's own does about it."""

_PLUGIN = "pyxis_matrix_selection"
PLUGINS = "tests/support/plugins"
PLUGIN_FOLDER = paths.REPOSITORY / PLUGINS
"""Where the plugin is that writes the selection into the log; it holds nothing else."""
# Lines that say what came of the session. After its end none of them is to be believed.
_TELLING = frozenset({"SessionStart", "CollectReport", "TestReport", "SubTestReport", "Selection", "SessionFinish"})

KNOWN_PROPERTY = "known failure"
"""A test that fails as an entry of matrix.toml says has this name in the ``user_properties`` of its report."""
BEHAVIOUR_PROPERTY = "behaviour"
"""A test that saw an answer of a behaviour has under this name its id and the answer's name, once for each."""
NOT_ASKED = "not asked: "
"""How the reason begins of a skip that is for what a site does not give; the rest says what is needed."""
RERUNS_PROPERTY = "reruns"
"""A test that tries again by itself lists under this name, in its ``user_properties``, why each earlier try failed."""


INVALID = (ValueError, *files.INVALID)
"""What `PytestReport.of` raises for a line that is not pytest's, or is not yet written whole."""


@dataclass(frozen=True, kw_only=True)
class ReportLog:
    """What the log of one pytest session says."""

    tests: tuple[TestOutcome, ...] = ()
    """In the order in which they began, each once."""
    problem: str = ""
    """Why the log does not tell everything; empty if the session is there from begin to end."""
    selected: tuple[str, ...] | None = None
    """The tests that were to run; None where pytest did not say it."""
    deselected: int = 0
    asked: tuple[tuple[str, str], ...] = ()
    """The options that pytest was given beside its project's settings, and their values where these may be told."""
    part: tuple[str, ...] = ()
    """The paths and tests that were named in place of the whole suite, where pytest said it."""
    exit_status: int = _OK
    """What pytest itself said at its end that its exit code would be."""

    @property
    def collected(self) -> int:
        """How many tests were found."""
        return len(self.selected or ()) + self.deselected

    def _contradiction(self) -> str:
        """Return why the exit code 0 is not to be believed; empty if it is."""
        if self.exit_status != _OK:
            return f"pytest ended with exit code 0, and its report log says {self.exit_status}"
        if self.selected is None:
            return "pytest did not say which tests it had selected; its output may tell why"
        missing = set(self.selected) - {test.name for test in self.tests}
        if missing:
            number = len(set(self.selected))
            return f"pytest ended with exit code 0, and did not run {len(missing)} of its {number} tests"
        return ""

    def _not_asked(self) -> str:
        """Return how many tests a site did not give what they need, and what that is; empty if there is none."""
        needs = Counter(test.message.partition("\n")[0] for test in self.tests if test.outcome is TestState.NOT_ASKED)
        each = ", ".join(f"{number} {what.removeprefix('needs ')}" for what, number in needs.most_common())
        return f"{needs.total()} of {len(self.tests)} tests were not asked because they need: {each}" if needs else ""

    def outcome(self, exit_code: int) -> Outcome:
        """Return what pytest's exit code and its tests make of the suite.

        "Passed" needs all of: exit code 0, a session that finished, every selected test, and at least one that passed.
        No test at all is "failed", because a suite that selects nothing proves nothing and must not look green; tests
        that were all skipped (or known failures) are "skipped"; where a site did not give what some need, the suite is
        partly run.
        """
        states = {test.outcome for test in self.tests}
        # 2 is Ctrl-C, and also a module that failed to import: the tests tell them apart.
        if exit_code in _SIGNALLED or (exit_code == _INTERRUPTED and not states & {TestState.FAILED, TestState.ERROR}):
            return Outcome.INTERRUPTED
        if self.problem or exit_code not in {_OK, _TESTS_FAILED, _NO_TESTS}:
            return Outcome.ERROR
        if worst := next((state for state in TestState if state.red and state in states), None):
            return Outcome(worst.value)  # a red state of a test is the same word as that of its suite
        if exit_code == _OK and self._contradiction():
            return Outcome.ERROR
        # 1 without a red test is set by a plugin or a conftest.py; 5 by pytest, where no test was selected.
        if exit_code != _OK or not states:
            return Outcome.FAILED
        proved = Outcome.PARTLY if TestState.NOT_ASKED in states else Outcome.PASSED
        return proved if TestState.PASSED in states else Outcome.SKIPPED

    def reason(self, exit_code: int) -> str:
        """Return what is to be said of the session beside its tests; empty if they say it all."""
        if self.problem:
            return f"{self.problem} ({_ended(exit_code)})"
        # A module that failed to import: the report of its collection has the reason.
        if exit_code == _INTERRUPTED and self.outcome(exit_code) is not Outcome.INTERRUPTED:
            return ""
        if exit_code == _OK:
            return self._contradiction() or (self._not_asked() if self.tests else _REASONS[_NO_TESTS])
        return _REASONS.get(exit_code, "")


class PytestReport(msgspec.Struct, kw_only=True):
    """A line of the log, as far as it matters here; pytest's own report, as `pytest_report_to_serializable` has it."""

    kind: str = msgspec.field(name="$report_type")
    nodeid: str = ""
    when: str | None = None
    outcome: str = ""
    duration: float = 0.0
    stop: float = 0.0
    """When the phase ended, as `time.time` has it."""
    longrepr: Any = None
    sections: Sequence[Any] = ()
    """What was captured: titles and texts."""
    wasxfail: str | None = None
    location: tuple[str, int | None, str] | None = None
    """The test's file, its line counted from 0, and its name."""
    user_properties: tuple[tuple[str, Any], ...] = ()
    selected: tuple[str, ...] | None = None
    deselected: int = 0
    asked: tuple[tuple[str, str], ...] = ()
    part: tuple[str, ...] = ()
    exitstatus: int = _OK

    @classmethod
    def of(cls, line: bytes) -> Self:
        """Return what a line says.

        :raises INVALID: if it is none of pytest's.
        """
        # Not msgspec.json: Python's writer, which pytest uses, has NaN and lone surrogates, and msgspec refuses both.
        return msgspec.convert(json.loads(line), cls)

    @property
    def state(self) -> TestState:
        """What the phase came to."""
        if self.outcome == "failed":
            # pytest-xdist gives a worker that died the phase "???": it died in the test.
            in_test = self.kind != "CollectReport" and self.when not in {"setup", "teardown"}
            return TestState.FAILED if in_test else TestState.ERROR
        # pytest reports an xfail as skipped; only this attribute tells it from a skip.
        if self.outcome == "skipped" and self.wasxfail is not None:
            known = any(name == KNOWN_PROPERTY for name, _ in self.user_properties)
            return TestState.XFAILED if known else TestState.EXPECTED
        if self.outcome == "skipped":
            match self.longrepr:
                # Of a skip: file, line, and `Skipped: REASON`.
                case [_, _, str(text)] if text.removeprefix("Skipped: ").startswith(NOT_ASKED):
                    return TestState.NOT_ASKED
            return TestState.SKIPPED
        return TestState.PASSED

    @property
    def saw(self) -> list[tuple[str, str]]:
        """Behaviours that the test asked, and the answer that it saw of each."""
        found = []
        for name, value in self.user_properties:
            match value:  # a suite of somebody's own may have put anything under that name
                case [str(id_), str(answer)] if name == BEHAVIOUR_PROPERTY:
                    found.append((id_, answer))
        return found

    @property
    def message(self) -> str:
        """Why it failed or was skipped, with what broke if that was not the test itself.

        It begins with the line that tells most of what Slurm, Pyxis and enroot said, if they said why something failed.
        """
        if self.wasxfail is not None:
            # Older versions of pytest put it before the words of pytest.xfail().
            return self.wasxfail.removeprefix("reason: ")
        match self.longrepr:
            case [_, _, str(text)]:
                return text.removeprefix("Skipped: ").removeprefix(NOT_ASKED)
            case {"reprcrash": {"message": str(text)}}:
                pass
            case str(text):
                # A collection's text is a whole traceback, that of a missing fixture begins with the test's source.
                if self.kind == "CollectReport" or text.startswith("file "):
                    text = next((line[1:].strip() for line in text.splitlines() if line.startswith("E ")), text)
            case _:
                return ""
        said, text = self._said(text), text.strip()
        hint = "".join(f" ({hint})" for words, hint in _HINTS.items() if words in said)
        # Not twice: an assertion's message mostly begins with what the command said.
        if hint or said not in text.partition("\n")[0]:
            text = f"{said}{hint}; {text}"
        return f"{self.when or 'collection'} failed: {text}" if self.state is TestState.ERROR else text

    def _said(self, why: str) -> str:
        """Return the last line of enroot, Pyxis or Slurm that says why something failed: in ``why``, or captured."""
        captured = [str(section[-1]) for section in self.sections if isinstance(section, list)]
        for text in (why, "\n".join(captured)):
            for said_by in _SAID_BY:
                if found := [*re.finditer(said_by, text)]:
                    return text[found[-1].start() :].partition("\n")[0].strip()
        return ""


def options(path: PurePath) -> tuple[str, ...]:
    """Return the options with which pytest writes its log to ``path``, which must not hold an earlier session's."""
    # Named as a plugin, too: where it is not installed, pytest says so instead of "unrecognized arguments".
    return ("-p", "pytest_reportlog", "-p", _PLUGIN, f"--report-log={path}")


def variables(environ: Mapping[str, str], folder: PurePath = PLUGIN_FOLDER) -> dict[str, str]:
    """Return the environment variables with which pytest finds what `options` names.

    :param folder: where the plugin is, if not on this machine.
    """
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), environ.get("PYTHONPATH"))))}


def read(path: Path, interrupted: float = math.inf) -> ReportLog:
    """Read a log; one that is missing, incomplete or invalid has a ``problem`` and all the tests that it does tell.

    :param interrupted: when pytest was told to end (`time.time`): what fails from then on tells nothing of its test.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return ReportLog(problem="pytest never began; its output says why")
    except OSError as error:
        return ReportLog(problem=f"failed to read pytest's report log {path}: {error}")
    reports: list[PytestReport] = []
    problem = ""
    for number, line in enumerate(lines, start=1):
        try:
            reports.append(PytestReport.of(line))
        except INVALID as error:
            # A last line without its end was being written when pytest was killed.
            if number < len(lines) or line.endswith(b"\n"):
                problem = problem or f"line {number} of pytest's report log {path} is invalid: {error}"
    kinds = [report.kind for report in reports]
    end = kinds.index("SessionFinish") + 1 if "SessionFinish" in kinds else len(kinds)
    tests = _tests(reports[:end], interrupted)
    if "SessionStart" not in kinds:
        problem = problem or f"pytest never began; its report log {path} is empty"
    elif "SessionFinish" not in kinds:
        problem = problem or _unfinished(tests)
    elif kinds.count("SessionStart") > 1 or _TELLING & set(kinds[end:]):
        problem = problem or f"pytest's report log {path} has more than one session, or goes on after the session's end"
    nothing_said = PytestReport(kind="Selection")
    selection = next((report for report in reports[:end] if report.kind == "Selection"), nothing_said)
    return ReportLog(
        tests=tests,
        problem=problem,
        selected=selection.selected,
        deselected=selection.deselected,
        asked=selection.asked,
        part=selection.part,
        exit_status=reports[end - 1].exitstatus if reports else _OK,
    )


def _unfinished(tests: Sequence[TestOutcome]) -> str:
    running = sum(test.outcome is TestState.INTERRUPTED for test in tests)
    return f"pytest did not finish: {len(tests) - running} of its tests had ended, {running} had begun"


def _ended(exit_code: int) -> str:
    # -15 of subprocess and 143 of a shell are both SIGTERM.
    number = -exit_code if exit_code < 0 else exit_code - 128
    try:
        return f"ended by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {exit_code}"


def _tests(reports: Iterable[PytestReport], interrupted: float) -> tuple[TestOutcome, ...]:
    tries: dict[str, list[list[PytestReport]]] = {}
    for report in reports:
        collected = report.kind == "CollectReport" and report.outcome != "passed"
        # What a subtest adds to its test is that it failed.
        subtest = report.kind == "SubTestReport" and report.outcome == "failed"
        if not (report.kind == "TestReport" or collected or subtest):
            continue
        # The report of the session's own collection has an empty name.
        of_test = tries.setdefault(report.nodeid or "collection", [])
        # pytest-rerunfailures begins each further try with a setup of its own.
        if report.when == "setup" or not of_test:
            of_test.append([])
        of_test[-1].append(report)
    return tuple(_test(name, of_test, interrupted) for name, of_test in tries.items())


def _test(name: str, tries: list[list[PytestReport]], interrupted: float) -> TestOutcome:
    """Return what came of a test; only tries that pytest-rerunfailures did not follow by another one count."""
    again = [report for each in tries for report in each if report.outcome == "rerun"]
    counting = [each for each in tries if not any(report.outcome == "rerun" for report in each)]
    found = [
        (TestState.INTERRUPTED, f"it was interrupted: {report.message}")
        if report.state.red and report.stop >= interrupted  # a tool that handles Ctrl-C itself lets its test fail of it
        else (report.state, report.message)
        for each in counting
        for report in each
    ]
    # So it is with --setup-plan, which reports each test as passed.
    if not all(_called(each) for each in counting):
        found.append((TestState.ERROR, "its setup succeeded, but the test itself was not run"))
    # A test that failed has a teardown, too: without one, pytest was killed. A collection has one report in all.
    if not counting or not any(report.when == "teardown" or report.kind == "CollectReport" for report in counting[-1]):
        found.append((TestState.INTERRUPTED, "it had begun, and pytest ended before it did"))
    order = list(TestState)  # a test has a report for each phase; the worst counts
    state, message = min(found, key=lambda pair: order.index(pair[0]))
    # A later phase has the properties of those before it as well: the longest list is whole.
    own = max((_own_reruns(report) for each in tries for report in each), key=len, default=[])
    before = [*(report.message for report in again), *own]
    return TestOutcome(
        name=name,
        outcome=state,
        seconds=sum(report.duration for each in tries for report in each),
        message=before[-1] if before and state is TestState.PASSED else message,
        # Where no try counts, pytest ended before the rerun that was to follow the last one.
        reruns=len(tries) - len(counting) - (not counting) + len(own),
        saw=tuple(sorted({pair for each in counting for report in each for pair in report.saw})),
    )


def _called(reports: list[PytestReport]) -> bool:
    """Tell whether a try reached the test itself, or why it could not is told by its other reports."""
    states = {report.state for report in reports}
    ended = any(report.when == "teardown" for report in reports)
    return not ended or states != {TestState.PASSED} or any(report.when == "call" for report in reports)


def _own_reruns(report: PytestReport) -> list[str]:
    reasons = (value for name, value in report.user_properties if name == RERUNS_PROPERTY and isinstance(value, list))
    return [str(why) for why in next(reasons, [])]
