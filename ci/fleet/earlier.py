"""Seconds of earlier results, by which jobs are balanced. They are read from results, and from earlier reports."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from ci.record import files
from ci.record.outcomes import Outcome
from ci.record.store import RESULT_FILE
from ci.report.model import COMPAT_FILE, LARGEST

_Kind = TypeVar("_Kind")
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


def seconds_of(folders: Sequence[Path]) -> dict[tuple[str, str], float]:
    """Return the seconds of the newest result of each cell and suite that is in some folders, however deep.

    What can't be read, and what did not run to its end, is passed over: a plan can be made without it.
    """
    results = (it for folder in folders for it in _read(folder, RESULT_FILE, _Result))
    times: list[tuple[tuple[str, str], _Time]] = [((it.cell.id, it.suite), it) for it in results]
    for report in (it for folder in folders for it in _read(folder, COMPAT_FILE, _EarlierReport)):
        times += [((cell.id, of.suite), it) for cell in report.cells for of in cell.suites for it in of.history]
    newest: dict[tuple[str, str], _Time] = {}
    for key, time in times:
        if time.telling and (key not in newest or newest[key].started <= time.started):
            newest[key] = time
    return {key: time.seconds for key, time in newest.items()}


def _read(folder: Path, name: str, kind: type[_Kind]) -> Iterator[_Kind]:
    for path in sorted(folder.rglob(name)):
        with suppress(OSError, *files.INVALID):
            yield msgspec.json.decode(files.content(path, largest=LARGEST), type=kind)
