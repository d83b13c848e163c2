"""Which result of a suite on a cell counts: the newest, unless results disagree or it leaves out what was red before.

The order that they come in is nothing.

What can't be true, and what disagrees with another result, is named, and never the reason for a green box.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
import hashlib
import os
from pathlib import Path

import msgspec

from ci.record.outcomes import Outcome
from ci.record.printable import printable_path
from ci.record.store import ArtefactRecord, CellRecord, ImageRecord
from ci.report import unanswered
from ci.report.finding import FoundResult
from ci.report.model import Contradiction, Passed, SuiteReport, utc
from ci.report.unanswered import Answered

_AHEAD = timedelta(minutes=10)
"""How far another machine's clock may be ahead of this one's."""
_WORST_FIRST = list(Outcome)
# Other outcomes say less, and so nothing against these two.
_OPPOSITE = {Outcome.PASSED, Outcome.FAILED}

Key = tuple[str, str]
"""A cell's id, and a suite."""


@dataclass(frozen=True, kw_only=True)
class KeptResult:
    """What is kept of a result that may come to be the one that counts."""

    cell: CellRecord
    report: SuiteReport
    """Without its images and artefacts: what is in the report is known at the end."""
    images: tuple[ImageRecord, ...]
    artefacts: tuple[ArtefactRecord, ...]
    passed: Passed
    folder: Path
    is_refuted: bool
    is_retold: bool
    disagreement: str = ""
    """What other results say against it; empty if none does."""
    not_answered: str = ""
    """What was red and was not asked again, and why; empty if there is nothing of the kind."""

    @property
    def remarks(self) -> str:
        """What is said of it beside its own reason."""
        return "\n".join(filter(None, (self.disagreement, self.not_answered)))


Age = tuple[bool, datetime]


@dataclass(kw_only=True)
class _RedResult:
    """A result that was red, and what of it no newer result has answered."""

    age: Age
    rank: tuple[object, ...]
    kept: KeptResult
    left: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """What was asked of a suite on a cell."""

    answers: list[tuple[Age, Answered]] = field(default_factory=list)
    red: list[_RedResult] = field(default_factory=list)


def is_ahead(started: datetime, now: datetime) -> bool:
    """Tell whether a time was told by a wrong clock: it is still to come."""
    return started > now + _AHEAD


def newness(started: datetime, now: datetime) -> Age:
    """Return the key by which results are sorted by age; what is dated ahead of now is older than all else."""
    return not is_ahead(started, now), started


