"""What was red and was not asked again: a newer result that says nothing of it does not take its place."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ci.record.outcomes import Outcome, TestState
from ci.record.store import Result
from ci.report.model import SuiteReport
from ci.report.words import few, first_line

WHOLE = ""
"""Stands among the names of tests for a suite that was red without a red test: its cluster did not start, say."""
# Not INTERRUPTED: a test that was broken off said nothing that would have to be answered.
_RED = frozenset({TestState.FAILED, TestState.ERROR})
_NOT_ASKED = frozenset({TestState.SKIPPED, TestState.NOT_ASKED, TestState.INTERRUPTED})
_MOST_NAMED = 3


def red(result: Result) -> frozenset[str]:
    """Return the names of what was red in a result, which a newer one has to answer."""
    if names := frozenset(test.name for test in result.tests if test.outcome in _RED):
        return names
    of_itself = result.outcome in {Outcome.FAILED, Outcome.ERROR} and not result.is_part
    return frozenset({WHOLE} if of_itself else ())


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Which tests a result answers. One that was renamed or removed is answered, too: it would be red for ever."""

    asked: frozenset[str]
    """Tests that came to something."""
    named: frozenset[str]
    """All tests that are in the result, and modules that were left out as a whole."""
    is_whole: bool
    """Whether a test that is not named there is not there any more."""
    has_ended: bool
    """Whether it says something of its suite as a whole."""

    @classmethod
    def of(cls, result: Result) -> Self:
        """Read what a result answers. A part of a suite answers nothing, nor does what passed in a skipped one."""
        selection = result.selection
        if selection is not None and selection.by:
            return cls(asked=frozenset(), named=frozenset(), is_whole=False, has_ended=False)
        nothing = _NOT_ASKED | ({TestState.PASSED} if result.outcome is Outcome.SKIPPED else frozenset())
        names = frozenset(test.name for test in result.tests if test.outcome not in nothing)
        ended = bool(names) or result.outcome in {Outcome.FAILED, Outcome.ERROR, Outcome.SUCCEEDED}
        return cls(
            asked=names,
            named=frozenset(test.name for test in result.tests),
            # pytest may have ended before the last test, as with -x.
            is_whole=selection is not None and 0 < selection.selected <= result.ran,
            has_ended=ended,
        )

    def answer(self, name: str) -> bool:
        """Tell whether it says anything new of a test that was red, or of the suite as a whole."""
        if name == WHOLE:
            return self.has_ended
        # A module that was left out is named by its path, without its tests.
        return name in self.asked or (self.is_whole and not {name, name.partition("::")[0]} & self.named)


def why_it_stands(names: Iterable[str], newest: SuiteReport) -> str:
    """Return why a red result counts although there is a newer one."""
    return f"this result stands: run {newest.run} is newer, but did not ask again {_what(names, newest)}"


def also_red(run: str, names: Iterable[str], newest: SuiteReport) -> str:
    """Return what is said of another run that was red and is not answered by the newest, either."""
    return f"run {run} was red as well, and no complete run since has asked again {_what(names, newest)}"


def _what(names: Iterable[str], newest: SuiteReport) -> str:
    """Return what was not asked again, and why, as far as the newest result says it."""
    said = {test.name: f"{test.outcome}: {first_line(test.message)}" for test in newest.tests}
    of_all = "" if newest.counts else f"{newest.outcome}: {first_line(newest.reason)}"
    each = []
    for name in sorted(names):
        # Of the test, else of its module, else of the suite.
        why = said.get(name) or said.get(name.partition("::")[0]) or of_all
        each.append((name or "the suite as a whole") + (f" ({why.removesuffix(': ')})" if why else ""))
    return f"what was red: {few(each, _MOST_NAMED)}"
