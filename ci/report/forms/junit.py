"""One JUnit file of many results, for tools that know this format.

It is made of the model. The files that pytest wrote are not read: they may be huge, half or anybody's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
import re
from xml.etree import ElementTree as ET

from ci.record.outcomes import TestState
from ci.report.model import CellReport, Merged, Passed, State, SuiteReport, TestReport
from ci.report.words import counted, counted_tests, reruns, sentence

NAME = "junit"
FILE = "junit.xml"

# XML has no way to write these, not even escaped.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def pieces(merged: Merged) -> Iterator[str]:
    """Yield the file, suite by suite."""
    compat = merged.compat
    root = _element("testsuites", name=f"pyxis-matrix: {sentence(compat.verdicts)}", **_totals(merged))
    # The root is written around its suites, which come one by one: the file is never in memory as a whole.
    root.text = "\n"
    # The only end of a line there is: in an attribute it is written as &#10;.
    begin, end = ET.tostring(root, encoding="unicode").split("\n")
    yield f'<?xml version="1.0" encoding="utf-8"?>\n{begin}\n'
    for cell, suite in compat.results():
        yield ET.tostring(_suite(cell, suite, merged.passed[cell.id, suite.suite]), encoding="unicode") + "\n"
    yield f"{end}\n"


def _suite(cell: CellReport, suite: SuiteReport, passed: Passed) -> ET.Element:
    cases = _cases(suite)
    name = f"{cell.id}.{suite.suite}"
    about = {"time": f"{suite.seconds:.3f}", "timestamp": suite.started.isoformat()}
    found = _element("testsuite", name=name, **_counts(cases, len(passed.names)), **about)
    properties = ET.SubElement(found, "properties")
    values = {
        "cell": cell.id,
        "suite": suite.suite,
        "runtime": cell.runtime,
        "released": "" if cell.released else "no",
        "run": suite.run,
        "state": suite.state,
        "tests": counted_tests(suite),
        "outcome": suite.outcome,
        "hazards": str(len(suite.hazards)),
        "refused": str(len(suite.refused)),
        "again": suite.again,
        "reused_from": suite.reused_from,
        **{f"observed {name}": version for name, version in suite.versions.items()},
        **{f"saw {name}": ", ".join(answers) for name, answers in suite.saw.items()},
    }
    properties.extend(_element("property", name=name, value=value) for name, value in values.items() if value)
    found.extend(
        _element("testcase", classname=name, name=test, time=f"{seconds:.3f}")
        for test, seconds in zip(passed.names, passed.seconds, strict=True)
    )
    found.extend(_case(name, case) for case in cases)
    return found


def _case(group: str, case: TestReport) -> ET.Element:
    found = _element("testcase", classname=group, name=case.name, time=f"{case.seconds:.3f}")
    if element := _kind(case):
        first = next(iter(case.message.splitlines()), "") or case.outcome.value
        expected = case.outcome in {TestState.XFAILED, TestState.EXPECTED}
        # JUnit has no word for an expected failure: it is skipped, and its type says more.
        kind = {"type": counted(1, case.outcome).removeprefix("1 ")} if expected else {}
        found.append(_element(element, case.message, message=first, **kind))
    if case.reruns:
        before = f"; before, it failed: {case.message}" if case.message else ""
        found.append(_element("system-out", f"{case.outcome} after {reruns(case.reruns)}{before}"))
    return found


def _kind(case: TestReport) -> str:
    """Return the element that says that a test did not pass; empty if it did."""
    if case.outcome.red:
        return "failure" if case.outcome is TestState.FAILED else "error"
    return "" if case.outcome.good else "skipped"


def _cases(suite: SuiteReport) -> list[TestReport]:
    """Return the tests to be listed one by one; and one for a suite that is red or did not run, unless tests say why.

    A file in which nothing is red for a cluster that did not start would be a lie.
    """
    cases = list(suite.tests)
    red = any(test.outcome.red for test in cases)
    if (suite.state.red and (suite.reason or not red)) or (suite.state is State.NOT_RUN and not cases):
        failed = TestState.FAILED if suite.state is State.FAILED else TestState.ERROR
        state = failed if suite.state.red else TestState.SKIPPED
        cases.append(TestReport(name="the suite as a whole", outcome=state, message=suite.reason))
    return cases


def _totals(merged: Merged) -> dict[str, str]:
    at_once = sum(len(passed.names) for passed in merged.passed.values())
    return _counts((case for _, suite in merged.compat.results() for case in _cases(suite)), at_once)


def _counts(cases: Iterable[TestReport], at_once: int) -> dict[str, str]:
    """Return the attributes that count tests.

    :param at_once: tests that passed at once.
    """
    kinds = Counter(map(_kind, cases))
    numbers = {"failures": kinds["failure"], "errors": kinds["error"], "skipped": kinds["skipped"]}
    return {name: str(number) for name, number in {"tests": kinds.total() + at_once, **numbers}.items()}


def _element(tag: str, text: str = "", /, **attributes: str) -> ET.Element:
    found = ET.Element(tag, {name: _possible(value) for name, value in attributes.items()})
    found.text = _possible(text) or None
    return found


def _possible(text: str) -> str:
    return _IMPOSSIBLE.sub("\ufffd", text)
