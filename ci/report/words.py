"""The words and signs that every form of the report shares."""

from collections.abc import Iterable

from ci.matrix.cells import Runtime
from ci.record.outcomes import TestState
from ci.report.compat import OWN, Change, Contradiction, State, SuiteReport, Verdict

PHASES = ("images", "launch", "ready", "push", "tests", "teardown")
"""Phases in the order of a run; a phase that is not listed here is shown behind them."""

SIGNS = {
    State.FAILED: "✗",
    State.ERROR: "!",
    State.INTERRUPTED: "‖",
    State.UNFINISHED: "…",
    State.PARTLY: "◐",
    State.NOT_RUN: "·",
    State.KNOWN: "≈",
    State.PASSED: "✓",
    State.REUSED: "↺",
    State.SUCCEEDED: "✓",
}
COUNTED = {  # for one, for several
    TestState.PASSED: ("passed", "passed"),
    TestState.FAILED: ("failed", "failed"),
    TestState.ERROR: ("error", "errors"),
    TestState.INTERRUPTED: ("interrupted", "interrupted"),
    TestState.SKIPPED: ("skipped", "skipped"),
    TestState.XFAILED: ("known failure", "known failures"),
    TestState.EXPECTED: ("expected failure", "expected failures"),
}
CONTRADICTIONS = "Contradictions: what these results say can't be true"
"""The title of the list in every form of the report."""
_LABELS = {
    Runtime.NVIDIA.value: "real cells",
    Runtime.EMBEDDED.value: "embedded",
    Runtime.LEGACY.value: "legacy",
    OWN: "suites and commands of your own",
}
_REMARKS = {
    Runtime.EMBEDDED.value: "not a compatibility verdict",
    Runtime.LEGACY.value: "no containers",
    OWN: "no verdict on their cells",
}
_READ = (
    State.PASSED,
    State.SUCCEEDED,
    State.REUSED,
    State.KNOWN,
    State.FAILED,
    State.ERROR,
    State.INTERRUPTED,
    State.UNFINISHED,
    State.PARTLY,
    State.NOT_RUN,
)
_STATES = {State.KNOWN: "with known failures"}


def sentence(verdicts: Iterable[Verdict]) -> str:
    """Return one line that counts cells per runtime; only the first count speaks of compatibility."""
    parts = []
    for verdict in verdicts:
        counts = ", ".join(f"{verdict.counts[it]} {_STATES.get(it, it)}" for it in _READ if verdict.counts.get(it))
        remark = _REMARKS.get(verdict.runtime)
        label = _LABELS.get(verdict.runtime, verdict.runtime)
        parts.append(f"{label}: {counts or 'none run'}" + (f" ({remark})" if remark else ""))
    return "; ".join(parts)


def counted(number: int, state: TestState) -> str:
    """Return "1 error", "2 errors"; nothing for none."""
    return f"{number} {COUNTED[state][number > 1]}" if number else ""


def reruns(number: int) -> str:
    """Return "1 rerun", "2 reruns"; nothing for none."""
    return f"{number} rerun{'s' if number > 1 else ''}" if number else ""


def tried_again(name: str, number: int, message: str) -> str:
    """Return what is to be said of a test that passed at a further try."""
    return f"{reruns(number)}: {name} passed; before, it failed: {first_line(message) or 'no message'}"


def counted_tests(suite: SuiteReport) -> str:
    """Return the tests by outcome, and the tries beyond the first: "3 passed, 1 failed, 2 reruns"."""
    found = [counted(suite.counts.get(state.value, 0), state) for state in COUNTED]
    return ", ".join(filter(None, [*found, reruns(suite.reruns)])) or "no tests"


def contradicted(it: Contradiction) -> str:
    """Return what can't be true, with its cell, suite and run."""
    return f"{it.cell} {it.suite} of run {it.run}: {it.what}"


def told(change: Change) -> str:
    """Return what a change is, behind its cell and suite."""
    states = f": {change.before} → {change.after}" if change.before and change.after != change.before else ""
    if change.after is None:
        states = f": was {change.before}"
    if change.before is None:
        states = f": {change.after}"
    versions = ", ".join(f"{name} {before} → {after}" for name, (before, after) in change.versions.items())
    return states + (f"; {versions}" if states and versions else f": {versions}" if versions else "")


def first_line(text: str) -> str:
    """Return the first line that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
