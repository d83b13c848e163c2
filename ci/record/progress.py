"""How far a cell of a group has come: ``results/RUN/CELL/progress.jsonl``, one line for each phase that begins.

The process of the cell writes it; whoever shows the run reads it as it grows.
"""

from contextlib import suppress
from pathlib import Path
import time

import msgspec

from ci import paths
from ci.record import files

ENDED = "ended"
"""A suite has ended, and its result is there."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that began or ended."""

    at: float
    """Seconds since the epoch."""
    phase: str
    """images, launch, ready, push, tests or teardown; or `ENDED`."""
    suite: str = ""
    """The suite that it is about; empty for what all suites of the cell share."""
    outcome: str = ""
    """For `ENDED`: the suite's outcome, in the word of the report."""


class Log:
    """A cell's file of events."""

    def __init__(self, path: Path) -> None:
        """Begin an empty file, in place of that of an earlier attempt."""
        self._path = path
        paths.make_directory(path.parent)
        # As in `add`: a run does not depend on what is only shown.
        with suppress(OSError):
            path.write_bytes(b"")

    def add(self, phase: str, suite: str = "", outcome: str = "") -> None:
        """Add an event that happens now."""
        event = Event(at=time.time(), phase=phase, suite=suite, outcome=outcome)
        # Somebody may look at it, and nothing depends on it: a full disk must not end the run here.
        with suppress(OSError), self._path.open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")


def read(path: Path) -> tuple[Event, ...]:
    """Return the events so far; a line that is not yet written whole is left out, and so is all of a missing file."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError:
        return ()
    events = []
    for line in lines:
        try:
            events.append(msgspec.json.decode(line, type=Event))
        except files.INVALID:
            continue  # only the last line can be half, and it is whole at the next look
    return tuple(events)
