"""What earlier runs say of a suite on a cell: flaky or not, faster or slower; and what changed."""

from collections.abc import Iterable, Mapping, Sequence
import statistics

from ci.results.compat import RED, Change, ChangeKind, Changes, Compat, Past, State, SuiteReport
from ci.results.outcomes import Outcome

DEFAULT_LENGTH = 20
"""As many times are kept of each suite on each cell."""
_EARLIER = 3
"""Of fewer earlier times no trend is told."""
_BAD = frozenset({Outcome.FAILED, Outcome.ERROR})


def joined(times: Iterable[Past], length: int) -> tuple[Past, ...]:
    """Return the newest times, each once, the newest first."""
    once = {(past.run, past.started): past for past in times}
    return tuple(sorted(once.values(), key=lambda past: (past.started, past.run), reverse=True)[:length])


def is_flaky(history: Sequence[Past]) -> bool:
    """Tell whether it both passed and failed while nothing that decides it was changed. What was reused did not run."""
    outcomes: dict[str, set[Outcome]] = {}
    for past in history:
        if past.fingerprint and not past.reused_from:
            outcomes.setdefault(past.fingerprint, set()).add(past.outcome)
    return any(Outcome.PASSED in found and found & _BAD for found in outcomes.values())


def trend(history: Sequence[Past]) -> float:
    """Return the newest seconds over the median of earlier ones, of times that passed; 0 for too few."""
    seconds = [past.seconds for past in history if past.outcome is Outcome.PASSED and not past.reused_from]
    newest, *earlier = seconds or [0.0]
    if len(earlier) < _EARLIER or history[0].outcome is not Outcome.PASSED or history[0].reused_from:
        return 0.0
    median = statistics.median(earlier)
    return round(newest / median, 2) if median > 0 else 0.0


def changes(previous: Compat, now: Sequence[tuple[str, SuiteReport]]) -> Changes:
    """Return what is not as it was in the previous report.

    A report of the very results that the previous one was made of tells what that one told: making it again loses
    nothing.
    """
    before = {(cell.id, suite.suite): suite for cell, suite in previous.results()}
    after = {(cell, suite.suite): suite for cell, suite in now}
    if previous.changes and {_told(key, it) for key, it in before.items()} == {
        _told(key, it) for key, it in after.items()
    }:
        return previous.changes
    items = [
        change
        for key in sorted(before.keys() | after.keys())
        if (change := _change(key, before.get(key), after.get(key))) is not None
    ]
    order = list(ChangeKind)
    items.sort(key=lambda change: order.index(change.kind))
    return Changes(since=previous.made, runs=tuple(run.id for run in previous.runs if run.shown), items=tuple(items))


def _told(key: tuple[str, str], suite: SuiteReport) -> tuple[object, ...]:
    return (*key, suite.run, suite.started)


def _change(key: tuple[str, str], before: SuiteReport | None, after: SuiteReport | None) -> Change | None:
    versions: Mapping[str, tuple[str, str]] = {}
    if before is None or after is None:
        kind = ChangeKind.GONE if after is None else ChangeKind.NEW
    else:
        versions = {
            name: (before.versions[name], after.versions[name])
            for name in sorted(before.versions.keys() & after.versions.keys())
            if before.versions[name] != after.versions[name]
        }
        kind_of_state = _kind(before.state, after.state)
        if kind_of_state is None and not versions:
            return None
        kind = kind_of_state or ChangeKind.VERSIONS
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
    if (before in RED) is (after in RED):
        return ChangeKind.CHANGED
    return ChangeKind.BROKEN if after in RED else ChangeKind.FIXED
