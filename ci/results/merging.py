"""Merges results of any number of runs, shards and machines into one report. The newest counts."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
import re
from typing import Generic, TypeVar

from msgspec.structs import replace

from ci.matrix.cells import Runtime
from ci.matrix.model import Matrix
from ci.matrix.suites import is_own
from ci.results import compat, gaps, grid, history, store
from ci.results.compat import (
    CellReport,
    Compat,
    Gap,
    ImageReport,
    Past,
    Problem,
    RunReport,
    State,
    SuiteReport,
    TestReport,
    Unfinished,
    Verdict,
)
from ci.results.finding import Found
from ci.results.outcomes import Outcome, TestOutcome, TestState
from ci.results.planned import RunPlan
from ci.results.store import ArtefactRecord, CellRecord, Result

LONGEST_MESSAGE = 20_000
"""Characters of a message; the rest of it stays in ``result.json``."""

_ISSUE = re.compile(r"\((https?://[^\s()]+|[\w.-]+/[\w.-]+#\d+)\)\s*$")
_WORST_FIRST = tuple(State)
_Item = TypeVar("_Item", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Passed:
    """The tests of a suite that passed at once: their names, shared by all results that have the same, and seconds."""

    names: tuple[str, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A report, and what is too much for ``compat.json``."""

    compat: Compat
    passed: Mapping[tuple[str, str], Passed]
    """By cell and suite."""


@dataclass(kw_only=True)
class _Newest:
    """The result of a suite on a cell that counts, as far as it is kept."""

    cell: CellRecord
    rank: tuple[bool, datetime, str]
    report: SuiteReport
    passed: Passed


@dataclass
class _Shared(Generic[_Item]):
    """A list in which equal things have one place."""

    at: dict[_Item, int] = field(default_factory=dict)

    def place(self, item: _Item) -> int:
        return self.at.setdefault(item, len(self.at))


