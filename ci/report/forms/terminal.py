"""The report as text: the summary at the end of a session, and what ``report`` prints.

Cells on the embedded runtime are marked, and are never counted in what is said about compatibility; neither are legacy
cells, which have no container runtime at all.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ci.errors import as_here
from ci.matrix.behaviours import AnswerKind
from ci.matrix.cells import Runtime
from ci.record.outcomes import TestState
from ci.record.printable import printable, printable_lines, printable_path
from ci.record.store import LOGS_FOLDER
from ci.report import overview
from ci.report.model import CellReport, Compat, Merged, State, SuiteReport, TestReport
from ci.report.words import (
    HAZARD,
    LOOKS,
    advice,
    counted,
    counted_tests,
    few,
    first_line,
    mark,
    marks,
    passed_again,
    phases_in_order,
    reruns,
    sentence,
)
from ci.terminal.quantities import count

NAME = "text"
FILE = ""

_NAMED = 3
"""How many tests that share a reason are named."""
_WIDTH = max(map(len, State))


def pieces(merged: Merged) -> Iterator[str]:
    """Yield the summary as plain lines, which are never cut."""
    return (f"{line.plain.rstrip()}\n" for line in (*_lines(merged.compat), *_details(merged)))


def show(merged: Merged, stream: TextIO) -> None:
    """Print the summary: on a terminal in colours, and as a table where there is room for it."""
    if not stream.isatty():
        stream.writelines(pieces(merged))
        return
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    table = _table(merged.compat)
    # Measured as if there were room for everything: rich else shrinks columns to fit, and cuts ids.
    wide = console.options.update(width=10_000)
    if table.rows and console.measure(table, options=wide).maximum <= console.width:
        console.print(table)
    else:
        # soft_wrap: lines are not broken, so ids can be copied.
        console.print(*_lines(merged.compat), sep="\n", soft_wrap=True)
    console.print(*_details(merged), sep="\n", soft_wrap=True)


def summarise(merged: Merged) -> None:
    """Print the summary at the end of a run on stderr; where that is closed, exit code and results have the outcome."""
    with suppress(OSError):
        show(merged, sys.stderr)


def remarks(compat: Compat, suite: SuiteReport) -> list[str]:
    """Return what has to be said beyond the state: reasons, and tests with the first line of their message.

    Tests that failed for the same reason share a line, so that two causes do not look like forty.
    """
    reason = [f"{suite.state}: {printable_lines(suite.reason)}"] if suite.reason else []
    found = _files(compat, suite)
    groups: dict[tuple[TestState, str], list[TestReport]] = {}
    order = list(TestState)
    for test in sorted(suite.tests, key=lambda test: order.index(test.outcome)):
        if test.outcome is not TestState.PASSED:
            groups.setdefault((test.outcome, first_line(test.message) or "no reason given"), []).append(test)
    for (state, why), tests in groups.items():
        if not state.red:  # a skip or a known failure is told by its reason; the names are in the result
            found.append(f"{counted(len(tests), state)}: {why}")
        elif len(tests) == 1:
            found.append(f"{state}: {_tried(tests[0])}: {why}")
        else:
            found.append(f"{counted(len(tests), state)}: {why} ({_named_tests(tests)})")
    found += [passed_again(test) for test in overview.tried_again(suite)]
    return reason + [printable(remark) for remark in found]


def _files(compat: Compat, suite: SuiteReport) -> list[str]:
    """Return which release files are not surely those of upstream."""
    artefacts = [compat.artefacts[place] for place in suite.artefacts]
    files = [(PurePosixPath(artefact.path).name, artefact) for artefact in artefacts]
    seen = ", ".join(name for name, artefact in files if artefact.verified_against == "first seen")
    others = ", ".join(f"{name} {artefact.differs}" for name, artefact in files if artefact.differs)
    remarks = {
        "no pinned checksum; trusted on first download": seen,
        "a mirror's own files, not those of upstream": others,
    }
    return [f"{what}: {names}" for what, names in remarks.items() if names]


def _table(compat: Compat) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("cell", "suite", "state", "tests"):
        table.add_column(name, no_wrap=True)
    marked = any(marks(suite) for _, suite in compat.results())
    if marked:
        table.add_column("answers", no_wrap=True)
    phases = phases_in_order(phase for _, suite in compat.results() for phase in suite.timings)
    for phase in phases:
        table.add_column(f"{printable(phase)} s", justify="right", no_wrap=True)
    for cell, suite in compat.results():
        seconds = (f"{suite.timings[phase]:.1f}" if phase in suite.timings else "" for phase in phases)
        beside = [", ".join(marks(suite))] if marked else []
        table.add_row(_named(cell), printable(suite.suite), _state(suite.state), _tests(suite), *beside, *seconds)
    return table


def _lines(compat: Compat) -> Iterator[Text]:
    for cell, suite in compat.results():
        line = _state(suite.state)
        line.pad_right(_WIDTH + 4 - len(line))
        yield line.append(f"{_named(cell)}  {printable(suite.suite)}")
        seconds = [f"{phase} {suite.timings[phase]:.1f}" for phase in phases_in_order(suite.timings)]
        parts = [_tests(suite), *marks(suite), *seconds]
        yield Text(printable(" " * (_WIDTH + 4) + " · ".join(parts) + (" s" if seconds else "")))


def _details(merged: Merged) -> Iterator[Text]:
    """Yield, for each suite that did not pass, why, where its logs are, and the next command; then the verdict.

    One that passed at a second try, or of which there is more to say, is named, too.
    """
    for cell, suite in merged.compat.results():
        good = suite.state.good or suite.state is State.PARTLY  # what is partly run did all that was asked of it
        remarkable = suite.reruns or (suite.reason and not suite.reused_from) or _files(merged.compat, suite)
        if good and not remarkable:
            continue
        yield Text()
        yield _state(suite.state).append(printable(f" {cell.id} {suite.suite}"))
        yield from (Text(f"  {remark}") for remark in remarks(merged.compat, suite))
        if good:
            continue
        if any(name.startswith(f"{LOGS_FOLDER}/") for name in suite.files):
            yield Text(f"  logs: {printable_path(merged.folder(suite) / LOGS_FOLDER)}")
        yield Text(printable(f"  again: {as_here(suite.again)}"))
    yield Text()
    for hazard in overview.answers(merged.compat, AnswerKind.HAZARD):
        issue = f" ({hazard.answer.issue})" if hazard.answer.issue else ""
        told = f"{advice(hazard.answer)}{issue} Seen on {few(hazard.cells)}."
        yield Text(printable(f"{HAZARD} {hazard.behaviour.id} on {count(len(hazard.cells), 'cell')}: {told}"))
    if refused := dict.fromkeys(
        answered.behaviour.id for answered in overview.answers(merged.compat, AnswerKind.REFUSED)
    ):
        yield Text(printable(f"{mark(AnswerKind.REFUSED, len(refused))}, with an error: {', '.join(refused)}"))
    for reason, number in overview.without_result(merged.compat).items():
        yield Text(printable(f"no result of {count(number, 'combination')}: {reason}"))
    yield Text(sentence(merged.compat.verdicts), "bold")


def _state(state: State) -> Text:
    sign, style = LOOKS[state]
    return Text().append(f"{sign} {state}", style)


def _named(cell: CellReport) -> str:
    """Return the cell's id, with a mark where it is not a real cell of releases: the id alone is easily overlooked."""
    # `embedded`, `not released`, `profile cgroups`; nothing for a real cell of releases.
    mark = cell.kind.removeprefix(Runtime.NVIDIA).removeprefix(", ")
    return printable(f"{cell.id} [{mark}]" if mark else cell.id)


def _tests(suite: SuiteReport) -> str:
    """Return the tests by outcome, and whether they were taken from an earlier run."""
    return counted_tests(suite) + (f" (unchanged since {suite.reused_from})" if suite.reused_from else "")


def _named_tests(tests: Sequence[TestReport]) -> str:
    """Return the names of the first few tests; the file once if it is the same for all."""
    files = {test.name.partition("::")[0] for test in tests}
    file = f"{files.pop()}::" if len(files) == 1 else ""
    names = few([_tried(test).removeprefix(file) for test in tests], _NAMED)
    return (f"{file.removesuffix('::')}: " if file else "") + names


def _tried(test: TestReport) -> str:
    return f"{test.name} (after {reruns(test.reruns)})" if test.reruns else test.name
