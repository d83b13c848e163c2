"""Whether a combination works, by what was observed on it. What was not observed is never a yes."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import takewhile

import msgspec

from ci.answers.selecting import as_rows, check_values, concerns, has, has_answer, same, tested_cells
from ci.errors import session
from ci.matrix.arch import Arch
from ci.matrix.behaviours import catalogue
from ci.matrix.cells import Cell, Runtime, read_version
from ci.matrix.model import VERSION_AXES, Matrix
from ci.matrix.suites import SUITES, is_own
from ci.report import overview
from ci.report.behaviours import AnswerReport, BehaviourReport, of_catalogue
from ci.report.model import CellReport, Compat, State, SuiteReport
from ci.report.words import first_line

_NEAREST = 3  # cells


class Status(StrEnum):
    """What the answer is; of several cells that have one, the first of these counts."""

    FAILS = "fails"
    HAZARDS = "works, with hazards"
    WORKS = "works"
    UNTESTED = "not tested"


class TestedCell(msgspec.Struct, frozen=True, kw_only=True):
    """A cell, and what its suites came to."""

    id: str
    state: str
    suites: Mapping[str, str]
    not_run: tuple[str, ...]
    """The suites that every group is run with and that it has no result of."""
    hazards: tuple[str, ...]
    refused: tuple[str, ...] = ()
    answers: tuple[AnswerReport, ...]
    """To the one question that was asked."""
    differs: Mapping[str, str]
    """By axis its own value, where that is not the one that was asked for."""


class AnsweredQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and the answers to it."""

    id: str
    question: str
    answers: tuple[AnswerReport, ...]
    cells: Mapping[str, str] = {}
    """The cells that observed them, with the day; none where they are only expected."""


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    schema: int = 1
    status: Status
    asked: Mapping[str, str]
    question: str
    """The id of the one question that was asked; empty where it was whether container jobs work."""
    cells: tuple[TestedCell, ...]
    """The cells of this combination, those without an answer as well."""
    behaviours: tuple[AnsweredQuestion, ...]
    """Hazards and what is refused, or the one question that was asked; observed."""
    failures: tuple[str, ...]
    known_failures: tuple[str, ...]
    unasked: tuple[str, ...]
    """Questions that no test has asked of these cells."""
    nearest: tuple[TestedCell, ...]
    """Of a combination without an answer: other cells that have one. Of one that fails: those that do not."""
    expected: tuple[AnsweredQuestion, ...]
    """What the catalogue alone says of a combination that was not tested."""
    next_step: str


def ask(compat: Compat, asked: Mapping[str, str], rows: Matrix, question: BehaviourReport | None = None) -> Advice:
    """Return what is known of a combination.

    :param asked: by axis: the versions of slurm, enroot and pyxis; os and arch where only one of them is meant.
    :param question: the one question to answer; without it, whether container jobs work.
    :raises SelectionError: for an operating system or architecture that is nowhere.
    """
    check_values({axis: value for axis, value in asked.items() if axis not in VERSION_AXES}, compat, rows)
    real = sorted(
        (cell for cell in tested_cells(compat) if cell.kind == Runtime.NVIDIA),
        key=lambda cell: _distance(cell, asked, rows),
    )
    # Of all cells, not only of those that are meant: the nearest ones are chosen by it, too.
    statuses = {cell.id: _status(cell, question) for cell in real}
    there = [cell for cell in real if not _differs(cell, asked)]
    status = min((statuses[cell.id] for cell in there), key=list(Status).index, default=Status.UNTESTED)
    found = [cell for cell in there if statuses[cell.id] is not Status.UNTESTED]
    # Others help with an untested combination, if they have an answer, and with one that fails, if they do not.
    others = {Status.UNTESTED: set(Status), Status.FAILS: {*Status} - {Status.FAILS}}.get(status, set())
    near = [cell for cell in real if cell not in there and statuses[cell.id] in others - {Status.UNTESTED}]
    every = [_seen(behaviour, found) for behaviour in ([question] if question else compat.behaviours)]
    # Suites that no group runs by itself leave questions open everywhere: that is no news of these cells.
    expected = {behaviour.id for behaviour in compat.behaviours if question or concerns(behaviour, found)}
    only = msgspec.structs.replace(compat, cells=tuple(found))
    known = [] if question else overview.known_failures(only)
    # The matrix has rows such as 22.05, and people ask for the 22.05.8 that they have.
    as_in_rows = as_rows(asked, real, rows)
    return Advice(
        status=status,
        asked=asked,
        question=question.id if question else "",
        cells=tuple(_tested(cell, asked, question) for cell in there),
        behaviours=tuple(seen for seen in every if (question and seen.answers) or any(map(_is_bad, seen.answers))),
        failures=tuple(
            ": ".join(filter(None, (cause.suite, cause.test, cause.message))) for cause in overview.causes(only)
        ),
        known_failures=tuple(dict.fromkeys(cause.text for cause in known)),
        unasked=tuple(seen.id for seen in every if not seen.answers and seen.id in expected),
        nearest=tuple(_tested(cell, asked, question) for cell in near[:_NEAREST]),
        expected=tuple(_expected(as_in_rows, rows, question)) if status is Status.UNTESTED else (),
        next_step=how_to_test(as_in_rows, rows),
    )


