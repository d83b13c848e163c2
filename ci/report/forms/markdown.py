"""``compat.md``: a report as GitHub-flavoured Markdown, for a job's summary or a wiki."""

from collections.abc import Iterator, Sequence

from ci.report import behaviours, grid, overview
from ci.report.behaviours import MARKED, AnswerReport
from ci.report.escaped import code as _code
from ci.report.escaped import text as _text
from ci.report.escaped import whole as _whole
from ci.report.model import CellReport, ChangeKind, Compat, Merged, State, SuiteReport
from ci.report.words import (
    ANSWERS,
    CONTRADICTIONS,
    HAZARD,
    LOOKS,
    NOT_OBSERVED,
    advice,
    counted_tests,
    described,
    few,
    first_line,
    marks,
    passed_again,
    reruns,
    sentence,
)
from ci.terminal.quantities import count

NAME = "md"
FILE = "compat.md"

# GitHub's summary of a job holds one MiB; a grid of five thousand cells takes a fifth of it.
_MOST = 200
"""How many entries of a list are written; the rest is counted."""
_TESTS = 10  # of a suite


def pieces(merged: Merged) -> Iterator[str]:
    """Yield the report; links are relative to its folder."""
    compat = merged.compat
    subjects = "".join(f"; subject {_text(subject)}" for subject in compat.subjects)
    yield f"# Container jobs on Slurm\n\n**{sentence(compat.verdicts)}.**\n\n"
    commits = filter(None, dict.fromkeys(suite.commit for _, suite in compat.results()))
    tested = "".join(f"; pyxis-matrix at {_code(commit)}" for commit in commits)
    yield f"Made {compat.made:%Y-%m-%d %H:%M} UTC of {_runs(compat)}{subjects}{tested}.\n\n"
    yield _changes(compat)
    yield from _grid(compat)
    results = list(compat.results())
    yield _section("What went wrong", [_red(cell, suite) for cell, suite in results if suite.state.red])
    contradictions = [
        f"- {_code(result.cell)} {_text(result.suite)} of run {_code(result.run)}: {_text(result.what)}"
        for result in compat.contradictions
    ]
    yield _section(CONTRADICTIONS, contradictions)
    known = [
        f"- {_code(cause.test)}: {_text(cause.message)}{_issue(cause.issue)}, on {count(len(set(cause.cells)), 'cell')}"
        for cause in overview.known_failures(compat)
    ]
    yield _section("Known failures", known)
    # In the order of MARKED.
    for title, kind in zip(("Hazards", "Refused: it fails, and says so"), MARKED.values(), strict=True):
        seen = [
            f"- {ANSWERS[kind]} {_code(answered.behaviour.id)} on {count(len(answered.cells), 'cell')}: "
            f"{_whole(advice(answered.answer, answered.behaviour.question))}{_issue(answered.answer.issue)} "
            f"Seen on {few(list(map(_code, answered.cells)))}."
            for answered in overview.answers(compat, kind)
        ]
        yield _section(title, seen)
    yield from _of_subjects(compat)
    again = [
        f"- {_code(cell.id)} {_text(suite.suite)}: {_text(passed_again(test))}"
        for cell, suite in results
        for test in overview.tried_again(suite)
    ]
    yield _section("Passed at a further try", again)
    flaky = [f"- {_code(cell.id)} {_text(suite.suite)}" for cell, suite in results if suite.flaky]
    yield _section("Flaky: passed and failed, and nothing was changed", flaky)
    yield _section("Not run", _not_run(compat))
    unfinished = [
        f"- {_code(suite.cell)} {_text(suite.suite)} of run {_code(suite.run)}, {count(suite.tests, 'test')}"
        for suite in compat.unfinished
    ]
    yield _section("Not finished (running, or killed)", unfinished)
    unread = [f"- {_code(problem.where)}: {_text(problem.what)}" for problem in compat.problems]
    yield _section("Could not be read", unread)


def _runs(compat: Compat) -> str:
    shown = [run for run in compat.runs if run.shown]
    names = few([_code(run.id) for run in shown])
    return f"{'run' if len(shown) == 1 else 'the runs'} {names}" if shown else "no results"


