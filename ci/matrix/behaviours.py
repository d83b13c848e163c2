"""Questions whose right answer depends on versions, operating system or runtime: ``behaviours.toml`` beside a suite.

A test asks for the answer that is right on its cell, and records which one it saw. Here are the words for both: what
happens, since and until which version, and whether it is dangerous. Nothing is observed here.

Each table is a question, named by its id. ``answer`` has its answers; exactly one of them is right on a cell:

=============  =======================================================================================================
``name``       what results call it, such as ``host``; several words are allowed
``kind``       ``works``, ``changed``, ``refused``, or ``hazard``: silently wrong, lost, leaked, hanging, or breaking
               other people's jobs
``what``       what happens, as a sentence
``do``         what a user does about it; optional
``issue``      where upstream tracks it: an address or ``OWNER/REPO#NUMBER``; optional
``fails``      the test fails where this answer is right, and these are the words of the fault: a known failure
``slurm``      the versions for which it is right: a specifier, or a list of which any may hold; likewise ``enroot``
               and ``pyxis``. A runtime without versions answers as the newest release does
``os``         the operating systems (a list); likewise ``arch`` and ``runtime``
``settings``   what the cell's profile says, a list of which any may hold: ``KEY=VALUE``, or a key
``otherwise``  true: it is right where no other one is
``was``        what earlier results call it, where it was renamed or its question joined another: a list of ``ID: NAME``
``subjects``   of a question that is asked of several: those of which it is right; for the others there is ``otherwise``
=============  =======================================================================================================

A question with ``each``, the name of a folder beside the catalogue, is asked of each subject that has a file there: it
is as many questions, ``ID-SUBJECT``. A new subject is a new file, and its answers are those that are right otherwise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
import functools
import os
from pathlib import Path
import re

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ci import paths
from ci.errors import MatrixError, SelectionError
from ci.matrix.cells import Cell
from ci.matrix.model import VERSION_AXES
from ci.matrix.selections import read_issue, specifier
from ci.matrix.suites import FOLDER, SUITES
from ci.matrix.tables import TomlTable, did_you_mean, read_table

FILE = "behaviours.toml"
"""The questions of a suite, in its folder."""

# Newer than any release, so that ">=0.21" holds.
_NEWEST = Version("9999")
_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_WORDS = ("os", "arch", "runtime")
_SETTINGS = "settings"

Limits = Mapping[str, tuple[str, ...]]
"""By axis, ``runtime`` or ``settings``: values of which any may hold; of versions they are specifiers."""


class AnswerKind(StrEnum):
    """What an answer means to whoever runs jobs."""

    WORKS = "works"
    CHANGED = "changed"
    """It does something else than other versions do, and tells of it or harms nobody."""
    REFUSED = "refused"
    """It fails, and says so."""
    HAZARD = "hazard"
    """Silently wrong, lost, leaked, hanging, or breaking other people's jobs."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of a question, and the cells on which it is the right one."""

    name: str
    kind: AnswerKind
    what: str
    do: str = ""
    issue: str = ""
    fails: str = ""
    """The words of the fault by which its test fails; empty where the test passes."""
    only: Limits = field(default_factory=dict)
    """What limits it."""
    otherwise: bool = False
    subjects: tuple[str, ...] | None = None
    """Those of which it is right; None where it is of no subject in particular."""
    was: tuple[str, ...] = ()
    """What earlier results call it: ``ID: NAME``."""

    def is_for(self, cell: Cell, subject: str = "") -> bool:
        """Tell whether its limits hold on a cell; one that is for all others has none."""
        return (self.subjects is None or subject in self.subjects) and fits(cell, self.only)

    @property
    def axes(self) -> tuple[str, ...]:
        """What limits it."""
        return tuple(self.only)

    @property
    def limits(self) -> str:
        """For which cells it is right: "Slurm <23.11, os debian12"; empty where it is for all others."""
        return ", ".join(filter(None, (" or ".join(self.subjects or ()), in_words(self.only))))


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """A question, and its answers."""

    id: str
    suite: str
    """The suite that asks it."""
    question: str
    answers: tuple[Answer, ...]
    where: str
    """File and line."""
    topic: str = ""
    """Of a question that is asked of several subjects: its id without the subject."""
    subject: str = ""
    """Whom it is asked of."""

    def answer_on(self, cell: Cell) -> Answer:
        """Return the right answer on a cell.

        :raises MatrixError: where there is none, or more than one.
        """
        found = [answer for answer in self.answers if not answer.otherwise and answer.is_for(cell, self.subject)]
        # Only where none of the others holds; two that hold are a fault of the catalogue.
        found = found or [answer for answer in self.answers if answer.otherwise]
        if len(found) != 1:
            names = ", ".join(answer.name for answer in found)
            raise MatrixError(
                f"{len(found)} answers of {self.id} are for {cell}" + (f": {names}" if names else ""),
                where=self.where,
                next_step="change the limits of its answers, so that exactly one is for each cell",
            )
        return found[0]


def version_of(cell: Cell, axis: str) -> Version:
    """Return the version of ``slurm``, ``enroot`` or ``pyxis`` that the cell has to behave like."""
    return cell.answers_of(axis) or _NEWEST


