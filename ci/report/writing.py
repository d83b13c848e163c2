"""A report's folder: reading what lies there, and writing all files of a report."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ci import paths
from ci.errors import ResultsError
from ci.report import model, retold
from ci.report.forms import forms
from ci.report.merging import Merging, ReportRequest
from ci.report.model import COMPAT_FILE, Compat, Merged
from ci.terminal import console

UNREADABLE_FILE = "compat-unreadable.json"


def merge(request: ReportRequest, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Merged:
    """Read all results and merge them.

    :raises ResultsError: if there are none.
    """
    merging = Merging(request, now())
    for item in retold.find(request.roots):
        merging.add(item)
    return merging.merged()


def previous(folder: Path) -> Compat | None:
    """Return the report that lies in a folder, if there is one; one that can't be read is put aside, and why is told.

    :raises ResultsError: if it can't be put aside.
    """
    path = folder / COMPAT_FILE
    if not path.exists():
        return None
    try:
        return model.load(path)
    except ResultsError as error:
        aside = folder / UNREADABLE_FILE
        try:
            path.replace(aside)  # kept: a newer version of this program may have written it
        except OSError as refused:
            raise ResultsError("failed to put a report aside", where=str(path), why=str(refused)) from refused
        error.next_step = f"it was kept as {aside}"
        console.warn(str(error))
        return None


def write(merged: Merged, folder: Path) -> None:
    """Write all files of a report, each in one stroke.

    :raises ResultsError: if that fails; ``DiskFullError`` if there is no room.
    """
    # compat.json comes last: the next report begins where this one was whole.
    for form in sorted(forms().values(), key=lambda form: form.FILE == COMPAT_FILE):
        if form.FILE:
            with paths.replaced(folder / form.FILE, "the report") as file:
                # Output of a test may hold halves of surrogate pairs.
                file.writelines(piece.encode(errors="replace") for piece in form.pieces(merged))
