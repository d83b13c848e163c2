"""Seconds of earlier results, by which jobs are balanced. They are read from results, and from earlier reports."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from ci.record import files
from ci.record.outcomes import Outcome
from ci.record.store import RESULT_FILE
from ci.report.model import COMPAT_FILE, LARGEST

_TELLING = frozenset({Outcome.PASSED.value, Outcome.FAILED.value})
"""A suite that was interrupted, or that found no environment, does not tell how long it takes."""


# Only what says how long something took. All else is left unread, and may be of another schema.
class _Time(msgspec.Struct, kw_only=True):
    outcome: str
    started: datetime
    seconds: float
    reused_from: str = ""

    @property
    def telling(self) -> bool:
        return (
            self.outcome in _TELLING and not self.reused_from and self.seconds >= 0 and self.started.tzinfo is not None
        )


class _Named(msgspec.Struct):
    id: str


class _Result(_Time, kw_only=True):
    cell: _Named
    suite: str


class _Suite(msgspec.Struct):
    suite: str
    history: tuple[_Time, ...] = ()


class _Cell(msgspec.Struct):
    id: str
    suites: tuple[_Suite, ...] = ()


class _EarlierReport(msgspec.Struct):
    cells: tuple[_Cell, ...]


_Timed = tuple[tuple[str, str], _Time]
"""Cell id and suite, and one time that it was run."""


def seconds_of(folders: Iterable[Path]) -> dict[tuple[str, str], float]:
    """Return the seconds of the newest result of each cell and suite that is in some folders, however deep.

    What can't be read, and what did not run to its end, is passed over: a plan can be made without it.
    """
    newest: dict[tuple[str, str], _Time] = {}
    for key, time in (it for folder in folders for it in (*_results(folder), *_reports(folder))):
        if time.telling and (key not in newest or newest[key].started <= time.started):
            newest[key] = time
    return {key: time.seconds for key, time in newest.items()}


def _results(folder: Path) -> Iterator[_Timed]:
    for path in sorted(folder.rglob(RESULT_FILE)):
        try:
            found = msgspec.json.decode(files.content(path), type=_Result)
        except (OSError, *files.INVALID):
            continue
        yield (found.cell.id, found.suite), found


def _reports(folder: Path) -> Iterator[_Timed]:
    for path in sorted(folder.rglob(COMPAT_FILE)):
        try:
            found = msgspec.json.decode(files.content(path, largest=LARGEST), type=_EarlierReport)
        except (OSError, *files.INVALID):
            continue
        yield from (((cell.id, it.suite), time) for cell in found.cells for it in cell.suites for time in it.history)