@functools.cache
def catalogue(root: Path = paths.REPOSITORY) -> Mapping[str, Behaviour]:
    """Return all questions by id, those of one suite beside each other.

    :raises MatrixError: names every fault of a file, with its line.
    """
    found: dict[str, Behaviour] = {}
    for suite in SUITES.values():
        file = root / FOLDER / suite.folder / FILE
        if not file.is_file():
            continue
        table = read_table(file)
        for name in table.values:
            inner = table.table(name)
            if inner is None:
                continue
            for each in _behaviours(name, suite.name, inner):
                if each.id in found:
                    table.fault(name, f"{found[each.id].where} has a question of this id already")
                found[each.id] = each
        # A file at a time: line numbers are those of one file.
        table.faults.raise_if_any()
    # Last, because a question may have moved from a suite that is read later.
    for (name, answer), now in renamed(found).items():
        if not answer or answer in {today.name for today in (found[name].answers if name in found else ())}:
            what = f"was: {name}: {answer} is an answer of today" if answer else f"was: expected ID: NAME, not {name!r}"
            raise MatrixError(what, where=found[now[0]].where)
    return found


def renamed(known: Mapping[str, Behaviour]) -> Mapping[tuple[str, str], tuple[str, str]]:
    """Return, by id and name, what answers of earlier results are called now: their id and name."""
    every = (
        (was.partition(": "), behaviour.id, answer.name)
        for behaviour in known.values()
        for answer in behaviour.answers
        for was in answer.was
    )
    return {(was[0], was[2]): (now, name) for was, now, name in every}


def behaviour(name: str) -> Behaviour:
    """Return the question of this id.

    :raises SelectionError: if there is none.
    """
    if name in catalogue():
        return catalogue()[name]
    raise SelectionError(f"there is no behaviour {name!r}{did_you_mean(name, catalogue())}")


def _behaviours(name: str, suite: str, table: TomlTable) -> Iterator[Behaviour]:
    """Yield a question; of one that is asked of several subjects, one for each."""
    folder = table.text("each", "")
    read = _behaviour(name, suite, table)
    if not folder:
        yield read
        return
    files = sorted(table.faults.path.parent.joinpath(folder).glob("*.py"))
    # Ids have hyphens where the names of modules can't.
    subjects = [file.stem.replace("_", "-") for file in files]
    # A slip in a name would silently leave that subject with the answer for all others.
    for subject in sorted({subject for answer in read.answers for subject in answer.subjects or ()} - {*subjects}):
        table.fault("", f"there is no subject {subject!r} in {folder}{did_you_mean(subject, subjects)}")
    for subject in subjects:
        yield replace(read, id=f"{name}-{subject}", question=f"{subject}: {read.question}", topic=name, subject=subject)


def _behaviour(name: str, suite: str, table: TomlTable) -> Behaviour:
    if not _ID.fullmatch(name):
        table.fault("", f"an id has small letters, digits and hyphens, not {name!r}")
    question = table.text("question")
    answers = tuple(_answer(row) for row in table.rows("answer"))
    if not answers:
        table.fault("", f"has no answer; add [[{name}.answer]] with name, kind and what")
    if sum(answer.otherwise for answer in answers) > 1:
        table.fault("", "has two answers with otherwise = true")
    for each in {answer.name for answer in answers}:
        if sum(answer.name == each for answer in answers) > 1:
            table.fault("", f"has two answers called {each!r}; give one of them a list of versions")
    table.finish()
    line = table.faults.line_of(name)
    where = f"{os.path.relpath(table.faults.path, paths.REPOSITORY)}:{line}"
    return Behaviour(id=name, suite=suite, question=question, answers=answers, where=where)


def _answer(table: TomlTable) -> Answer:
    kind = table.text("kind")
    if kind and kind not in set(AnswerKind):
        table.fault("kind", f"unknown kind {kind!r}{did_you_mean(kind, AnswerKind)}")
        kind = ""
    only = read_limits(table, _SETTINGS)
    otherwise = table.boolean("otherwise", default=False)
    if otherwise and only:
        table.fault("otherwise", "an answer for all other cells has no limits of its own")
    found = Answer(
        name=table.text("name"),
        kind=AnswerKind(kind or AnswerKind.WORKS),
        what=table.text("what"),
        do=table.text("do", ""),
        issue=read_issue(table) or "",
        fails=table.text("fails", ""),
        only=only,
        otherwise=otherwise,
        subjects=table.texts("subjects") if table.has("subjects") else None,
        was=table.texts("was"),
    )
    table.finish()
    return found


def read_limits(table: TomlTable, *more: str) -> Limits:
    """Return the limits in a table: on axes and runtimes, and on what ``more`` names."""
    only = {key: table.one_or_more(key) for key in (*VERSION_AXES, *_WORDS, *more) if table.has(key)}
    for axis in VERSION_AXES:
        for text in only.get(axis, ()):
            specifier(table, axis, text)
    return only


def fits(cell: Cell, only: Limits) -> bool:
    """Tell whether limits hold on a cell."""
    return all(_holds(cell, key, any_of) for key, any_of in only.items())


def in_words(only: Limits) -> str:
    """Return limits in words: "Slurm <23.11, os debian12"; nothing where there are none."""
    names = {"slurm": "Slurm", "pyxis": "Pyxis", _SETTINGS: "a profile with"}
    return ", ".join(f"{names.get(key, key)} {' or '.join(any_of)}" for key, any_of in only.items())


def _holds(cell: Cell, key: str, any_of: tuple[str, ...]) -> bool:
    if key in VERSION_AXES:
        return _matches(any_of, version_of(cell, key))
    if key == _SETTINGS:
        return any(map(cell.says, any_of))
    return {"os": cell.os.name, "arch": cell.arch.value, "runtime": cell.runtime.value}[key] in any_of


# A few specifiers are compared for thousands of cells.
@functools.cache
def _matches(specifiers: tuple[str, ...], version: Version) -> bool:
    return any(SpecifierSet(text).contains(version, prereleases=True) for text in specifiers)
