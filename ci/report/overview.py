"""What all cells together tell: what went wrong, by its cause; known failures; and where the seconds went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import statistics
from typing import Any

from ci.record.outcomes import TestState
from ci.report.compat import RED, Compat, State
from ci.report.words import PHASES, first_line

_BAD_TESTS = frozenset({TestState.FAILED, TestState.ERROR, TestState.INTERRUPTED})
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


def causes(compat: Compat) -> list[Cause]:
    """Return what went wrong, most widespread first."""
    found: dict[tuple[str, ...], Cause] = {}
    for cell, suite in compat.results():
        if suite.state not in RED:
            continue
        bad = [test for test in suite.tests if test.outcome in _BAD_TESTS]
        told = [(test.name, first_line(test.message) or "no message") for test in bad]
        if suite.reason or not bad:
            told.append(("", suite.reason or "no reason given"))
        for name, message in told:
            cause = Cause(state=suite.state, suite=suite.suite, test=name, message=message)
            found.setdefault((suite.suite, name, message), cause).cells.append(cell.id)
    return sorted(found.values(), key=lambda cause: -len(cause.cells))


def known_failures(compat: Compat) -> list[Cause]:
    """Return the known failures that occurred, most widespread first."""
    found: dict[tuple[str, ...], Cause] = {}
    for cell, suite in compat.results():
        for test in suite.tests:
            if test.outcome is TestState.XFAILED:
                message = first_line(test.message).removesuffix(f"({test.issue})").rstrip()
                cause = Cause(state=State.KNOWN, suite=suite.suite, test=test.name, message=message, issue=test.issue)
                found.setdefault((suite.suite, test.name, message), cause).cells.append(cell.id)
    return sorted(found.values(), key=lambda cause: -len(cause.cells))


def phases(compat: Compat) -> Mapping[str, Any]:
    """Return the plot of seconds per phase, one bar per suite."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for _, suite in compat.results():
        if suite.timings and not suite.reused_from:
            for phase, value in suite.timings.items():
                seconds.setdefault(suite.suite, {}).setdefault(phase, []).append(value)
    if not seconds:
        return {}
    occurring = {phase for of in seconds.values() for phase in of}
    names = [name for name in PHASES if name in occurring] + sorted(occurring - set(PHASES))
    medians = {
        suite: {name: statistics.median(of[name]) for name in names if name in of} for suite, of in seconds.items()
    }
    longest = max(sum(of.values()) for of in medians.values()) or 1.0
    return {"names": names, "rows": [_bar(suite, of, names, longest) for suite, of in medians.items()]}


def _bar(suite: str, seconds: Mapping[str, float], names: Sequence[str], longest: float) -> Mapping[str, Any]:
    parts, x = [], 0.0
    for name, value in seconds.items():
        width = value / longest * 1000
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