class Choosing:
    """Results are given one by one; of each suite on a cell, one for each folder of runs is kept."""

    def __init__(self, keep: Callable[[FoundResult], KeptResult], now: datetime) -> None:
        """Begin.

        :param keep: what is kept of a result.
        """
        self._keep, self._now = keep, now
        self._seen: set[bytes] = set()
        self._ranked: dict[Key, dict[Path, tuple[tuple[object, ...], KeptResult]]] = {}
        self._outcomes: dict[Key, dict[datetime, dict[str, set[Outcome]]]] = {}
        self._refuted: set[Contradiction] = set()
        self._retold: set[Contradiction] = set()
        self._asked: dict[Key, _Answers] = {}
        self._same: dict[Answered, Answered] = {}

    def add(self, found: FoundResult) -> FoundResult | None:
        """Take in a result, and return it as it is to be believed; None for one that was given before."""
        # With sorted keys a copy that another program wrote is the same result.
        digest = hashlib.sha256(msgspec.json.encode(found.result, order="sorted")).digest()
        on_time, _ = newness(found.result.started, self._now)
        if not on_time:
            why = f"it is dated {found.result.started:%Y-%m-%d %H:%M}, and now it is {self._now:%Y-%m-%d %H:%M} UTC"
            found = found.refuted(why)
        result, key = found.result, (found.result.cell_id, found.result.suite)
        if found.contradictions:
            what = "; ".join(found.contradictions)
            against = Contradiction(cell=result.cell_id, suite=result.suite, run=result.run, what=what)
            (self._retold if found.is_retold else self._refuted).add(against)
        started = utc(result.started)
        self._outcomes.setdefault(key, {}).setdefault(started, {}).setdefault(result.run, set()).add(result.outcome)
        # What is dated in the future hides nothing, and a part of a suite hides no whole one. Of two that began in the
        # same second the worse one counts; one that had only begun gives way to what it came to.
        badness = (result.outcome is not Outcome.UNFINISHED, -_WORST_FIRST.index(result.outcome))
        rank = (
            on_time,
            not result.is_part,
            started,
            *badness,
            # The rest only makes the choice the same in any order of folders; what was read itself has files to show.
            result.run,
            result.seconds,
            not found.is_retold,
            digest,
            os.fsencode(found.folder),
        )
        # A result is in RUN/CELL/SUITE: above these is a folder of runs, which stands for a machine.
        holder = found.folder.parent.parent.parent
        ranked = self._ranked.setdefault(key, {})
        if holder not in ranked or ranked[holder][0] < rank:
            ranked[holder] = rank, self._keep(found)
        self._ask(key, found, (on_time, started), rank)
        if digest in self._seen:
            return None  # the same folder by two ways, or a copy of it
        self._seen.add(digest)
        return found

    def chosen(self) -> Mapping[Key, KeptResult]:
        """Return the result that counts of each suite on each cell, in order."""
        return {
            key: self._standing(key, self._chosen(key, ranked.values())) for key, ranked in sorted(self._ranked.items())
        }

    def contradictions(self, chosen: Mapping[Key, KeptResult]) -> tuple[Contradiction, ...]:
        """Return what can't be true, and what disagrees, in order."""
        disagreeing = {
            Contradiction(cell=cell, suite=suite, run=kept.report.run, what=kept.disagreement)
            for (cell, suite), kept in chosen.items()
            if kept.disagreement
        }
        # What only a report tells can't be taken away, but is replaced.
        counts = {(*key, kept.report.run) for key, kept in chosen.items()}
        retold = {each for each in self._retold if (each.cell, each.suite, each.run) in counts}
        return tuple(sorted(self._refuted | retold | disagreeing, key=msgspec.structs.astuple))

    def _ask(self, key: Key, found: FoundResult, age: Age, rank: tuple[object, ...]) -> None:
        """Note what a result answers of older ones, and what in it newer ones have to answer."""
        asked = self._asked.setdefault(key, _Answers())
        # What can't be true answers nothing.
        if not found.contradictions:
            answers = Answered.of(found.result)
            # Thousands of results answer the same tests: their names are kept once.
            answers = self._same.setdefault(answers, answers)
            asked.answers.append((age, answers))
            # Test by test: a newer result may have asked only some of what was red.
            for red in asked.red:
                if red.age < age:
                    red.left = frozenset(name for name in red.left if not answers.answer(name))
            asked.red[:] = [red for red in asked.red if red.left]
        # Results come in any order: what answers this one may have been there before it.
        newer = [answers for when, answers in asked.answers if when > age]
        names = unanswered.red(found.result)
        if left := frozenset(name for name in names if not any(result.answer(name) for result in newer)):
            asked.red.append(_RedResult(age=age, rank=rank, kept=self._keep(found), left=left))

    def _standing(self, key: Key, newest: KeptResult) -> KeptResult:
        """Return the result that counts, given the newest: what was red stands until it is asked again."""
        once: dict[tuple[str, datetime], _RedResult] = {}
        for each in sorted(self._asked[key].red, key=lambda each: each.rank, reverse=True):
            once.setdefault((each.kept.report.run, each.kept.report.started), each)  # the others are copies
        once.pop((newest.report.run, newest.report.started), None)  # it is shown anyway
        red = list(once.values())
        if not red:
            return newest
        said, counts = [], newest
        # A newest one that is red itself hides nothing: the others are only named beside it.
        if not newest.report.state.red:
            first = red.pop(0)
            said = [unanswered.why_it_stands(first.left, newest.report)]
            counts = replace(first.kept, disagreement=newest.disagreement)
        said += [unanswered.also_red(each.kept.report.run, each.left, newest.report) for each in red]
        return replace(counts, not_answered="\n".join(said))

    def _chosen(self, key: Key, ranked: Iterable[tuple[tuple[object, ...], KeptResult]]) -> KeptResult:
        newest, *others = (kept for _, kept in sorted(ranked, key=lambda pair: pair[0], reverse=True))
        if against := [other for other in others if _disagree(newest, other)]:
            all_ = (newest, *against)
            outcomes = "; ".join(
                sorted(f"{kept.report.outcome} in {kept.report.run} ({printable_path(kept.folder)})" for kept in all_)
            )
            # Nobody knows which of the machines is right, and a failure is never hidden: it counts.
            failed = next(kept for kept in all_ if kept.report.outcome is Outcome.FAILED)
            return replace(failed, disagreement=f"machines disagree: {outcomes}")
        return replace(newest, disagreement=self._at_once(key, newest.report.started))

    def _at_once(self, key: Key, started: datetime) -> str:
        """Return how results disagree that began in the same second as the newest: which is the newer, nobody knows."""
        # Every result begins as "not finished", and a copy may have been taken then: that disagrees with nothing.
        runs = {run: outcomes - {Outcome.UNFINISHED} for run, outcomes in self._outcomes[key][started].items()}
        every = {outcome for outcomes in runs.values() for outcome in outcomes}
        # Two runs disagree if one passed and one failed; one run, if it has two outcomes of any kind.
        if not every >= _OPPOSITE and all(len(outcomes) <= 1 for outcomes in runs.values()):
            return ""
        outcomes = "; ".join(f"{outcome} in {run}" for run, each in sorted(runs.items()) for outcome in sorted(each))
        return f"results that began in the same second disagree: {outcomes}"


def _disagree(one: KeptResult, other: KeptResult) -> bool:
    """Tell whether the results of two folders of runs, of two machines that is, can't both be true.

    A report may be of these very machines: of another run, what it tells is what was before.
    """
    alike = one.report.fingerprint == other.report.fingerprint != "" and not (one.is_retold or other.is_retold)
    return (one.report.run == other.report.run or alike) and {one.report.outcome, other.report.outcome} == _OPPOSITE
