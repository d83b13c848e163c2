"""A run's results as text: the summary at the end of a session, and what ``report`` prints.

Cells on the embedded runtime stand apart and are never counted in what is said about compatibility; neither are legacy
cells, which have no container runtime at all.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.printable import printable_path, printable_result
from ci.record.store import LOGS_FOLDER, Result
from ci.report.words import COUNTED, PHASES, counted, first_line, reruns, tried_again

_STYLES = {
    Outcome.PASSED: ("✓", "green"),
    Outcome.PARTLY: ("◐", "cyan"),
    Outcome.SUCCEEDED: ("✓", "green"),
    Outcome.FAILED: ("✗", "bold red"),
    Outcome.ERROR: ("✗", "bold magenta"),
    Outcome.INTERRUPTED: ("!", "yellow"),
    Outcome.UNFINISHED: ("…", "yellow"),
    Outcome.SKIPPED: ("-", "dim"),
}
# A cell is as good as its worst suite.
_WORST_FIRST = (
    *(Outcome.FAILED, Outcome.ERROR, Outcome.INTERRUPTED, Outcome.UNFINISHED, Outcome.SKIPPED),
    *(Outcome.PARTLY, Outcome.PASSED, Outcome.SUCCEEDED),
)
# Remarks begin with what has to be looked at.
_REMARKED = (
    TestState.FAILED,
    TestState.ERROR,
    TestState.INTERRUPTED,
    TestState.SKIPPED,
    TestState.XFAILED,
    TestState.EXPECTED,
    TestState.PASSED,
)
_NAMED = 3
"""As many tests are named that share a reason."""
_RUNTIMES = (
    ("nvidia", "real cells", ""),
    ("embedded", "embedded", "not a compatibility verdict"),
    ("legacy", "legacy", "no containers"),
)


class Format(StrEnum):
    """What a report can be written as."""

    TEXT = "text"
    MARKDOWN = "md"
    HTML = "html"
    JSON = "json"


def verdict(results: Sequence[Result]) -> str:
    """Return one line that counts cells per runtime; only the first count speaks of compatibility."""
    return "; ".join(verdicts(results))


def verdicts(results: Sequence[Result]) -> list[str]:
    """Return what `verdict` says, per runtime; the first one speaks of real cells, also where there are none."""
    parts = []
    for runtime, label, remark in _RUNTIMES:
        of_cells = _cell_outcomes([it for it in results if it.runtime == runtime and not it.own])
        if of_cells or runtime == "nvidia":
            parts.append(f"{label}: {_counted(of_cells) or 'none run'}" + (f" ({remark})" if remark else ""))
    if own := [it.outcome for it in results if it.own]:
        parts.append(f"suites and commands of your own: {_counted(own)} (no verdict on their cells)")
    return parts


def _counted(outcomes: Sequence[Outcome]) -> str:
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])


def summarise(results: Sequence[Result], *, root: Path | None = None) -> RenderableType:
    """Return the summary as something rich can print: a table where there is room, lines elsewhere.

    :param root: the folder of the run, for saying where the logs are.
    """
    return _Summary(tuple(map(printable_result, results)), root)


def show(results: Sequence[Result], *, stream: TextIO, root: Path | None = None) -> None:
    """Print the summary: coloured on a terminal, as plain lines of any width elsewhere."""
    if stream.isatty():
        RichConsole(file=stream, highlight=False, markup=False, emoji=False).print(
            summarise(results, root=root), soft_wrap=True
        )
    else:
        stream.write(as_text(results, root=root))


def as_text(results: Sequence[Result], *, root: Path | None = None) -> str:
    """Return the summary as plain text; lines are never cut."""
    return "".join(f"{line.plain.rstrip()}\n" for line in _lines(tuple(map(printable_result, results)), root))


def counts(result: Result) -> str:
    """Return the tests by outcome, the tries beyond the first, and whether they were taken from an earlier run.

    For example "3 passed, 1 failed, 2 reruns", or "3 passed (unchanged since RUN)".
    """
    found = [counted(result.count(state), state) for state in COUNTED]
    taken = f" (unchanged since {result.reused_from})" if result.reused_from else ""
    return (", ".join(filter(None, [*found, reruns(result.reruns)])) or "no tests") + taken


def phases(results: Sequence[Result]) -> list[str]:
    """Return the phases that occur, in the order of a run."""
    occurring = {phase for result in results for phase in result.timings}
    return [phase for phase in PHASES if phase in occurring] + sorted(occurring - set(PHASES))


def remarks(result: Result) -> list[str]:
    """Return what has to be said beyond the outcome: reasons, and tests with the first line of their message.

    Tests that failed for the same reason share a line, so that two causes do not look like forty.
    """
    found = [f"{result.outcome}: {result.reason}"] if result.reason else []
    if seen := [PurePosixPath(it.path).name for it in result.artefacts if it.verified_against == "first seen"]:
        found.append(f"no pinned checksum; trusted on first download: {', '.join(seen)}")
    if others := [f"{PurePosixPath(it.path).name} {it.differs}" for it in result.artefacts if it.differs]:
        found.append(f"a mirror's own files, not those of upstream: {', '.join(others)}")
    groups: dict[tuple[TestState, str], list[TestOutcome]] = {}
    for test in sorted(result.tests, key=lambda test: _REMARKED.index(test.outcome)):
        if test.outcome is not TestState.PASSED:
            groups.setdefault((test.outcome, first_line(test.message) or "no reason given"), []).append(test)
    for (state, reason), tests in groups.items():
        if state in {TestState.SKIPPED, TestState.XFAILED, TestState.EXPECTED}:
            found.append(f"{counted(len(tests), state)}: {reason}")
        elif len(tests) == 1:
            found.append(f"{state}: {_tried(tests[0])}: {reason}")
        else:
            found.append(f"{counted(len(tests), state)}: {reason} ({_named_tests(tests)})")
    return found + [
        tried_again(test.name, test.reruns, test.message)
        for test in result.tests
        if test.reruns and test.outcome is TestState.PASSED
    ]


# -- terminal -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Summary:
    results: tuple[Result, ...]
    root: Path | None

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> Iterator[RenderableType]:
        table = _table(self.results)
        if self.results and console.measure(table, options=options.update(width=10_000)).maximum <= options.max_width:
            yield table
            yield from _details(self.results, self.root)
        else:
            yield from _lines(self.results, self.root)


def _table(results: Sequence[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("cell", "suite", "outcome", "tests"):
        table.add_column(name, no_wrap=True)
    occurring = phases(results)
    for phase in occurring:
        table.add_column(f"{phase} s", justify="right", no_wrap=True)
    for result in results:
        seconds = (f"{result.timings[phase]:.1f}" if phase in result.timings else "" for phase in occurring)
        table.add_row(_named(result), result.suite, _outcome(result.outcome), counts(result), *seconds)
    return table


def _lines(results: Sequence[Result], root: Path | None) -> Iterator[Text]:
    width = max((len(outcome) for outcome in Outcome), default=0) + 2
    for result in results:
        line = _outcome(result.outcome)
        line.pad_right(width - len(line) + 1)
        yield line.append(f"{_named(result)}  {result.suite}")
        seconds = [f"{phase} {result.timings[phase]:.1f}" for phase in phases([result])]
        yield Text(f"{' ' * (width + 1)}{' · '.join([counts(result), *seconds])}" + (" s" if seconds else ""))
    yield from _details(results, root)


def _details(results: Sequence[Result], root: Path | None) -> Iterator[Text]:
    """Yield, for each suite that did not pass, why, where its logs are, and the next command; then the verdict.

    One that passed at a second try, or of which there is more to say, is named, too.
    """
    for result in results:
        if result.outcome.good and not (result.reruns or (result.reason and not result.reused_from)):
            continue
        yield Text()
        yield _outcome(result.outcome).append(f" {result.cell_id} {result.suite}")
        for remark in remarks(result):
            yield Text(f"  {remark}")
        if result.outcome.good:
            continue
        if root is not None and not _never_began(result):
            yield Text(f"  logs: {printable_path(root / result.cell_id / result.suite / LOGS_FOLDER)}")
        yield Text(f"  again: {result.again}")
    yield Text()
    yield Text(verdict(results), "bold")


def _outcome(outcome: Outcome) -> Text:
    sign, style = _STYLES[outcome]
    return Text().append(f"{sign} {outcome}", style)


def _named(result: Result) -> str:
    """Return the cell's id, with a mark where it is no real cell and the id itself might be overlooked."""
    return result.cell_id if result.real else f"{result.cell_id} [{result.runtime}]"


# -- small things ---------------------------------------------------------------------------------------------------


def _cell_outcomes(results: Sequence[Result]) -> list[Outcome]:
    by_cell: dict[str, set[Outcome]] = {}
    for result in results:
        by_cell.setdefault(result.cell_id, set()).add(result.outcome)
    return [next(outcome for outcome in _WORST_FIRST if outcome in found) for found in by_cell.values()]


def _named_tests(tests: Sequence[TestOutcome]) -> str:
    """Return the names of the first few tests; the file once if it is the same for all."""
    files = {test.name.partition("::")[0] for test in tests}
    file = f"{files.pop()}::" if len(files) == 1 else ""
    names = ", ".join(_tried(test).removeprefix(file) for test in tests[:_NAMED])
    more = f" and {len(tests) - _NAMED} more" if len(tests) > _NAMED else ""
    return (f"{file.removesuffix('::')}: " if file else "") + names + more


def _tried(test: TestOutcome) -> str:
    return f"{test.name} (after {reruns(test.reruns)})" if test.reruns else test.name


def _never_began(result: Result) -> bool:
    return result.outcome is Outcome.SKIPPED and not result.tests
