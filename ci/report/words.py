"""The words and signs that every form of the report shares."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ci.matrix.behaviours import AnswerKind
from ci.matrix.cells import Runtime
from ci.record.outcomes import TestState
from ci.report.behaviours import MARKED, AnswerReport
from ci.report.model import OWN, CellReport, Change, State, SuiteReport, TestReport, Verdict, parts_of
from ci.terminal.quantities import count

PHASES = ("images", "launch", "ready", "push", "tests", "teardown")
"""Phases in the order of a run; a phase that is not listed here is shown after them."""
LOOKS = {
    State.FAILED: ("✗", "bold red"),
    State.ERROR: ("!", "bold magenta"),
    State.INTERRUPTED: ("‖", "yellow"),
    State.UNFINISHED: ("…", "yellow"),
    State.PARTLY: ("◐", "cyan"),
    State.NOT_RUN: ("·", "dim"),
    State.KNOWN: ("≈", "yellow"),
    State.PASSED: ("✓", "green"),
    State.REUSED: ("↺", "blue"),
    State.SUCCEEDED: ("✓", "green"),
}
"""The sign of each state, and how a terminal shows it."""
HAZARD = "⚠"
SEVERAL, NOT_OBSERVED = "several", "not observed"
ANSWERS = {
    AnswerKind.WORKS.value: "✓",
    AnswerKind.CHANGED.value: "≠",
    AnswerKind.REFUSED.value: "⊘",
    AnswerKind.HAZARD.value: HAZARD,
    SEVERAL: "±",
    NOT_OBSERVED: "·",
}
"""The sign of each kind of answer, of several that are not the same, and of none."""
ANSWER_KINDS = {
    AnswerKind.WORKS.value: "it does what it should",
    AnswerKind.CHANGED.value: "it does something else than other versions, and harms nobody",
    AnswerKind.REFUSED.value: "it fails, and says so",
    AnswerKind.HAZARD.value: "silently wrong, lost, leaked, hanging, or breaking other people's jobs",
    SEVERAL: "another axis decides, too",
    NOT_OBSERVED: "nothing is known",
}
"""What each kind of answer means."""
_NOUNS = {
    TestState.ERROR: "error",
    TestState.XFAILED: "known failure",
    TestState.EXPECTED: "expected failure",
}
"""What of tests is counted by a noun; the others are "passed", however many there are."""
CONTRADICTIONS = "Contradictions: what these results say can't be true"
"""The title of the list in every form of the report."""


class KindWords(NamedTuple):
    """How the cells of a kind are called."""

    label: str
    """Where they are counted."""
    title: str
    """Of their table."""
    remark: str
    """Why they are not counted with real cells of releases; empty for these."""


RUNTIMES = {
    Runtime.NVIDIA.value: KindWords("real cells", "Real enroot and Pyxis", ""),
    Runtime.EMBEDDED.value: KindWords("embedded", "Embedded runtime", "not a compatibility verdict"),
    Runtime.LEGACY.value: KindWords("legacy", "Legacy, plain Slurm", "no containers"),
    OWN: KindWords("suites and commands of your own", "", "no verdict on their cells"),
}
"""How the cells of each runtime are called, in the report's order."""
# "3 known failure" would read as a count of tests.
_SEVERAL = {State.KNOWN: "with known failures"}


def kind_in_words(kind: str) -> KindWords:
    """Return how cells of a kind are called."""
    runtime, stands_apart = parts_of(kind)
    # A result of a newer version may have a runtime that this one does not know.
    words = RUNTIMES.get(runtime, KindWords(runtime, runtime, "unknown runtime, not counted"))
    if runtime == kind:
        return words
    apart = "not counted with releases"
    if stands_apart:
        site = stands_apart.startswith("site ")
        apart = "a cluster that exists, not counted with cells" if site else "not counted with cells without it"
    rest = kind.removeprefix(runtime)
    remark = "; ".join(filter(None, [apart, words.remark]))
    return KindWords(f"{words.label}{rest}", f"{words.title}{rest}", remark)


def sentence(verdicts: Iterable[Verdict]) -> str:
    """Return one line that counts cells per runtime; only the first count speaks of compatibility."""
    parts = []
    for verdict in verdicts:
        label, _, remark = kind_in_words(verdict.runtime)
        counts = ", ".join(f"{number} {_SEVERAL.get(State(state), state)}" for state, number in verdict.counts.items())
        parts.append(f"{label}: {counts or 'none run'}" + (f" ({remark})" if remark else ""))
    return "; ".join(parts)


def counted(number: int, state: TestState) -> str:
    """Return "1 error", "2 errors"."""
    return count(number, _NOUNS[state]) if state in _NOUNS else f"{number} {state}"


def reruns(number: int) -> str:
    """Return "1 rerun", "2 reruns"; nothing for none."""
    return count(number, "rerun") if number else ""


def mark(kind: str, number: int) -> str:
    """Return "⚠ 1 hazard", "⚠ 2 hazards", "⊘ 2 refused"; nothing for none."""
    counted = count(number, kind) if kind == AnswerKind.HAZARD else f"{number} {kind}"
    return f"{ANSWERS[kind]} {counted}" if number else ""


def marks(report: SuiteReport | CellReport) -> list[str]:
    """Return what a box says beside its state: how many hazards were seen, and how much is refused."""
    return [*filter(None, (mark(kind, len(getattr(report, key))) for key, kind in MARKED.items()))]


def advice(answer: AnswerReport, question: str = "") -> str:
    """Return what happens, for which versions, and what a user does about it; before it what was asked, if given."""
    return " ".join(filter(None, (question, answer.what, f"({answer.limits})" if answer.limits else "", answer.do)))


def few(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def passed_again(test: TestReport) -> str:
    """Return what is to be said of a test that passed at a further try."""
    return f"{reruns(test.reruns)}: {test.name} passed; before, it failed: {first_line(test.message) or 'no message'}"


def counted_tests(suite: SuiteReport) -> str:
    """Return the tests by outcome, and the tries beyond the first: "3 passed, 1 failed, 2 reruns"."""
    found = [counted(number, TestState(state)) for state, number in suite.counts.items()]
    return ", ".join(filter(None, [*found, reruns(suite.reruns)])) or "no tests"


def described(change: Change) -> str:
    """Return what a change is, as it follows the cell and the suite."""
    states = f": {change.before} → {change.after}" if change.before and change.after != change.before else ""
    if change.after is None:
        states = f": was {change.before}"
    if change.before is None:
        states = f": {change.after}"
    versions = ", ".join(f"{name} {before} → {after}" for name, (before, after) in change.versions.items())
    return states + (f"; {versions}" if states and versions else f": {versions}" if versions else "")


def phases_in_order(phases: Iterable[str]) -> list[str]:
    """Return phases in the order of a run, each once."""
    # Phases that are not known come last, by name.
    return sorted(set(phases), key=lambda phase: (PHASES.index(phase) if phase in PHASES else len(PHASES), phase))


def first_line(text: str) -> str:
    """Return the first line that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
