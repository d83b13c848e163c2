"""One JUnit file of many results, for tools that know this format.

It is made of the results. The files that pytest wrote are not read: they may be huge, half or anybody's.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
import re
from typing import IO
from xml.sax.saxutils import XMLGenerator

from ci.results import files
from ci.results.compat import RED, CellReport, Compat, State, SuiteReport, TestReport
from ci.results.merging import Merged, Passed
from ci.results.outcomes import TestState

JUNIT_FILE = "junit.xml"

# XML has no way to write these, not even escaped.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {
    TestState.FAILED: "failure",
    TestState.ERROR: "error",
    TestState.INTERRUPTED: "error",
    TestState.SKIPPED: "skipped",
    TestState.XFAILED: "skipped",
}
_OF_STATES = {
    State.FAILED: TestState.FAILED,
    State.ERROR: TestState.ERROR,
    State.INTERRUPTED: TestState.INTERRUPTED,
    State.NOT_RUN: TestState.SKIPPED,
}


def write(merged: Merged, path: Path) -> None:
    """Write the file, piece by piece.

    :raises ResultsError: if that fails; ``DiskFullError`` if there is no room.
    """
    with files.replaced(path, "the JUnit file") as file:
        _Writer(file).all(merged)


class _Writer:
    def __init__(self, file: IO[bytes]) -> None:
        self._xml = XMLGenerator(file, "utf-8", short_empty_elements=True)

    def all(self, merged: Merged) -> None:
        self._xml.startDocument()
        self._start("testsuites", {"name": "pyxis-matrix", **_totals(merged.compat)})
        for cell, suite in merged.compat.results():
            self._suite(cell, suite, merged.passed[cell.id, suite.suite])
        self._end("testsuites")
        self._xml.endDocument()

    def _suite(self, cell: CellReport, suite: SuiteReport, passed: Passed) -> None:
        cases = _cases(suite)
        counts = Counter(_ELEMENTS.get(case.outcome, "") for case in cases)
        self._start(
            "testsuite",
            {
                "name": f"{cell.id}.{suite.suite}",
                "tests": str(len(cases) + len(passed.names)),
                "failures": str(counts["failure"]),
                "errors": str(counts["error"]),
                "skipped": str(counts["skipped"]),
                "time": f"{suite.seconds:.3f}",
                "timestamp": suite.started.isoformat(),
            },
        )
        self._properties(cell, suite)
        group = f"{cell.id}.{suite.suite}"
        for name, seconds in zip(passed.names, passed.seconds, strict=True):
            self._start("testcase", {"classname": group, "name": name, "time": f"{seconds:.3f}"})
            self._end("testcase")
        for case in cases:
            self._case(group, case)
        self._end("testsuite")

    def _properties(self, cell: CellReport, suite: SuiteReport) -> None:
        values = {
            "cell": cell.id,
            "suite": suite.suite,
            "runtime": cell.runtime,
            "run": suite.run,
            "outcome": suite.outcome.value,
            "again": suite.again,
            "reused_from": suite.reused_from,
            **{f"observed {name}": version for name, version in suite.versions.items()},
        }
        self._start("properties", {})
        for name, value in values.items():
            if value:
                self._start("property", {"name": name, "value": value})
                self._end("property")
        self._end("properties")

    def _case(self, group: str, case: TestReport) -> None:
        self._start("testcase", {"classname": group, "name": case.name, "time": f"{case.seconds:.3f}"})
        if element := _ELEMENTS.get(case.outcome):
            first = next(iter(case.message.splitlines()), "")
            known = {"type": "known failure"} if case.outcome is TestState.XFAILED else {}
            self._start(element, {"message": first or case.outcome.value, **known})
            self._text(case.message)
            self._end(element)
        if case.reruns:
            self._start("system-out", {})
            again = f"after {case.reruns} reruns" if case.reruns > 1 else "after 1 rerun"
            self._text(f"{case.outcome} {again}" + (f"; before, it failed: {case.message}" if case.message else ""))
            self._end("system-out")
        self._end("testcase")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        plain = {key: _possible(value) for key, value in attributes.items()}
        self._xml.startElement(name, plain)  # type: ignore[arg-type]

    def _end(self, name: str) -> None:
        self._xml.endElement(name)

    def _text(self, text: str) -> None:
        self._xml.characters(_possible(text))


def _cases(suite: SuiteReport) -> list[TestReport]:
    """Return the tests to be listed one by one; and for a suite that is red or did not run without a test that is, one.

    A file in which nothing is red for a cluster that did not start would be a lie.
    """
    cases = list(suite.tests)
    red = any(_ELEMENTS.get(test.outcome) in {"failure", "error"} for test in cases)
    if (suite.state in RED and not red) or (suite.state is State.NOT_RUN and not cases):
        state = _OF_STATES[suite.state]
        cases.append(TestReport(name="the suite as a whole", outcome=state, message=suite.reason))
    return cases


def _totals(compat: Compat) -> dict[str, str]:
    kinds: Counter[str] = Counter()
    tests = 0
    for _, suite in compat.results():
        cases = _cases(suite)
        tests += len(cases) + sum(suite.counts.values()) - len(suite.tests)
        kinds.update(_ELEMENTS.get(case.outcome, "") for case in cases)
    return {
        "tests": str(tests),
        "failures": str(kinds["failure"]),
        "errors": str(kinds["error"]),
        "skipped": str(kinds["skipped"]),
    }


def _possible(text: str) -> str:
    return _IMPOSSIBLE.sub("\ufffd", text)