@dataclass(kw_only=True)
class Merging:
    """Results are given one by one, and each is let go again: only what is in the report is kept in memory."""

    base: Path
    """The folder of the report; links are relative to it."""
    newest: dict[tuple[str, str], _Newest] = field(default_factory=dict)
    times: dict[tuple[str, str], list[Past]] = field(default_factory=dict)
    runs: dict[str, list[datetime]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unfinished: list[Unfinished] = field(default_factory=list)
    plans: list[RunPlan] = field(default_factory=list)
    seen: set[tuple[str, ...]] = field(default_factory=set)
    images: _Shared[ImageReport] = field(default_factory=_Shared)
    artefacts: _Shared[ArtefactRecord] = field(default_factory=_Shared)
    names: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def add(self, item: Found | RunPlan | Unfinished | Problem) -> None:
        """Take in what was found."""
        match item:
            case Problem():
                self.problems.append(item)
            case Unfinished():
                self.unfinished.append(item)
            case RunPlan():
                self.plans.append(item)
            case Found():
                self._result(item)

    def merged(self, *, previous: Compat | None, rows: Matrix | None, length: int, now: datetime) -> Merged:
        """Return the report of all that was taken in.

        :param previous: the report before this one; its history goes on.
        :param rows: says why a combination has no cell.
        :param length: as many times of each suite are kept.
        """
        before = {(cell.id, suite.suite): suite.history for cell, suite in previous.results()} if previous else {}
        suites = {
            key: _with_history(entry.report, history.joined([*self.times[key], *before.get(key, ())], length))
            for key, entry in sorted(self.newest.items())
        }
        cells = self._cells(suites)
        empty = gaps.find(cells, self.plans, rows)
        shown = Counter(suite.run for suite in suites.values())
        report = Compat(
            schema=compat.SCHEMA,
            made=compat.utc(now),
            verdicts=_verdicts(cells, empty),
            subjects=tuple(dict.fromkeys(filter(None, (it.subject.get("requirement", "") for it in suites.values())))),
            runs=tuple(
                RunReport(id=run, started=min(moments), results=len(moments), shown=shown[run])
                for run, moments in sorted(self.runs.items(), key=lambda it: max(it[1]), reverse=True)
            ),
            cells=cells,
            gaps=empty,
            changes=history.changes(previous, [(cell, it) for (cell, _), it in suites.items()]) if previous else None,
            # One that ended meanwhile, or in another folder that was named, has its result.
            unfinished=tuple(it for it in self.unfinished if (it.run, it.cell, it.suite) not in self.seen),
            problems=tuple(self.problems),
            images=tuple(self.images.at),
            artefacts=tuple(self.artefacts.at),
        )
        return Merged(compat=report, passed={key: entry.passed for key, entry in self.newest.items()})

    def _result(self, found: Found) -> None:
        result = found.result
        key, started = (result.cell_id, result.suite), compat.utc(result.started)
        if (once := (result.run, *key, started.isoformat())) in self.seen:
            return  # the same folder by two ways, or a copy of it
        self.seen |= {once, (result.run, *key)}
        self.runs.setdefault(result.run, []).append(started)
        self.times.setdefault(key, []).append(
            Past(
                run=result.run,
                started=started,
                outcome=result.outcome,
                state=state_of(result),
                seconds=_seconds(result.seconds),
                fingerprint=result.fingerprint,
                reused_from=result.reused_from,
            )
        )
        known = self.newest.get(key)
        if known is None or known.rank < result.rank:
            self.newest[key] = _Newest(
                cell=result.cell,
                rank=result.rank,
                report=self._report(found, started),
                passed=self._passed(result.tests),
            )

    def _report(self, found: Found, started: datetime) -> SuiteReport:
        result = found.result
        states = Counter(test.outcome.value for test in result.tests)
        return SuiteReport(
            suite=result.suite,
            state=state_of(result),
            outcome=result.outcome,
            run=result.run,
            started=started,
            seconds=_seconds(result.seconds),
            reason=cut(result.reason),
            counts={state.value: states[state.value] for state in TestState if states[state.value]},
            reruns=result.reruns,
            tests=tuple(_test(test) for test in result.tests if not _plain(test)),
            versions=result.versions,
            subject=result.subject,
            nodes=result.nodes,
            timings={phase: _seconds(seconds) for phase, seconds in result.timings.items()},
            ready={name: _seconds(seconds) for name, seconds in result.ready.items()},
            images=tuple(
                self.images.place(
                    ImageReport(name=it.name, tag=it.tag, digest=it.digest, size=it.size, origin=it.origin)
                )
                for it in result.images
            ),
            artefacts=tuple(self.artefacts.place(it) for it in result.artefacts),
            again=result.again,
            fingerprint=result.fingerprint,
            reused_from=result.reused_from,
            folder=found.link(self.base),
            files=found.files,
        )

    def _passed(self, tests: Iterable[TestOutcome]) -> Passed:
        plain = [test for test in tests if _plain(test)]
        names = tuple(self.words.setdefault(test.name, test.name) for test in plain)
        return Passed(
            names=self.names.setdefault(names, names), seconds=tuple(_seconds(test.seconds, 1) for test in plain)
        )

    def _cells(self, suites: Mapping[tuple[str, str], SuiteReport]) -> tuple[CellReport, ...]:
        of_cell: dict[str, list[SuiteReport]] = {}
        for (cell, _), suite in suites.items():
            of_cell.setdefault(cell, []).append(suite)
        planned = gaps.missing_suites(self.plans)
        found = []
        for cell, members in of_cell.items():
            by_age = sorted(members, key=lambda suite: (suite.started, suite.suite))
            ours = [suite.state for suite in members if not is_own(suite.suite)]
            record = self.newest[cell, by_age[-1].suite].cell
            missing = {suite: why for suite, why in planned.get(cell, {}).items() if (cell, suite) not in suites}
            versions: dict[str, str] = {}
            for suite in by_age:
                versions |= suite.versions
            found.append(
                CellReport(
                    id=cell,
                    runtime=record.runtime,
                    arch=record.arch,
                    os=gaps.os_of(record),
                    axes=record.axes,
                    state=worst([*ours, *[State.NOT_RUN] * len(missing)] or [State.NOT_RUN]),
                    versions=versions,
                    suites=tuple(by_age),
                    missing=missing,
                )
            )
        return tuple(found)


def state_of(result: Result) -> State:
    """Return what a result says in the grid."""
    known = result.count(TestState.XFAILED) > 0
    match result.outcome:
        case Outcome.PASSED if known:
            return State.KNOWN
        case Outcome.PASSED:
            return State.REUSED if result.reused_from else State.PASSED
        case Outcome.SKIPPED:
            return State.KNOWN if known else State.NOT_RUN
        case _:
            return State(result.outcome.value)


def worst(states: Iterable[State]) -> State:
    """Return what a cell came to: it is as good as its worst suite."""
    found = set(states)
    if found & compat.RED or found == {State.NOT_RUN}:
        return next(state for state in _WORST_FIRST if state in found)
    return State.PARTLY if State.NOT_RUN in found else next(state for state in _WORST_FIRST if state in found)


def cut(text: str) -> str:
    """Return a message, shortened where it is longer than any that is written for people."""
    if len(text) <= LONGEST_MESSAGE:
        return text
    return f"{text[:LONGEST_MESSAGE]}\n[{len(text) - LONGEST_MESSAGE} more characters are in {store.RESULT_FILE}]"


def _plain(test: TestOutcome) -> bool:
    return test.outcome is TestState.PASSED and not test.reruns


def _test(test: TestOutcome) -> TestReport:
    # The reason of a known failure ends with its issue, in brackets, where matrix.toml names one.
    issue = _ISSUE.search(test.message) if test.outcome is TestState.XFAILED else None
    return TestReport(
        name=test.name,
        outcome=test.outcome,
        seconds=_seconds(test.seconds),
        message=cut(test.message),
        reruns=test.reruns,
        issue=issue[1] if issue else "",
    )


def _seconds(value: float, digits: int = 3) -> float:
    """Return seconds for tables and plots: those of a clock that was set back are none."""
    return round(max(value, 0.0), digits)


def _with_history(suite: SuiteReport, times: tuple[Past, ...]) -> SuiteReport:
    return replace(suite, history=times, flaky=history.is_flaky(times), trend=history.trend(times))


def _verdicts(cells: Sequence[CellReport], empty: Sequence[Gap]) -> tuple[Verdict, ...]:
    """Count cells by runtime, and apart from them what is no suite of this project."""
    found = []
    for runtime in grid.runtimes(cells, empty):
        states = Counter(cell.state for cell in cells if cell.runtime == runtime)
        states[State.NOT_RUN] += sum(gap.runtime == runtime for gap in empty)
        counts = {state.value: states[state] for state in State if states[state]}
        found.append(Verdict(runtime=runtime, counts=counts, compatibility=runtime == Runtime.NVIDIA))
    if not any(verdict.compatibility for verdict in found):
        found.insert(0, Verdict(runtime=Runtime.NVIDIA.value, counts={}, compatibility=True))
    own = Counter(suite.state for cell in cells for suite in cell.suites if is_own(suite.suite))
    if own:
        counts = {state.value: own[state] for state in State if own[state]}
        found.append(Verdict(runtime=compat.OWN, counts=counts))
    return tuple(found)
