"""What the page's script reads: an index of all cells for the filters, and the details of each cell, piece by piece."""

from collections import defaultdict
from collections.abc import Iterable
import itertools
import re
from typing import Any

from markupsafe import Markup
import msgspec

from ci.report.behaviours import MARKED
from ci.report.model import CellReport, Change, Gap, Location, Merged, State, SuiteReport
from ci.report.words import LOOKS, PHASES, counted_tests, described, first_line, kind_in_words, mark
from ci.terminal.quantities import count

# Letters per cell. The index is read when the page opens, so thousands of cells have to stay small.
_LONGEST_SEARCH = 2_000
_STATES = {state: number for number, state in enumerate(State)}


class PageData:
    """What the page's script reads."""

    def __init__(self, merged: Merged) -> None:
        """Take a report; `details` come before `shared`, which holds what they refer to."""
        self._merged, self._compat = merged, merged.compat
        # Lists that many results have in common: what is looked up for the first time gets the next number.
        self._names, self._files, self._fingerprints, self._runs = (
            defaultdict[Any, int](itertools.count().__next__) for _ in range(4)
        )
        self._suites = list(dict.fromkeys(suite.suite for _, suite in self._compat.results()))
        every_change = self._compat.changes.items if self._compat.changes else ()
        self._changes = {(change.cell, change.suite): change for change in every_change}
        known = {cell.id for cell in self._compat.cells}
        # Of several changes of a cell the worst counts, which comes first.
        worst_last = (change for change in reversed(every_change) if change.cell in known)
        self.changed: dict[str, Change] = {change.cell: change for change in worst_last}

    def index(self) -> dict[str, Any]:
        """Return what the grid's filters need of each cell."""
        suites = {suite: number for number, suite in enumerate(self._suites)}
        cells = self._compat.cells
        return {
            "states": [[state.value, slug(state.value), LOOKS[state][0]] for state in State],
            "suites": self._suites,
            "marks": [
                [mark(kind, place) for place in range(1 + max((len(getattr(cell, key)) for cell in cells), default=0))]
                for key, kind in MARKED.items()
            ],
            # Lists, and not objects: their keys would be written for each of thousands of cells.
            "cells": [
                [
                    cell.id,
                    _STATES[cell.state],
                    {suites[suite.suite]: _STATES[suite.state] for suite in cell.suites},
                    Location.of(cell),
                    int(cell.id in self.changed),
                    int(any(suite.flaky for suite in cell.suites)),
                    _searched(cell),
                    cell.kind,
                    _marks(cell),
                    {suites[suite.suite]: _marks(suite) for suite in cell.suites if any(_marks(suite))},
                ]
                for cell in self._compat.cells
            ],
            "gaps": [[key(gap), gap.place, gap.reason, gap.issue, gap.id] for gap in self._compat.gaps],
        }

    def details(self) -> Iterable[Markup]:
        """Yield the details of each cell."""
        for cell in self._compat.cells:
            words = kind_in_words(cell.kind)
            yield as_json(
                {
                    "id": cell.id,
                    "apart": f"{words.title}: {words.remark}" if words.remark else "",
                    "state": cell.state,
                    "versions": cell.versions,
                    "missing": list(cell.missing.items()),
                    "suites": [self._suite(cell.id, suite) for suite in cell.suites],
                }
            )

    def shared(self) -> dict[str, Any]:
        """Return what details refer to; complete only when all of them were made."""
        return {
            "images": self._compat.images,
            "artefacts": self._compat.artefacts,
            "names": list(self._names),
            "files": list(self._files),
            "runs": list(self._runs),
            "fingerprints": list(self._fingerprints),
            "phases": PHASES,
        }

    def _suite(self, cell: str, suite: SuiteReport) -> dict[str, Any]:
        passed, change = self._merged.passed[cell, suite.suite], self._changes.get((cell, suite.suite))
        plain: dict[str, Any] = msgspec.to_builtins(suite)
        for name in ("history", "versions", "counts", "outcome", "saw", *MARKED):  # said elsewhere, in fewer letters
            plain.pop(name, None)
        return plain | {
            "tests_counted": counted_tests(suite),
            "change": [change.kind, described(change)] if change else None,
            "files": self._files[suite.files],
            "passed": [self._names[passed.names], passed.seconds],
            "history": [
                [
                    self._runs[past.run],
                    int(past.started.timestamp()),
                    _STATES[past.state],
                    past.seconds,
                    self._fingerprints[past.fingerprint],
                    past.reused_from,
                ]
                for past in suite.history
            ],
        }


def _marks(report: CellReport | SuiteReport) -> list[int]:
    """Return the numbers that stand beside a box."""
    return [len(getattr(report, key)) for key in MARKED]


def more(cell: CellReport) -> str:
    """Return the second line of a box."""
    red = [suite.suite for suite in cell.suites if suite.state.red]
    if red:
        return red[0] if len(red) == 1 else f"{len(red)} of {len(cell.suites)} suites"
    if cell.state in {State.NOT_RUN, State.PARTLY}:
        left = [*(suite.suite for suite in cell.suites if suite.state is State.NOT_RUN), *cell.missing]
        every = len(cell.suites) + len(cell.missing)
        return f"not {left[0]}" if len(left) == 1 and every > 1 else f"{len(left)} of {every} suites"
    tests = sum(sum(suite.counts.values()) for suite in cell.suites)
    flaky = ", flaky" if any(suite.flaky for suite in cell.suites) else ""
    return f"{count(tests, 'test')}{flaky}"


def _searched(cell: CellReport) -> str:
    """Return what the search finds a cell by, beside its id."""
    words = [
        *(f"{name} {version}" for name, version in cell.versions.items()),
        *(test.name for suite in cell.suites for test in suite.tests),
        *(first_line(test.message) for suite in cell.suites for test in suite.tests),
        *(suite.reason for suite in cell.suites),
    ]
    return " ".join(dict.fromkeys(filter(None, words)))[:_LONGEST_SEARCH].lower()


def key(gap: Gap) -> str:
    """Return what a gap is called in the page's address."""
    return gap.id or "/".join(filter(None, (gap.slurm, gap.os, gap.enroot, gap.pyxis, gap.arch)))


def as_json(data: object) -> Markup:
    """Return data as JSON that can stand in a script element: no ``<`` in it ends that, or begins a comment."""
    text = msgspec.json.encode(data).decode()
    # JSON has U+2028 and U+2029 in texts, where older JavaScript ends a line.
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704


def slug(text: str) -> str:
    """Return text as a part of a class name."""
    return re.sub(r"[^a-z]+", "-", text.lower())
