"""Seconds of earlier results, by which jobs are balanced."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec

from ci.results.outcomes import Outcome
from ci.results.store import RESULT_FILE

_TELLING = frozenset({Outcome.PASSED.value, Outcome.FAILED.value})
"""A suite that was interrupted, or that found no environment, does not tell how long it takes."""


class _Cell(msgspec.Struct):
    id: str


class _Timed(msgspec.Struct):
    """The part of a result that says how long it took. All else is left unread, and may be of another schema."""

    cell: _Cell
    suite: str
    outcome: str
    started: datetime
    seconds: float


def seconds_of(folders: Iterable[Path]) -> dict[tuple[str, str], float]:
    """Return the seconds of the newest result of each cell and suite that lies in some folders, however deep.

    What is no result of a suite that ran to its end is passed over: a plan can be made without it.
    """
    newest: dict[tuple[str, str], _Timed] = {}
    for path in sorted(path for folder in folders for path in folder.rglob(RESULT_FILE)):
        timed = _read(path)
        if timed is None or timed.outcome not in _TELLING or timed.seconds < 0:
            continue
        key = (timed.cell.id, timed.suite)
        if key not in newest or newest[key].started <= timed.started:
            newest[key] = timed
    return {key: timed.seconds for key, timed in newest.items()}


def _read(path: Path) -> _Timed | None:
    try:
        timed = msgspec.json.decode(path.read_bytes(), type=_Timed)
    except (OSError, msgspec.MsgspecError):
        return None
    return timed if timed.started.tzinfo else None
