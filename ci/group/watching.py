"""The progress of a run's cells, read from the files that their processes write while these grow."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
import re
import time

from ci import paths
from ci.group import reuse
from ci.record import progress, reportlog, store
from ci.record.printable import printable
from ci.record.reportlog import PytestReport
from ci.report.model import State
from ci.report.words import first_line

GOOD = {state.value for state in State if state.good}
"""The outcomes of a suite that need no attention."""
# "collected 12 items", or of pytest-xdist "4 workers [90 items]"; some may then be deselected.
_ITEMS = re.compile(rb"(?:collected (\d+) items?|workers? \[(\d+) items?\])(?: / \d+ deselected / (\d+) selected)?")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The duration and the number of tests of an earlier run of a suite on a cell."""

    seconds: float = 0.0
    tests: int = 0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A test that has just failed."""

    suite: str
    test: str
    message: str
    file: str
    line: int


@dataclass(kw_only=True)
class CellState:
    """The progress of a cell that has begun."""

    id: str
    began: float
    """``time.monotonic``."""
    expected: float = 0.0
    """Seconds that earlier runs took; 0 if there was none."""
    phase: str = ""
    suite: str = ""
    """The running suite; empty in phases that all suites share."""
    tests: set[str] = field(default_factory=set)
    """Tests of the running suite that have ended."""
    known: int = 0
    """The number of tests of the running suite; 0 if that is not known yet."""
    outcomes: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return (self.ended or time.monotonic()) - self.began

    @property
    def bad(self) -> bool:
        """Whether a test or a suite has failed already."""
        return bool(self.failures) or bool(set(self.outcomes.values()) - GOOD)


@dataclass(frozen=True, kw_only=True)
class News:
    """The events of a cell since the last look."""

    phases: tuple[tuple[str, str], ...] = ()
    """Pairs of phase and suite that have begun."""
    failures: tuple[Failure, ...] = ()
    ended: tuple[tuple[str, str], ...] = ()
    """Pairs of suite and outcome."""


class Watcher:
    """Looks at the files of the cells of a run."""

    def __init__(self, folder: Path, expected: Mapping[tuple[str, str], Expected] | None = None) -> None:
        """Look into a run's folder; ``expected`` is from earlier runs, by cell and suite."""
        self._folder = folder
        self._expected = expected or {}
        self._events: dict[str, int] = {}
        self._read: dict[Path, int] = {}
        """Bytes of each report log that have been read."""
        self.states: dict[str, CellState] = {}

    def begin(self, cell: str, suites: Sequence[str]) -> CellState:
        """Begin to watch a cell."""
        known = [self._expected[cell, suite].seconds for suite in suites if (cell, suite) in self._expected]
        # Only with the durations of all suites: the sum of some would be too low.
        expected = sum(known) if len(known) == len(suites) else 0.0
        self.states[cell] = CellState(id=cell, began=time.monotonic(), expected=expected)
        return self.states[cell]

    def end(self, cell: str) -> News:
        """Return the last events of a cell, and stop its clock."""
        news = self.look(cell)
        self.states[cell].ended = time.monotonic()
        return news

    def look(self, cell: str) -> News:
        """Return the events of a cell since the last call."""
        state = self.states[cell]
        events = progress.read(self._folder / cell / paths.PROGRESS_FILE)
        new, self._events[cell] = events[self._events.get(cell, 0) :], len(events)
        failures: list[Failure] = []
        for event in new:
            if state.suite:  # first the last tests of the suite before this event
                failures += self._tests(state)
            if event.phase == progress.ENDED:
                state.outcomes[event.suite] = event.outcome
                state.suite = ""
            else:
                state.phase, state.suite = event.phase, event.suite
                state.tests, state.known = set(), 0
        if state.suite:
            failures += self._tests(state)
        return News(
            phases=tuple((event.phase, event.suite) for event in new if event.phase != progress.ENDED),
            failures=tuple(failures),
            ended=tuple((event.suite, event.outcome) for event in new if event.phase == progress.ENDED),
        )

    def _tests(self, state: CellState) -> list[Failure]:
        """Return the new failures in the report log of the running suite."""
        found = []
        for report in self._reports(self._folder / state.id / state.suite / store.REPORT_LOG_FILE):
            # The last of pytest's three reports on a test (setup, call, teardown); it comes also after a failed setup.
            if report.when == "teardown":
                state.tests.add(report.nodeid)
            if report.outcome == "failed":
                found.append(_failure(state.suite, report))
        state.failures += found
        if not state.known:
            earlier = self._expected.get((state.id, state.suite))
            state.known = self._items(state) or (earlier.tests if earlier else 0)
        return found

    def _reports(self, path: Path) -> Iterator[PytestReport]:
        """Yield pytest's reports on tests that are new since the last look at a log."""
        begin = self._read.setdefault(path, 0)
        try:
            with path.open("rb") as file:
                file.seek(begin)
                lines = file.read().splitlines(keepends=True)
        except OSError:
            return
        for line in lines:
            if not line.endswith(b"\n"):  # still being written
                break
            self._read[path] += len(line)
            with suppress(*reportlog.INVALID):
                report = PytestReport.of(line)
                if report.kind in {"TestReport", "CollectReport"}:
                    yield report

    def _items(self, state: CellState) -> int:
        """Return how many tests pytest has found for the running suite; 0 until its output says so."""
        try:
            output = (self._folder / state.id / paths.OUTPUT_FILE).read_bytes()
        except OSError:
            return 0
        # The output has such a line for each earlier suite of the cell, too.
        place = len(state.outcomes)
        said = list(_ITEMS.finditer(output))
        return int(next(filter(None, reversed(said[place].groups())))) if len(said) > place else 0


def _failure(suite: str, report: PytestReport) -> Failure:
    file, line, _ = report.location or ("", None, "")
    return Failure(
        suite=suite,
        test=report.nodeid or "collection",
        message=printable(first_line(report.message)) or "no message",  # printable: it is shown on a terminal
        file=file,
        # pytest counts lines from 0, everybody else from 1.
        line=0 if line is None else line + 1,
    )


def expected(results: Path, run: str, cell: str, suites: Sequence[str]) -> dict[tuple[str, str], Expected]:
    """Return the duration and the number of tests of each suite's newest earlier result on a cell."""
    found = {}
    for suite in suites:
        earlier = reuse.earlier(results, cell, suite, but=run)
        if newest := next((result for result in earlier if not result.reused_from and result.tests), None):
            found[cell, suite] = Expected(seconds=newest.seconds, tests=len(newest.tests))
    return found
