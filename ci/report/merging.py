"""Merges results of any number of runs, shards and machines into one report. The newest counts."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
import re
from typing import Any, Generic, TypeVar

from msgspec.structs import astuple, replace

from ci.matrix.cells import Runtime
from ci.matrix.model import Matrix
from ci.matrix.suites import is_own
from ci.record import store
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.planned import RunPlan
from ci.record.store import ArtefactRecord, CellRecord, Result
from ci.report import compat, gaps, grid, history
from ci.report.choosing import AHEAD, Choosing, Key
from ci.report.compat import (
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
from ci.report.finding import Found

LONGEST_MESSAGE = 20_000
"""Characters of a message; the rest of it stays in ``result.json``."""

_ISSUE = re.compile(r"\((https?://[^\s()]+|[\w.-]+/[\w.-]+#\d+)\)\s*$")
_WORST_FIRST = tuple(State)
_Item = TypeVar("_Item", bound=Hashable)
_Listed = TypeVar("_Listed", Unfinished, Problem)


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
class _Kept:
    """What is kept of a result that may come to be the one that counts."""

    cell: CellRecord
    report: SuiteReport
    """Without its images and artefacts: what is in the report is known at the end."""
    images: tuple[ImageReport, ...]
    artefacts: tuple[ArtefactRecord, ...]
    passed: Passed
    is_refuted: bool


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
    now: datetime
    """When the report is made."""
    choosing: Choosing[_Kept] = field(init=False)
    times: dict[Key, list[Past]] = field(default_factory=dict)
    runs: dict[str, set[tuple[Key, datetime]]] = field(default_factory=dict)
    ended: set[tuple[str, Key]] = field(default_factory=set)
    """By run: what has a result that is more than a beginning."""
    problems: list[Problem] = field(default_factory=list)
    unfinished: list[Unfinished] = field(default_factory=list)
    plans: list[RunPlan] = field(default_factory=list)
    same: dict[Hashable, Any] = field(default_factory=dict)
    """What many results have in common is kept once."""

    def __post_init__(self) -> None:
        """Begin to choose."""
        self.choosing = Choosing(self._kept, self.now)

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

    @property
    def is_empty(self) -> bool:
        """Whether nothing was taken in that can stand in a report."""
        return not (self.times or self.unfinished or self.plans)

    def merged(self, *, previous: Compat | None, rows: Matrix | None, length: int) -> Merged:
        """Return the report of all that was taken in.

        :param previous: the report before this one; its history goes on.
        :param rows: says why a combination has no cell.
        :param length: as many times of each suite are kept.
        """
        before = {(cell.id, suite.suite): suite.history for cell, suite in previous.results()} if previous else {}
        chosen = self.choosing.chosen()
        suites: dict[Key, SuiteReport] = {}
        images, artefacts = _Shared[ImageReport](), _Shared[ArtefactRecord]()
        for key, it in chosen.items():
            report = replace(
                _told(it.kept.report, it.disagreement),
                images=tuple(map(images.place, it.kept.images)),
                artefacts=tuple(map(artefacts.place, it.kept.artefacts)),
            )
            times = history.joined(self.times[key], before.get(key, ()), length, self.now + AHEAD)
            suites[key] = _with_history(report, times)
        cells = self._cells(suites, {key: it.kept for key, it in chosen.items()})
        empty = gaps.find(cells, self.plans, rows)
        shown = Counter(suite.run for suite in suites.values())
        whole = Compat(
            schema=compat.SCHEMA,
            made=compat.utc(self.now),
            verdicts=_verdicts(cells, empty),
            subjects=tuple(dict.fromkeys(filter(None, (it.subject.get("requirement", "") for it in suites.values())))),
            runs=self._runs(shown),
            cells=cells,
            gaps=empty,
            changes=history.changes(previous, [(cell, it) for (cell, _), it in suites.items()]) if previous else None,
            # One that ended meanwhile, or in another folder that was named, has its result.
            unfinished=_sorted(it for it in self.unfinished if (it.run, (it.cell, it.suite)) not in self.ended),
            contradictions=self.choosing.contradictions(),
            problems=_sorted(self.problems),
            images=tuple(images.at),
            artefacts=tuple(artefacts.at),
        )
        return Merged(compat=whole, passed={key: it.kept.passed for key, it in chosen.items()})

    def _runs(self, shown: Mapping[str, int]) -> tuple[RunReport, ...]:
        """Return the runs, the newest first."""
        moments = {run: [started for _, started in results] for run, results in self.runs.items()}
        return tuple(
            RunReport(id=run, started=min(moments[run]), results=len(moments[run]), shown=shown[run])
            for run in sorted(moments, key=lambda run: (max(moments[run]), run), reverse=True)
        )

    def _result(self, given: Found) -> None:
        found = self.choosing.add(given)
        if found is None:
            return
        result = found.result
        key, started = (result.cell_id, result.suite), compat.utc(result.started)
        self.runs.setdefault(result.run, set()).add((key, started))
        if result.outcome is not Outcome.UNFINISHED:
            self.ended.add((result.run, key))
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

    def _kept(self, found: Found) -> _Kept:
        result = found.result
        images = (
            ImageReport(name=it.name, tag=it.tag, digest=it.digest, size=it.size, origin=it.origin)
            for it in result.images
        )
        return _Kept(
            cell=result.cell,
            report=self._report(found, compat.utc(result.started)),
            images=tuple(map(self._once, images)),
            artefacts=tuple(map(self._once, result.artefacts)),
            passed=self._passed(result.tests),
            is_refuted=bool(found.contradictions),
        )

    def _once(self, item: _Item) -> _Item:
        """Return the one of equal things that is kept."""
        found: _Item = self.same.setdefault(item, item)
        return found

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
            again=result.again,
            fingerprint=result.fingerprint,
            reused_from=result.reused_from,
            folder=found.link(self.base),
            files=found.files,
        )

    def _passed(self, tests: Iterable[TestOutcome]) -> Passed:
        plain = [test for test in tests if _plain(test)]
        names = self._once(tuple(self._once(test.name) for test in plain))
        return Passed(names=names, seconds=tuple(_seconds(test.seconds, 1) for test in plain))

    def _cells(self, suites: Mapping[Key, SuiteReport], kept: Mapping[Key, _Kept]) -> tuple[CellReport, ...]:
        of_cell: dict[str, list[SuiteReport]] = {}
        for (cell, _), suite in suites.items():
            of_cell.setdefault(cell, []).append(suite)
        planned = gaps.missing_suites(self.plans)
        found = []
        for cell, members in of_cell.items():
            by_age = sorted(members, key=lambda suite: (suite.started, suite.suite))
            # What a result says that can't be true is the last to decide what kind of cell it is.
            by_trust = sorted(by_age, key=lambda suite: not kept[cell, suite.suite].is_refuted)
            record = kept[cell, by_trust[-1].suite].cell
            ours = [suite.state for suite in members if not is_own(suite.suite)]
            missing = {suite: why for suite, why in planned.get(cell, {}).items() if (cell, suite) not in suites}
            versions: dict[str, str] = {}
            for suite in by_trust:
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
    """Return the outcome of a cell: it is as good as its worst suite."""
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


def _sorted(items: Iterable[_Listed]) -> tuple[_Listed, ...]:
    """Return items in one and the same order, whatever the order of the folders that were named."""
    return tuple(sorted(items, key=astuple))


def _told(suite: SuiteReport, disagreement: str) -> SuiteReport:
    """Return what is known of a suite, with what other results say against it."""
    return replace(suite, reason="\n".join(filter(None, (disagreement, suite.reason)))) if disagreement else suite


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
