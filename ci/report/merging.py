"""Merges results of any number of runs, shards and machines into one report. Which counts: `ci.report.choosing`."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
import re
from typing import Any, TypeVar

from msgspec.structs import asdict, astuple, replace

from ci.errors import ResultsError, as_here, suite_session
from ci.matrix.behaviours import catalogue, renamed
from ci.matrix.cells import Runtime
from ci.matrix.model import Matrix
from ci.matrix.suites import is_own
from ci.record import store
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.planned import RunPlan
from ci.record.store import Result, SuiteFacts, SuiteRun
from ci.report import behaviours, gaps, grid, history, model
from ci.report.choosing import Choosing, KeptResult, Key
from ci.report.finding import FoundResult
from ci.report.model import (
    CellReport,
    Compat,
    Gap,
    Merged,
    Passed,
    Past,
    Problem,
    RunReport,
    State,
    SuiteReport,
    TestReport,
    Unfinished,
    Verdict,
)

LONGEST_MESSAGE = 20_000
"""Characters of a message; the rest of it stays in ``result.json``."""

# `… (OWNER/REPO#NUMBER)` or `… (https://…)`
_ISSUE = re.compile(r"\((https?://[^\s()]+|[\w.-]+/[\w.-]+#\d+)\)\s*$")
_Item = TypeVar("_Item", bound=Hashable)
_Listed = TypeVar("_Listed", Unfinished, Problem)


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a report is made of."""

    roots: Sequence[Path] = ()
    """Folders with results; none where results are given one by one."""
    base: Path
    """The folder of the report; links are relative to it."""
    previous: Compat | None = None
    """The report before this one; its history goes on."""
    rows: Matrix | None = None
    """They say why a combination has no cell."""
    length: int = history.DEFAULT_LENGTH
    """How many times of each suite are kept."""
    linked: bool = True
    """Whether it leads to the results' own files; without, it can be read where these are not."""
    may_be_empty: bool = False
    """Whether a report of nothing is a report: at the beginning of a run that is followed."""


def of_results(results: Iterable[Result], folder: Path) -> Merged:
    """Return the report of results of one run that are at hand.

    :param folder: of the run; their files are in it.
    """
    merging = Merging(ReportRequest(base=folder, may_be_empty=True), now=datetime.now(UTC))
    for result in results:
        merging.add(FoundResult.of(result, folder / result.cell_id / result.suite))
    return merging.merged()


