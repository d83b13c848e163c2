"""The page's view by behaviour: what each version answered. One table for each suite and each axis that decides."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from msgspec.structs import replace

from ci.matrix.cells import Runtime
from ci.report import behaviours, grid
from ci.report.behaviours import BehaviourReport
from ci.report.model import CellReport, Compat, Location
from ci.report.words import ANSWERS, NOT_OBSERVED, SEVERAL, kind_in_words
from ci.terminal.quantities import count

AXES = {"slurm": "Slurm", "enroot": "enroot", "pyxis": "Pyxis", "os": "OS", "arch": "Arch", "": ""}
"""What may decide a question, as it is written; the last one is for what nothing of it decides."""

Column = tuple[str, str, str]
"""An axis, a kind of cells, and a version of the axis."""
Saws = tuple[int, ...]
"""What the suites of a cell saw, each as its place in the list of all that suites saw."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the cells of a column answered to a question."""

    behaviour: BehaviourReport
    column: Column
    counts: Mapping[str, int]
    """By the answer's name, how many cells saw it."""
    cells: int
    """How many cells saw any."""

    @property
    def key(self) -> str:
        """What it is called in the page's address."""
        return " ".join((self.behaviour.id, *filter(None, self.column)))

    @property
    def kind(self) -> str:
        """Of the only answer; a hazard among several is not hidden by the others."""
        kinds = {self.behaviour.answer(name).kind for name in self.counts}
        if len(self.counts) > 1:
            return "hazard" if "hazard" in kinds else SEVERAL
        return next(iter(kinds), NOT_OBSERVED)

    @property
    def sign(self) -> str:
        """Of its kind."""
        return ANSWERS[self.kind]

    @property
    def word(self) -> str:
        """The name of the answer; of several answers only how many there are."""
        names = list(self.counts)
        return names[0] if len(names) == 1 else count(len(names), "answer") if names else NOT_OBSERVED

    @property
    def more(self) -> str:
        """How many cells saw it."""
        return count(self.cells, "cell") if self.cells else ""


@dataclass(frozen=True, kw_only=True)
class AnswersTable:
    """The questions of a suite that an axis decides."""

    suite: str
    axis: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Entry]]

    @property
    def title(self) -> str:
        """Whose questions, and what decides them."""
        return f"{self.suite}, by {AXES[self.axis]}" if self.axis else f"{self.suite}, whatever the version"

    @property
    def groups(self) -> Sequence[tuple[str, int]]:
        """Each kind of cells, and how many columns it has; empty where all are real ones of releases."""
        found = [(kind, len(list(columns))) for kind, columns in groupby(self.columns, key=lambda column: column[1])]
        words = ((kind_in_words(kind), number) for kind, number in found)
        named = [(", ".join(filter(None, (kind.title, kind.remark))), number) for kind, number in words]
        return [] if len(found) == 1 and found[0][0] == Runtime.NVIDIA else named


