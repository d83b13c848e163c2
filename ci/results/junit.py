"""What the tests of a suite came to, read from pytest's own ``junit.xml``, and what that makes of the whole suite."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree as ET

import msgspec

_OK = 0
_TESTS_FAILED = 1
_INTERRUPTED = 2
_NO_TESTS = 5
# As Python reports them (minus the signal) and as a shell does (128 plus the signal): SIGHUP, SIGINT, SIGTERM.
_SIGNALLED = frozenset({-1, -2, -15, 129, 130, 143})


class Outcome(StrEnum):
    """What a suite on a cell came to."""

    PASSED = "passed"
    FAILED = "failed"
    """Something ran and was wrong, or nothing ran at all."""
    ERROR = "error"
    """It could not be found out: image, environment or a fixture broke."""
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"
    """Nothing was proved: the cell could not be had here, or every test was skipped or is a known failure."""


class TestState(StrEnum):
    """What a single test came to."""

    __test__ = False  # pytest takes every class named Test* for a test

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    """Its set-up or tear-down broke, or there is no report to tell."""
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    """It failed as a known failure should."""


_BAD = (TestState.FAILED, TestState.ERROR)
# A test may be reported twice, for its call and for its tear-down; the worse counts.
_SEVERITY = (TestState.PASSED, TestState.SKIPPED, TestState.XFAILED, TestState.ERROR, TestState.FAILED)


class TestOutcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test that ran, or did not."""

    __test__: ClassVar[bool] = False

    name: str
    outcome: TestState
    seconds: float = 0.0
    message: str = ""
    """Why it failed or was skipped; its first line is meant for summaries."""

    @property
    def bad(self) -> bool:
        """Whether it makes its suite red."""
        return self.outcome in _BAD


def read_junit(path: Path) -> tuple[TestOutcome, ...]:
    """Return the tests in a JUnit file, in its order, each once.

    A file that is missing or broken off (pytest writes it at its very end) gives a single test of that name with the
    outcome "error", so that it can't be taken for a suite without tests.
    """
    try:
        # The standard library's parser is good enough: the file was just written by our own pytest, and expat has
        # limited entity expansion since 2.4.1.
        root = ET.parse(path).getroot()  # noqa: S314 - see above
    except FileNotFoundError:
        return (_no_report(path, "pytest wrote no report; it ended before its last test"),)
    except (ET.ParseError, OSError, LookupError, ValueError) as error:
        return (_no_report(path, f"the report can't be read, it may be broken off: {error}"),)
    if root.tag not in {"testsuites", "testsuite"}:
        return (_no_report(path, f"this is no JUnit report: it starts with <{root.tag}>"),)
    return _merged(_test(case) for case in root.iter("testcase"))


def outcome_of(exit_code: int, tests: Sequence[TestOutcome]) -> Outcome:
    """Return what pytest's exit code and its tests make of the suite.

    "Passed" needs both: exit code 0 and at least one test that passed. No test at all is "failed", because a suite that
    selects nothing proves nothing and must not look green; tests that were all skipped (or known failures) are
    "skipped". Exit code 2 means Ctrl-C as well as a module that can't be imported; the report tells them apart.
    """
    states = {test.outcome for test in tests}
    if exit_code in _SIGNALLED or (exit_code == _INTERRUPTED and not states & set(_BAD)):
        return Outcome.INTERRUPTED
    if exit_code not in {_OK, _TESTS_FAILED, _NO_TESTS}:
        return Outcome.ERROR
    if TestState.FAILED in states:
        return Outcome.FAILED
    if TestState.ERROR in states:
        return Outcome.ERROR
    if exit_code != _OK or not states:
        return Outcome.FAILED
    return Outcome.PASSED if TestState.PASSED in states else Outcome.SKIPPED


def _no_report(path: Path, message: str) -> TestOutcome:
    return TestOutcome(name=path.name, outcome=TestState.ERROR, message=f"{message} ({path})")


def _test(case: ET.Element) -> TestOutcome:
    name = case.get("name", "?")
    where = case.get("classname")
    state, message = _state(case)
    return TestOutcome(
        name=f"{where}::{name}" if where else name,
        outcome=state,
        seconds=_seconds(case.get("time", "")),
        message=message,
    )


def _state(case: ET.Element) -> tuple[TestState, str]:
    """Return state and message; a case may hold several entries, such as a failure and an error of its tear-down."""
    for tag, state in (("failure", TestState.FAILED), ("error", TestState.ERROR), ("skipped", TestState.SKIPPED)):
        entry = case.find(tag)
        if entry is not None:
            if state is TestState.SKIPPED and entry.get("type") == "pytest.xfail":
                state = TestState.XFAILED  # noqa: PLW2901 - the same entry, read more closely
            return state, _message(entry)
    return TestState.PASSED, ""


def _message(entry: ET.Element) -> str:
    """Return the entry's message; where pytest's only names a phase, the error itself is put behind it."""
    message = (entry.get("message") or "").strip()
    text = (entry.text or "").strip()
    if not message:
        return text.splitlines()[-1] if text else ""
    if message == "collection failure" or message.startswith("failed on "):
        errors = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
        if errors and errors[0] not in message:
            return f"{message}: {errors[0]}"
    return message


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _merged(tests: Iterable[TestOutcome]) -> tuple[TestOutcome, ...]:
    found: dict[str, TestOutcome] = {}
    for test in tests:
        before = found.get(test.name)
        if before is None or _SEVERITY.index(test.outcome) > _SEVERITY.index(before.outcome):
            found[test.name] = test
    return tuple(found.values())
