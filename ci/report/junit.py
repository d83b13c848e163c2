"""One JUnit file of many results, for tools that know this format.

It is made of the results. The files that pytest wrote are not read: they may be huge, half or anybody's.
"""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
import re
from xml.sax.saxutils import escape, quoteattr

from ci.record import files
from ci.record.outcomes import TestState
from ci.report.compat import RED, CellReport, Compat, State, SuiteReport, TestReport
from ci.report.merging import Merged, Passed

JUNIT_FILE = "junit.xml"

# XML has no way to write these, not even escaped.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {
    TestState.FAILED: "failure",
    TestState.ERROR: "error",
    TestState.INTERRUPTED: "error",
    TestState.SKIPPED: "skipped",
    TestState.XFAILED: "skipped",
    TestState.EXPECTED: "skipped",
}
_EXPECTED = {TestState.XFAILED: "known failure", TestState.EXPECTED: "expected failure"}
_OF_STATES = {
    State.FAILED: TestState.FAILED,
    State.ERROR: TestState.ERROR,
    State.INTERRUPTED: TestState.INTERRUPTED,
    State.UNFINISHED: TestState.INTERRUPTED,
    State.NOT_RUN: TestState.SKIPPED,
}


def write(merged: Merged, path: Path) -> None:
    """Write the file, suite by suite.

    :raises ResultsError: if that fails; ``DiskFullError`` if there is no room.
    """
    with files.replaced(path, "the JUnit file") as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n')
        file.write(f"<testsuites{_attributes(name='pyxis-matrix', **_totals(merged.compat))}>\n".encode())
        for cell, suite in merged.compat.results():
            lines = _suite(cell, suite, merged.passed[cell.id, suite.suite])
            file.write("".join(f"{line}\n" for line in lines).encode())
        file.write(b"</testsuites>\n")


def _suite(cell: CellReport, suite: SuiteReport, passed: Passed) -> Iterator[str]:
    cases = _cases(suite)
    counts = Counter(_ELEMENTS.get(case.outcome, "") for case in cases)
    name = f"{cell.id}.{suite.suite}"
    about = _attributes(
        name=name,
        tests=len(cases) + len(passed.names),
        failures=counts["failure"],
        errors=counts["error"],
        skipped=counts["skipped"],
        time=f"{suite.seconds:.3f}",
        timestamp=suite.started.isoformat(),
    )
    yield f"<testsuite{about}>"
    yield from _properties(cell, suite)
    group = _attributes(classname=name)
    for test, seconds in zip(passed.names, passed.seconds, strict=True):
        yield f'<testcase{group} name={_quoted(test)} time="{seconds:.3f}"/>'
    for case in cases:
        yield from _case(group, case)
    yield "</testsuite>"


def _properties(cell: CellReport, suite: SuiteReport) -> Iterator[str]:
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
    yield "<properties>"
    for name, value in values.items():
        if value:
            yield f"<property{_attributes(name=name, value=value)}/>"
    yield "</properties>"


def _case(group: str, case: TestReport) -> Iterator[str]:
    yield f'<testcase{group} name={_quoted(case.name)} time="{case.seconds:.3f}">'
    if element := _ELEMENTS.get(case.outcome):
        first = next(iter(case.message.splitlines()), "") or case.outcome.value
        known = {"type": _EXPECTED[case.outcome]} if case.outcome in _EXPECTED else {}
        yield f"<{element}{_attributes(message=first, **known)}>{_text(case.message)}</{element}>"
    if case.reruns:
        again = f"{case.outcome} after {case.reruns} rerun{'s' if case.reruns > 1 else ''}"
        before = f"; before, it failed: {case.message}" if case.message else ""
        yield f"<system-out>{_text(again + before)}</system-out>"
    yield "</testcase>"


def _cases(suite: SuiteReport) -> list[TestReport]:
    """Return the tests to be listed one by one; and one for a suite that is red or did not run, unless tests say why.

    A file in which nothing is red for a cluster that did not start would be a lie.
    """
    cases = list(suite.tests)
    red = any(_ELEMENTS.get(test.outcome) in {"failure", "error"} for test in cases)
    if (suite.state in RED and (suite.reason or not red)) or (suite.state is State.NOT_RUN and not cases):
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


def _attributes(**values: object) -> str:
    return "".join(f" {name}={_quoted(str(value))}" for name, value in values.items())


@lru_cache(maxsize=10_000)  # the same tests run on every cell
def _quoted(text: str) -> str:
    return quoteattr(_IMPOSSIBLE.sub("\ufffd", text))


def _text(text: str) -> str:
    return escape(_IMPOSSIBLE.sub("\ufffd", text))
