"""Seconds of earlier results, by which jobs are balanced. They are read from results, and from earlier reports."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ci.errors import ResultsError
from ci.fleet.balancing import Seconds
from ci.record.outcomes import Outcome
from ci.record.store import SuiteRun, utc_now
from ci.report import finding, model
from ci.report.choosing import newness

_TELLING = frozenset({Outcome.PASSED, Outcome.FAILED})
"""A suite that was interrupted, or that found no environment, does not tell how long it takes."""


def seconds_of(folders: Sequence[Path]) -> Seconds:
    """Return the seconds of the newest result of each cell and suite that is in some folders.

    What can't be read or believed, and what did not run to its end, is passed over: a plan can be made without it.
    """
    now = utc_now()
    telling = (
        (newness(time.started, now), key, time.seconds)
        for key, time in _times(folders)
        if time.outcome in _TELLING and not time.reused_from and time.seconds >= 0
    )
    # Sorted by age: the newest of each cell and suite comes last, and stays.
    return {key: seconds for _, key, seconds in sorted(telling)}


def _times(folders: Sequence[Path]) -> Iterator[tuple[tuple[str, str], SuiteRun]]:
    for found in finding.results(folders):
        yield (found.result.cell_id, found.result.suite), found.result
    for folder in folders:
        for file in sorted(folder.rglob(model.COMPAT_FILE)):
            with suppress(ResultsError):
                for cell, suite in model.load(file).results():
                    # A report has the seconds of earlier runs, whose results may be gone from a machine of CI.
                    yield from (((cell.id, suite.suite), past) for past in suite.history)
