"""What all cells together tell: what went wrong, by its cause; known failures; what was not run; where time went."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
import statistics
from typing import Any

from ci.record.outcomes import TestState
from ci.report import behaviours
from ci.report.behaviours import AnswerReport, BehaviourReport
from ci.report.model import CellReport, Compat, State, SuiteReport, TestReport
from ci.report.words import counted_tests, first_line, phases_in_order

# As many as report.css has.
_COLOURS = 8


@dataclass(kw_only=True)
class Cause:
    """What went wrong, and on which cells: one cause on forty cells is one entry."""

    state: State
    suite: str
    test: str
    message: str
    issue: str = ""
    cells: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its message, followed by the issue if it has one."""
        return f"{self.message} ({self.issue})" if self.issue else self.message


def causes(compat: Compat) -> list[Cause]:
    """Return what went wrong, most widespread first."""
    found = []
    for cell, suite in compat.results():
        if not suite.state.red:
            continue
        bad = red_tests(suite)
        problems = [(test.name, first_line(test.message) or "no message") for test in bad]
        # A cluster that did not start has no test to blame, and a suite may have a reason beside those of its tests.
        if suite.reason or not bad:
            problems.append(("", suite.reason or "no reason given"))
        found += [
            (cell, Cause(state=suite.state, suite=suite.suite, test=name, message=message))
            for name, message in problems
        ]
    return _together(found)


def known_failures(compat: Compat) -> list[Cause]:
    """Return the known failures that occurred, most widespread first."""
    found = []
    for cell, suite in compat.results():
        for test in suite.tests:
            if test.outcome is TestState.XFAILED:
                message = first_line(test.message).removesuffix(f"({test.issue})").rstrip()  # it is shown as a link
                cause = Cause(state=State.KNOWN, suite=suite.suite, test=test.name, message=message, issue=test.issue)
                found.append((cell, cause))
    return _together(found)


@dataclass(frozen=True, kw_only=True)
class AnswerSeen:
    """An answer, and on which cells it was seen."""

    behaviour: BehaviourReport
    answer: AnswerReport
    cells: list[str] = field(default_factory=list)


def answers(compat: Compat, kind: str) -> list[AnswerSeen]:
    """Return the answers of a kind that were seen, such as hazards, most widespread first."""
    known = {
        (behaviour.id, answer.name): AnswerSeen(behaviour=behaviour, answer=answer)
        for behaviour in compat.behaviours
        for answer in behaviour.answers
        if answer.kind == kind
    }
    for cell in compat.cells:
        for name, seen in behaviours.seen(suite.saw for suite in cell.suites).items():
            for answer in seen:
                if found := known.get((name, answer)):  # not of another kind, nor of an older catalogue
                    found.cells.append(cell.id)
    return sorted((answer for answer in known.values() if answer.cells), key=lambda answer: -len(answer.cells))


def red_tests(suite: SuiteReport) -> list[TestReport]:
    """Return the tests that make a suite red."""
    return [test for test in suite.tests if test.outcome.red]


def tried_again(suite: SuiteReport) -> list[TestReport]:
    """Return the tests of a suite that passed at a further try."""
    return [test for test in suite.tests if test.outcome is TestState.PASSED]


def not_run(compat: Compat) -> dict[str, list[tuple[str, str]]]:
    """Return, by reason, what was not run: a cell's id, if it has one, and what of it; or a place in words."""
    found: dict[str, list[tuple[str, str]]] = {}
    for cell, suite in compat.results():
        if suite.state is State.NOT_RUN:
            found.setdefault(suite.reason or counted_tests(suite), []).append((cell.id, suite.suite))
    for reason, name, what in _without_result(compat):
        found.setdefault(reason, []).append((name, what))
    return found


def without_result(compat: Compat) -> Mapping[str, int]:
    """Return, by reason, how many suites and places of the grid have no result."""
    return Counter(reason for reason, _, _ in _without_result(compat))


def phases(compat: Compat) -> Mapping[str, Any]:
    """Return the plot of seconds per phase, one bar per suite."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for _, suite in compat.results():
        if not suite.reused_from:  # its seconds are those of an earlier run
            for phase, value in suite.timings.items():
                seconds.setdefault(suite.suite, {}).setdefault(phase, []).append(value)
    names = phases_in_order(phase for of_suite in seconds.values() for phase in of_suite)
    medians = {
        suite: {name: statistics.median(of_suite[name]) for name in names if name in of_suite}
        for suite, of_suite in seconds.items()
    }
    longest = max((sum(of_suite.values()) for of_suite in medians.values()), default=0) or 1.0
    rows = [_bar(suite, of_suite, names, longest) for suite, of_suite in medians.items()]
    return {"names": names, "rows": rows} if rows else {}


def _together(found: Sequence[tuple[CellReport, Cause]]) -> list[Cause]:
    causes: dict[tuple[str, ...], Cause] = {}
    for cell, cause in found:
        causes.setdefault((cause.suite, cause.test, cause.message), cause).cells.append(cell.id)
    return sorted(causes.values(), key=lambda cause: -len(cause.cells))


def _without_result(compat: Compat) -> Iterator[tuple[str, str, str]]:
    for cell in compat.cells:
        for suite, reason in cell.missing.items():
            yield reason, cell.id, suite
    for gap in compat.gaps:
        versions = f"enroot {gap.enroot}, pyxis {gap.pyxis}" if gap.pyxis else gap.runtime
        place = "" if gap.id else f"slurm {gap.slurm}, {versions}, {gap.os}, {gap.arch}"
        yield gap.reason + (f" ({gap.issue})" if gap.issue else ""), gap.id, place


def _bar(suite: str, seconds: Mapping[str, float], names: Sequence[str], longest: float) -> Mapping[str, Any]:
    parts, x = [], 0.0
    for name, value in seconds.items():
        width = value / longest * 1000  # the page's drawing is 1000 wide
        parts.append(
            {
                "name": name,
                "seconds": f"{value:.1f}",
                "x": f"{x:.1f}",
                "width": f"{width:.1f}",
                "color": names.index(name) % _COLOURS,
            }
        )
        x += width
    spoken = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    return {"suite": suite, "parts": parts, "total": f"{sum(seconds.values()):.1f}", "spoken": f"{suite}: {spoken}"}