def _grid(compat: Compat) -> Iterator[str]:
    for table in grid.tables(compat):
        title = f"{table.title}, {table.arch}" if table.arch else table.title
        # In a table nothing else ends a line.
        heads = [f"enroot {_text(one)}<br>Pyxis {_text(two)}" if two else _text(one) for one, two in table.columns]
        yield f"## {_text(title)}" + (f" ({table.remark})" if table.remark else "") + "\n\n"
        yield _row("Slurm", *heads) + "|---" * (len(heads) + 1) + "|\n"
        for slurm, os, boxes in table.rows:
            said = ("<br>".join(map(_box, box.cells)) or (_sign(State.NOT_RUN) if box.gap else "") for box in boxes)
            yield _row(f"**{_text(slurm)}** {_text(os)}", *said)
        yield "\n"


def _of_subjects(compat: Compat) -> Iterator[str]:
    """Yield a table for each cell that was asked about several subjects: a row for each of them."""
    questions = {behaviour.topic: behaviour.question.partition(": ")[2] for behaviour in compat.behaviours}
    for cell in compat.cells:
        found = behaviours.of_subjects(behaviours.seen(suite.saw for suite in cell.suites), compat.behaviours)
        topics = [topic for topic in questions if any(topic in answers for answers in found.values())]
        if not topics:
            continue
        yield f"## Subjects on {_code(cell.id)}\n\n"
        yield _row("", *(_text(questions[topic]) for topic in topics)) + "|---" * (len(topics) + 1) + "|\n"
        for subject, answers in found.items():
            yield _row(f"**{_text(subject)}**", *(_answers(answers.get(topic, ())) for topic in topics))
        yield "\n"


def _answers(answers: Sequence[AnswerReport]) -> str:
    names = (f"{HAZARD} {_text(answer.name)}" if answer.is_hazard else _text(answer.name) for answer in answers)
    return "<br>".join(names) or NOT_OBSERVED


def _row(*boxes: str) -> str:
    return f"| {' | '.join(boxes)} |\n"


def _sign(state: State) -> str:
    return f"{LOOKS[state][0]} {state}"


def _box(cell: CellReport) -> str:
    red = sum(suite.state.red for suite in cell.suites)
    more = f" ({red} of {len(cell.suites)} suites)" if red else ""
    return "<br>".join([_sign(cell.state) + more, *marks(cell)])


def _changes(compat: Compat) -> str:
    if compat.changes is None:
        return ""
    title = f"Changed since {compat.changes.since:%Y-%m-%d %H:%M} UTC"
    items = [
        f"- {change.kind}: {_code(change.cell)} {_text(change.suite)}{_text(described(change))}"
        for change in compat.changes.items
    ]
    # Where all is new, the list would only be the grid again.
    if items and all(change.kind is ChangeKind.NEW for change in compat.changes.items):
        items = [f"- new: {count(len(items), 'suite')}; nothing else changed"]
    return _section(title, items or ["Nothing."])


def _red(cell: CellReport, suite: SuiteReport) -> str:
    where = f" ([files]({suite.folder}))" if suite.folder else ""
    lines = [f"- {_code(cell.id)} **{_text(suite.suite)}**: {suite.state}, {counted_tests(suite)}{where}"]
    if suite.reason:
        lines.append(f"  - {_text(suite.reason)}")
    red = overview.red_tests(suite)
    for test in red[:_TESTS]:
        again = f" (after {reruns(test.reruns)})" if test.reruns else ""
        lines.append(f"  - {_code(test.name)}{again}: {_text(first_line(test.message) or 'no message')}")
    if len(red) > _TESTS:
        lines.append(f"  - and {count(len(red) - _TESTS, 'more test')}")
    return "\n".join([*lines, f"  - again: {_code(suite.again)}"])


def _not_run(compat: Compat) -> list[str]:
    found = []
    for reason, places in overview.not_run(compat).items():
        names = [" ".join(filter(None, (_code(cell) if cell else "", _text(what)))) for cell, what in places]
        found.append(f"- {_text(reason)}: {few(names)}")
    return found


def _section(title: str, items: list[str]) -> str:
    if not items:
        return ""
    more = [f"- and {len(items) - _MOST} more"] if len(items) > _MOST else []
    return "\n".join([f"## {title}", "", *items[:_MOST], *more, "", ""])


def _issue(issue: str) -> str:
    return f" ({_text(issue)})" if issue else ""