class Merging:
    """Results are given one by one, and each is let go again: only what is in the report is kept in memory."""

    def __init__(self, request: ReportRequest, now: datetime) -> None:
        """Begin a report that is made now."""
        self._request, self._now = request, now
        self._choosing = Choosing(self._kept, now)
        self._times: dict[Key, list[Past]] = {}
        self._problems: list[Problem] = []
        self._unfinished: list[Unfinished] = []
        self._plans: list[RunPlan] = []
        self._missing: dict[str, Mapping[str, str]] = {}
        # What many results have in common is kept once.
        self._same: dict[Hashable, Any] = {}
        self._known, self._renamed = behaviours.of_catalogue(catalogue()), renamed(catalogue())

    def add(self, item: FoundResult | RunPlan | Unfinished | Problem | CellReport) -> None:
        """Take in what was found."""
        match item:
            case Problem():
                self._problems.append(item)
            case Unfinished():
                self._unfinished.append(item)
            case RunPlan():
                self._plans.append(item)
            case CellReport():
                self._missing[item.id] = item.missing
            case FoundResult():
                if found := self._choosing.add(item):
                    result = found.result
                    past = Past(**_alike(result, SuiteRun), state=State.of(result))
                    self._times.setdefault((result.cell_id, result.suite), []).extend([past, *(found.history or ())])

    def merged(self) -> Merged:
        """Return the report of all that was taken in.

        :raises ResultsError: if nothing of it can stand in a report, and a report of nothing is not asked for.
        """
        if not (self._times or self._unfinished or self._plans or self._request.may_be_empty):
            raise ResultsError(
                "no results found",
                where=", ".join(map(str, self._request.roots)),
                why="; ".join(f"{problem.where}: {problem.what}" for problem in self._problems[:5]),
                next_step=f"run a suite: `{as_here(suite_session('pyxis_basic'))}`, or name the folder of a run",
            )
        previous, rows = self._request.previous, self._request.rows
        before = {(cell.id, suite.suite): suite.history for cell, suite in previous.results()} if previous else {}
        chosen = self._choosing.chosen()
        images: dict[store.ImageRecord, int] = {}
        artefacts: dict[store.ArtefactRecord, int] = {}
        suites: dict[Key, SuiteReport] = {}
        for key, kept in chosen.items():
            times = history.joined(self._times[key], before.get(key, ()), self._request.length, self._now)
            suites[key] = replace(
                kept.report,
                reason="\n".join(filter(None, (kept.remarks, kept.report.reason))),
                # An image is told by its place in the list of all.
                images=tuple(images.setdefault(image, len(images)) for image in kept.images),
                artefacts=tuple(artefacts.setdefault(artefact, len(artefacts)) for artefact in kept.artefacts),
                history=times,
                flaky=history.is_flaky(times),
                trend=history.trend(times),
            )
        requirements = [suite.subject.get("requirement", "") for suite in suites.values()]
        cells = self._cells(suites, chosen)
        every = [(key, past) for key, times in self._times.items() for past in times]
        ended = {(past.run, *key) for key, past in every if past.outcome is not Outcome.UNFINISHED}
        empty = gaps.find(cells, self._plans, rows)
        whole = Compat(
            schema=model.SCHEMA,
            made=model.utc(self._now),
            verdicts=_verdicts(cells, empty),
            subjects=tuple(dict.fromkeys(filter(None, requirements))),
            runs=self._runs(Counter(suite.run for suite in suites.values())),
            cells=cells,
            behaviours=self._known,
            gaps=empty,
            changes=history.changes(previous, suites) if previous else None,
            # One that ended meanwhile, or in another folder that was named, has its result.
            unfinished=_sorted(
                suite for suite in self._unfinished if (suite.run, suite.cell, suite.suite) not in ended
            ),
            contradictions=self._choosing.contradictions(chosen),
            problems=_sorted(self._problems),
            images=tuple(images),
            artefacts=tuple(artefacts),
        )
        return Merged(compat=whole, passed={key: kept.passed for key, kept in chosen.items()}, base=self._request.base)

    def _runs(self, shown: Mapping[str, int]) -> tuple[RunReport, ...]:
        """Return the runs, the newest first."""
        # A set: a time that a report tells, and the result of it, are one.
        results = {(past.run, past.started, key) for key, times in self._times.items() for past in times}
        moments: dict[str, list[datetime]] = {}
        for run, started, _ in results:
            moments.setdefault(run, []).append(started)
        return tuple(
            RunReport(id=run, started=min(moments[run]), results=len(moments[run]), shown=shown[run])
            for run in sorted(moments, key=lambda run: (max(moments[run]), run), reverse=True)
        )

    def _kept(self, found: FoundResult) -> KeptResult:
        result = found.result
        # Who built an image, and in what time, is different for each result; all else is the same.
        images = (replace(image, built=False, seconds=0.0) for image in result.images)
        # Of a report, the names of these tests are made up.
        plain = [test for test in result.tests if _plain(test) and not found.is_retold]
        return KeptResult(
            cell=result.cell,
            report=self._report(found),
            images=tuple(map(self._once, images)),
            artefacts=tuple(map(self._once, result.artefacts)),
            passed=Passed(
                names=self._once(tuple(self._once(test.name) for test in plain)),
                seconds=tuple(_seconds(test.seconds, 1) for test in plain),
            ),
            folder=found.folder,
            is_refuted=bool(found.contradictions),
            is_retold=found.is_retold,
        )

    def _once(self, item: _Item) -> _Item:
        """Return the one of equal things that is kept."""
        found: _Item = self._same.setdefault(item, item)
        return found

    def _report(self, found: FoundResult) -> SuiteReport:
        result = found.result
        # What can't be true says nothing of this cell: its answers may be those of other versions.
        # A suite of somebody's own asks nothing of the catalogue.
        pairs = [self._renamed.get(pair, pair) for test in result.tests for pair in test.saw]
        silent = found.contradictions or is_own(result.suite)
        saw = {} if silent else behaviours.seen({name: (answer,)} for name, answer in pairs)
        timings = {phase: _seconds(seconds) for phase, seconds in result.timings.items()}
        ready = {name: _seconds(seconds) for name, seconds in result.ready.items()}
        linked = self._request.linked and not found.is_retold
        return SuiteReport(
            **_alike(result, SuiteFacts) | {"reason": _cut(result.reason), "timings": timings, "ready": ready},
            state=State.of(result),
            counts=model.tally(test.outcome for test in result.tests),
            reruns=result.reruns,
            tests=tuple(_test(test) for test in result.tests if not _plain(test)),
            saw=saw,
            **self._marked(saw),
            folder=found.link(self._request.base) if linked else "",
            files=found.files if linked else (),
        )

    def _marked(self, saw: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
        """Return which behaviours are counted beside a box."""
        return {key: behaviours.ids_of_kind(kind, saw, self._known) for key, kind in behaviours.MARKED.items()}

    def _cells(self, suites: Mapping[Key, SuiteReport], chosen: Mapping[Key, KeptResult]) -> tuple[CellReport, ...]:
        of_cell: dict[str, list[SuiteReport]] = {}
        for (cell, _), suite in suites.items():
            of_cell.setdefault(cell, []).append(suite)
        planned = gaps.missing_suites(self._plans)
        found = []
        for cell, members in of_cell.items():
            by_age = sorted(members, key=lambda suite: (suite.started, suite.suite))
            # What a result says that can't be true is the last to decide what kind of cell it is.
            by_trust = sorted(by_age, key=lambda suite: not chosen[cell, suite.suite].is_refuted)
            record = chosen[cell, by_trust[-1].suite].cell
            wanted = {**self._missing.get(cell, {}), **planned.get(cell, {})}
            missing = {suite: why for suite, why in wanted.items() if (cell, suite) not in suites}
            # What is not a suite of this project proves nothing of the versions, so it colours no box.
            ours = [suite.state for suite in members if not is_own(suite.suite)]
            versions: dict[str, str] = {}
            # The last one stays: what was observed by the newest result that can be true.
            for suite in by_trust:
                versions |= suite.versions
            found.append(
                CellReport(
                    **asdict(record) | {"os": model.Location.of(record).os, "tags": ()},
                    state=State.worst([*ours, *[State.NOT_RUN] * len(missing)]),
                    versions=versions,
                    released=not model.Location.of(record).has_candidate,
                    suites=tuple(by_age),
                    missing=missing,
                    **self._marked(behaviours.seen(suite.saw for suite in members)),
                )
            )
        return tuple(found)


def _alike(result: Result, kind: type[SuiteRun]) -> dict[str, Any]:
    """Return what a report says as the result does."""
    return store.shared_fields(result, kind) | {
        "started": model.utc(result.started),
        "seconds": _seconds(result.seconds),
    }


def _cut(text: str) -> str:
    """Return a message, shortened where it is longer than any that is written for people."""
    if len(text) <= LONGEST_MESSAGE:
        return text
    return f"{text[:LONGEST_MESSAGE]}\n[{len(text) - LONGEST_MESSAGE} more characters are in {store.RESULT_FILE}]"


def _plain(test: TestOutcome) -> bool:
    return test.outcome is TestState.PASSED and not test.reruns


def _test(test: TestOutcome) -> TestReport:
    # The reason of a known failure ends with its issue, in brackets, where matrix.toml names one.
    issue = _ISSUE.search(test.message) if test.outcome is TestState.XFAILED else None
    values = asdict(test) | {"seconds": _seconds(test.seconds), "message": _cut(test.message), "saw": ()}
    return TestReport(**values, issue=issue[1] if issue else "")


def _seconds(value: float, digits: int = 3) -> float:
    """Return seconds for tables and plots: those of a clock that was set back are none."""
    return round(max(value, 0.0), digits)


def _sorted(items: Iterable[_Listed]) -> tuple[_Listed, ...]:
    """Return items in one and the same order, whatever the order of the folders that were named."""
    return tuple(sorted(items, key=astuple))


def _verdicts(cells: Sequence[CellReport], empty: Sequence[Gap]) -> tuple[Verdict, ...]:
    """Count cells by kind, and apart from them what is not a suite of this project."""
    found = []
    for kind in grid.kinds_in_order(
        # Real cells first, and also where there are none: nothing is said of compatibility then.
        [Runtime.NVIDIA.value, *(cell.kind for cell in cells), *(gap.kind for gap in empty)]
    ):
        states = [cell.state for cell in cells if cell.kind == kind]
        states += [State.NOT_RUN for gap in empty if gap.kind == kind]
        found.append(Verdict(runtime=kind, counts=model.tally(states), compatibility=kind == Runtime.NVIDIA))
    own = model.tally(suite.state for cell in cells for suite in cell.suites if is_own(suite.suite))
    return (*found, Verdict(runtime=model.OWN, counts=own)) if own else tuple(found)
