"""What earlier runs say of a suite on a cell: flaky or not, faster or slower; and what changed."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
import statistics

from ci.record.outcomes import Outcome
from ci.report.choosing import Key, newness
from ci.report.model import Change, ChangeKind, Changes, Compat, Past, State, SuiteReport

DEFAULT_LENGTH = 20
"""How many times are kept of each suite on each cell."""
_EARLIER = 3
"""Of fewer earlier times no trend is told."""
_BAD = frozenset({Outcome.FAILED, Outcome.ERROR})


def joined(times: Sequence[Past], before: Iterable[Past], length: int, now: datetime) -> tuple[Past, ...]:
    """Return the newest times, each once, the newest first.

    :param before: those that an earlier report tells; of a time that both have, its results say more.
    """

    def age(past: Past) -> tuple[object, ...]:
        return *newness(past.started, now), past.run, past.outcome, past.seconds, past.fingerprint

    known = {(past.run, past.started) for past in times}
    every = {*times, *(past for past in before if (past.run, past.started) not in known)}
    ended = {(past.run, past.started) for past in every if past.outcome is not Outcome.UNFINISHED}
    # One that had only begun gives way to what it came to; a copy that was taken too early has fewer seconds.
    once = {
        (past.run, past.started, past.outcome): past
        for past in sorted(every, key=age)
        if past.outcome is not Outcome.UNFINISHED or (past.run, past.started) not in ended
    }
    return tuple(reversed(once.values()))[:length]


def is_flaky(history: Sequence[Past]) -> bool:
    """Tell whether it both passed and failed while nothing that decides it was changed. What was reused did not run."""
    outcomes: dict[str, set[Outcome]] = {}
    for past in history:
        if past.fingerprint and not past.reused_from:  # without a fingerprint nobody knows whether anything was changed
            outcomes.setdefault(past.fingerprint, set()).add(past.outcome)
    return any(Outcome.PASSED in found and found & _BAD for found in outcomes.values())


def trend(history: Sequence[Past]) -> float:
    """Return the newest seconds over the median of earlier ones, of times that passed; 0 for too few."""
    seconds = [past.seconds for past in history if past.outcome is Outcome.PASSED and not past.reused_from]
    newest, *earlier = seconds or [0.0]
    # A time that failed, or was reused, says nothing of how long the suite takes.
    if len(earlier) < _EARLIER or history[0].outcome is not Outcome.PASSED or history[0].reused_from:
        return 0.0
    median = statistics.median(earlier)
    return round(newest / median, 2) if median > 0 else 0.0


def changes(previous: Compat, after: Mapping[Key, SuiteReport]) -> Changes:
    """Return what is not as it was in the previous report.

    A report of the very results that the previous one was made of tells what that one told: making it again loses
    nothing.
    """
    before = {(cell.id, suite.suite): suite for cell, suite in previous.results()}
    now, then = ({(*key, suite.run, suite.started) for key, suite in results.items()} for results in (after, before))
    if previous.changes and now == then:  # else each new page of the same results would say that nothing changed
        return previous.changes
    items = [_change(key, before.get(key), after.get(key)) for key in sorted(before.keys() | after.keys())]
    order = list(ChangeKind)
    return Changes(
        since=previous.made,
        runs=tuple(run.id for run in previous.runs if run.shown),
        items=tuple(sorted(filter(None, items), key=lambda change: order.index(change.kind))),
    )


def _change(key: Key, before: SuiteReport | None, after: SuiteReport | None) -> Change | None:
    versions: Mapping[str, tuple[str, str]] = {}
    kind: ChangeKind | None = ChangeKind.GONE if after is None else ChangeKind.NEW
    if before and after:
        versions = {
            name: (before.versions[name], after.versions[name])
            for name in sorted(before.versions.keys() & after.versions.keys())
            if before.versions[name] != after.versions[name]
        }
        kind = _kind(before.state, after.state) or (ChangeKind.VERSIONS if versions else None)
    if kind is None:
        return None
    return Change(
        cell=key[0],
        suite=key[1],
        kind=kind,
        before=before.state if before else None,
        after=after.state if after else None,
        versions=versions,
    )


def _kind(before: State, after: State) -> ChangeKind | None:
    """Return what kind of change it is from one state to another; that it was reused is none."""
    if before == after or {before, after} == {State.PASSED, State.REUSED}:
        return None
    # What is not finished may be running: nothing is known to be broken.
    if State.UNFINISHED in {before, after} or before.red is after.red:
        return ChangeKind.CHANGED
    return ChangeKind.BROKEN if after.red else ChangeKind.FIXED