def _status(cell: CellReport, question: BehaviourReport | None) -> Status:
    """Return what is known of a cell, or of one question there. What has no answer is never a yes."""
    if question:
        answers = _seen(question, [cell]).answers
        return Status.UNTESTED if not answers else Status.FAILS if any(map(_is_bad, answers)) else Status.WORKS
    # A cell that had an error or was interrupted says nothing of its versions: only a failure is an answer.
    if cell.state is State.FAILED:
        return Status.FAILS
    # A suite that starts no container says nothing of container jobs, however green it is.
    ran = (suite.suite for suite in cell.suites if has_answer(suite.state) and not is_own(suite.suite))
    if not has_answer(cell.state) or not any(SUITES[name].has_containers for name in ran):
        return Status.UNTESTED
    return Status.HAZARDS if cell.hazards else Status.WORKS


def _is_bad(answer: AnswerReport) -> bool:
    return answer.kind in {"hazard", "refused"}


def _seen(question: BehaviourReport, cells: Iterable[CellReport]) -> AnsweredQuestion:
    suites = [(cell.id, suite) for cell in cells for suite in cell.suites if question.id in suite.saw]
    names = dict.fromkeys(name for _, suite in suites for name in suite.saw[question.id])
    days = {cell: f"{suite.started:%Y-%m-%d}" for cell, suite in suites}
    return AnsweredQuestion(
        id=question.id, question=question.question, answers=tuple(map(question.answer, names)), cells=days
    )


def _tested(cell: CellReport, asked: Mapping[str, str], question: BehaviourReport | None) -> TestedCell:
    suites = {suite.suite: _ended(suite) for suite in cell.suites if not is_own(suite.suite)}
    suites |= {suite: f"not run: {why}" for suite, why in cell.missing.items()}
    default = (suite for suite in SUITES.values() if suite.default and cell.runtime in suite.runtimes)
    return TestedCell(
        id=cell.id,
        state=cell.state.value,
        suites=suites,
        not_run=tuple(suite.name for suite in default if suite.name not in suites and question is None),
        hazards=cell.hazards,
        refused=cell.refused,
        answers=_seen(question, [cell]).answers if question else (),
        differs=_differs(cell, asked),
    )


def _ended(suite: SuiteReport) -> str:
    """Return what a suite came to, on which day; of one that fails, since when it does."""
    # The history has the newest time first, so these are the failures since it last did something else.
    failing = list(takewhile(lambda run: run.state is State.FAILED, suite.history))
    since = f" since {failing[-1].started:%Y-%m-%d}, last" if len(failing) > 1 else ""
    reason = f": {first_line(suite.reason)}" if suite.reason and not suite.state.good else ""
    return f"{suite.state}{since} on {suite.started:%Y-%m-%d}{reason}"


def _differs(cell: CellReport, asked: Mapping[str, str]) -> dict[str, str]:
    """Return by axis what a cell has that is not as asked. The release that was observed in it counts as its own."""
    found = {}
    for axis, wanted in asked.items():
        # A cell of Debian's own Slurm is called 22.05, and 22.05.8 was seen in it: it is meant by both.
        own = cell.axes.get(axis) or ""
        observed = cell.versions.get(axis) if axis in VERSION_AXES else None
        if not (same(axis, wanted, own) or same(axis, wanted, observed)):
            found[axis] = own
    return found


def _distance(cell: CellReport, asked: Mapping[str, str], rows: Matrix) -> tuple[float, ...]:
    """Return by what cells are sorted: how many axes differ, then by how many rows of the matrix."""
    differs = _differs(cell, asked).items()
    return len(differs), sum(abs(_place(axis, asked[axis], rows) - _place(axis, own, rows)) for axis, own in differs)


def _place(axis: str, value: str, rows: Matrix) -> float:
    """Return where a value stands among the rows of its axis; a version without a row is between two."""
    if axis not in VERSION_AXES:
        names = [*(system.name for system in rows.systems), *(arch.value for arch in rows.arches), value]
        return names.index(value)  # what has no row is found at the end, where it was added
    known = sorted(row.version for row in getattr(rows, axis))
    version = read_version(value)
    if version is None:  # of data that is not ours
        return len(known)
    # A row is at its number and a half, and what has no row at the whole number between its neighbours.
    return (bisect_left(known, version) + bisect_right(known, version)) / 2


def _cells(asked: Mapping[str, str], rows: Matrix) -> list[Cell]:
    """Return the cells of the matrix that are as asked, those that can run on this machine first."""
    found = [cell for cell in rows.without_groups() if cell.runtime is Runtime.NVIDIA and has(cell, asked)]
    return sorted(found, key=lambda cell: cell.arch is not Arch.host())  # False comes first


def _expected(asked: Mapping[str, str], rows: Matrix, question: BehaviourReport | None) -> Iterable[AnsweredQuestion]:
    """Yield what the catalogue has for these cells: its answers to one question, else all that is not well."""
    cells = _cells(asked, rows)
    for behaviour in catalogue().values():
        if (question is None or question.id == behaviour.id) and Runtime.NVIDIA in SUITES[behaviour.suite].runtimes:
            # A combination without an OS or an architecture has several cells, which need not answer alike.
            right = dict.fromkeys(behaviour.answer_on(cell).name for cell in cells)
            answers = map(of_catalogue({behaviour.id: behaviour})[0].answer, right)
            if wanted := tuple(answer for answer in answers if question or _is_bad(answer)):
                yield AnsweredQuestion(id=behaviour.id, question=behaviour.question, answers=wanted)


def how_to_test(asked: Mapping[str, str], rows: Matrix) -> str:
    """Return the command that tests a combination, or what comes before it."""
    found = _cells(asked, rows)
    return session("matrix", str(found[0])) if found else "add its versions to matrix.toml: docs/your-own-versions.md"