class Answers:
    """What the cells of a report answered, for the template and for the page's script."""

    def __init__(self, compat: Compat) -> None:
        """Take a report."""
        self._compat = compat
        # A number for each set of answers: a set that is met for the first time gets the next one.
        self._saw: dict[tuple[tuple[str, tuple[str, ...]], ...], int] = {}
        self._of_cell = [
            [
                (self._saw.setdefault(tuple(suite.saw.items()), len(self._saw)), suite)
                for suite in cell.suites
                if suite.saw
            ]
            for cell in compat.cells
        ]
        # Thousands of cells have a few dozen different answers: a column counts those alike, each is looked at once.
        self._columns: dict[Column, Counter[Saws]] = {}
        for cell, saws in zip(compat.cells, self._of_cell, strict=True):
            for column in _columns(cell):
                self._columns.setdefault(column, Counter())[tuple(place for place, _ in saws)] += 1
        # A dict keeps the order in which its numbers were given, so this list has each set at its number.
        every = list(self._saw)
        self._seen = {
            saws: behaviours.seen(dict(every[place]) for place in saws)
            for saws in {saws for counted in self._columns.values() for saws in counted}
        }
        seen = behaviours.seen(self._seen.values())
        self.known = list(_with_older(compat, seen))
        self.unobserved = [behaviour for behaviour in self.known if behaviour.id not in seen]
        self.places = {behaviour.id: place for place, behaviour in enumerate(self.known)}
        self.column_places = {column: place for place, column in enumerate(self._columns)}

    @cached_property
    def tables(self) -> Sequence[AnswersTable]:
        """The questions that were answered."""
        questions: dict[tuple[str, str], list[BehaviourReport]] = {}
        unobserved = {behaviour.id for behaviour in self.unobserved}
        for behaviour in self.known:
            # A runtime or a setting that decides it is no column: such a question is in the last table.
            for axis in behaviour.axes & AXES.keys() or {""} if behaviour.id not in unobserved else ():
                questions.setdefault((behaviour.suite, axis), []).append(behaviour)
        suites, axes = list(dict.fromkeys(behaviour.suite for behaviour in self.known)), list(AXES)
        order = sorted(questions, key=lambda table: (suites.index(table[0]), axes.index(table[1])))
        return [self._table(suite, axis, questions[suite, axis]) for suite, axis in order]

    def data(self) -> dict[str, Any]:
        """Return what the script needs to show this for some of the cells only, and to open an entry or a cell."""
        answers = [{answer.name: at for at, answer in enumerate(behaviour.answers)} for behaviour in self.known]
        places = list(Location._fields)
        return {
            "signs": ANSWERS,
            "several": SEVERAL,
            "none": NOT_OBSERVED,
            "behaviours": self.known,
            # An axis is told by its place in a cell's `Location`, which the index has of each cell; -1 is none.
            "axes": [[place, AXES[axis]] for place, axis in enumerate(places)],
            "columns": [[places.index(axis) if axis else -1, *of] for axis, *of in self._columns],
            "saws": [
                {(place := self.places[id_]): [answers[place][name] for name in names] for id_, names in saw}
                for saw in self._saw
            ],
            "cells": [
                [[place, int(suite.started.timestamp()), suite.reused_from] for place, suite in saws]
                for saws in self._of_cell
            ],
        }

    def _table(self, suite: str, axis: str, questions: Sequence[BehaviourReport]) -> AnswersTable:
        ids = {behaviour.id for behaviour in questions}
        # Kinds of cells that answered none of these questions would only be empty columns.
        kinds = grid.kinds_in_order(
            column[1]
            for column, counted in self._columns.items()
            if column[0] == axis and any(ids & self._seen[saws].keys() for saws in counted)
        )
        columns = sorted(
            (column for column in self._columns if column[0] == axis and column[1] in kinds),
            key=lambda column: (kinds.index(column[1]), grid.natural(column[2])),
        )
        rows = [[self._entry(behaviour, column) for column in columns] for behaviour in questions]
        return AnswersTable(suite=suite, axis=axis, columns=columns, rows=rows)

    def _entry(self, behaviour: BehaviourReport, column: Column) -> Entry:
        counts: Counter[str] = Counter()
        cells = 0
        for saws, number in self._columns[column].items():
            answers = self._seen[saws].get(behaviour.id, ())
            counts.update(dict.fromkeys(answers, number))  # Counter.update adds
            cells += number if answers else 0
        return Entry(behaviour=behaviour, column=column, counts=counts, cells=cells)


def _columns(cell: CellReport) -> Iterator[Column]:
    """Yield where a cell is found: a column of each axis."""
    place = Location.of(cell)._asdict()
    return ((axis, cell.kind, place.get(axis, "")) for axis in AXES)


def _with_older(compat: Compat, seen: Mapping[str, tuple[str, ...]]) -> Iterator[BehaviourReport]:
    """Yield all questions, and those and their answers that only an older catalogue had: what was seen is not lost."""
    known = {behaviour.id for behaviour in compat.behaviours}
    older = [BehaviourReport(id=name, suite="no longer asked", question=name) for name in seen if name not in known]
    for behaviour in (*compat.behaviours, *older):
        names = {answer.name for answer in behaviour.answers}
        more = tuple(behaviour.answer(name) for name in seen.get(behaviour.id, ()) if name not in names)
        yield replace(behaviour, answers=(*behaviour.answers, *more)) if more else behaviour
