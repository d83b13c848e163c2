"""Which result of a suite on a cell counts: the newest, unless they disagree. The order that they come in is nothing.

What can't be true, and what disagrees with another result, is named, and never the reason for a green box.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
import hashlib
import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from ci.record.outcomes import Outcome
from ci.record.printable import printable_path
from ci.report import compat
from ci.report.compat import Contradiction
from ci.report.finding import Found

AHEAD = timedelta(minutes=10)
"""As far may another machine's clock be ahead of this one's."""
# Of two that began in the same second the worse one counts; one that had only begun gives way to what it came to.
_BADNESS = (
    Outcome.UNFINISHED,
    Outcome.SUCCEEDED,
    Outcome.PASSED,
    Outcome.PARTLY,
    Outcome.SKIPPED,
    Outcome.INTERRUPTED,
    Outcome.ERROR,
    Outcome.FAILED,
)
_OPPOSITE = {Outcome.PASSED, Outcome.FAILED}

Key = tuple[str, str]
"""A cell's id, and a suite."""
_Kept = TypeVar("_Kept")


@dataclass(frozen=True, kw_only=True)
class _Entry(Generic[_Kept]):
    """A result, as far as it is kept."""

    rank: tuple[object, ...]
    run: str
    started: datetime
    outcome: Outcome
    fingerprint: str
    folder: Path
    kept: _Kept


@dataclass(frozen=True, kw_only=True)
class Chosen(Generic[_Kept]):
    """The result that counts."""

    kept: _Kept
    run: str
    disagreement: str = ""
    """What other results say against it; empty if none does."""


class Choosing(Generic[_Kept]):
    """Results are given one by one; of each suite on a cell, one for each folder of runs is kept."""

    def __init__(self, keep: Callable[[Found], _Kept], now: datetime) -> None:
        """Begin.

        :param keep: what is kept of a result.
        :param now: what began much later than this was dated by a wrong clock.
        """
        self._keep, self._now = keep, now
        self._seen: set[bytes] = set()
        self._entries: dict[Key, dict[Path, _Entry[_Kept]]] = {}
        self._outcomes: dict[Key, dict[datetime, dict[str, set[Outcome]]]] = {}
        self._refuted: set[Contradiction] = set()

    def add(self, found: Found) -> Found | None:
        """Take in a result, and return it as it is to be believed; None for one that was given before."""
        digest = hashlib.sha256(msgspec.json.encode(found.result, order="sorted")).digest()
        ahead = found.result.started > self._now + AHEAD
        if ahead:
            why = f"it is dated {found.result.started:%Y-%m-%d %H:%M}, and now it is {self._now:%Y-%m-%d %H:%M} UTC"
            found = found.refuted(why)
        result, key = found.result, (found.result.cell_id, found.result.suite)
        if found.contradictions:
            what = "; ".join(found.contradictions)
            self._refuted.add(Contradiction(cell=result.cell_id, suite=result.suite, run=result.run, what=what))
        started = compat.utc(result.started)
        self._outcomes.setdefault(key, {}).setdefault(started, {}).setdefault(result.run, set()).add(result.outcome)
        # What is dated in the future hides nothing, and a part of a suite hides no whole one.
        badness = _BADNESS.index(result.outcome)
        weight = (not ahead, not result.is_part, started, badness)
        order = (*weight, result.run, result.seconds, digest, os.fsencode(found.folder))
        holder = found.folder.parent.parent.parent
        entries = self._entries.setdefault(key, {})
        if holder not in entries or entries[holder].rank < order:
            entries[holder] = _Entry(
                rank=order,
                run=result.run,
                started=started,
                outcome=result.outcome,
                fingerprint=result.fingerprint,
                folder=found.folder,
                kept=self._keep(found),
            )
        if digest in self._seen:
            return None  # the same folder by two ways, or a copy of it
        self._seen.add(digest)
        return found

    def chosen(self) -> Mapping[Key, Chosen[_Kept]]:
        """Return the result that counts of each suite on each cell, in order."""
        return {key: self._chosen(key, entries.values()) for key, entries in sorted(self._entries.items())}

    def contradictions(self) -> tuple[Contradiction, ...]:
        """Return what can't be true, and what disagrees, in order."""
        disagreeing = {
            Contradiction(cell=cell, suite=suite, run=it.run, what=it.disagreement)
            for (cell, suite), it in self.chosen().items()
            if it.disagreement
        }
        return tuple(sorted(self._refuted | disagreeing, key=lambda it: (it.cell, it.suite, it.run, it.what)))

    def _chosen(self, key: Key, entries: Iterable[_Entry[_Kept]]) -> Chosen[_Kept]:
        newest, *others = sorted(entries, key=lambda it: it.rank, reverse=True)
        if against := [it for it in others if _disagree(newest, it)]:
            all_ = (newest, *against)
            told = "; ".join(sorted(f"{it.outcome} in {it.run} ({printable_path(it.folder)})" for it in all_))
            failed = next(it for it in all_ if it.outcome is Outcome.FAILED)
            return Chosen(kept=failed.kept, run=failed.run, disagreement=f"machines disagree: {told}")
        return Chosen(kept=newest.kept, run=newest.run, disagreement=self._at_once(key, newest))

    def _at_once(self, key: Key, newest: _Entry[_Kept]) -> str:
        """Return how results disagree that began in the same second as the newest: which is the newer, nobody knows."""
        runs = {run: of - {Outcome.UNFINISHED} for run, of in self._outcomes[key][newest.started].items()}
        every = {outcome for of in runs.values() for outcome in of}
        if not every >= _OPPOSITE and all(len(of) <= 1 for of in runs.values()):
            return ""
        told = "; ".join(f"{outcome} in {run}" for run, of in sorted(runs.items()) for outcome in sorted(of))
        return f"results that began in the same second disagree: {told}"


def _disagree(one: _Entry[_Kept], other: _Entry[_Kept]) -> bool:
    """Tell whether the results of two folders of runs, of two machines that is, can't both be true."""
    same = one.run == other.run or one.fingerprint == other.fingerprint != ""
    return same and {one.outcome, other.outcome} == _OPPOSITE
