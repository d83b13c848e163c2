"""A report's folder: reading what lies there, and writing all files of a report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ci import paths
from ci.errors import ResultsError
from ci.matrix.model import Matrix
from ci.report import finding, history, model
from ci.report.forms import forms
from ci.report.merging import Merging
from ci.report.model import COMPAT_FILE, Compat, Merged

UNREADABLE_FILE = "compat-unreadable.json"


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a report is made of."""

    roots: Sequence[Path]
    base: Path
    """The folder of the report; links are relative to it."""
    previous: Compat | None = None
    rows: Matrix | None = None
    length: int = history.DEFAULT_LENGTH
    linked: bool = True
    """Whether it leads to the results' own files; without, it can be read where these are not."""
    may_be_empty: bool = False
    """Whether a report of nothing is a report: at the beginning of a run that is followed."""


def merge(request: ReportRequest, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Merged:
    """Read all results and merge them.

    :raises ResultsError: if there are none.
    """
    merging = Merging(base=request.base, now=now(), linked=request.linked)
    for item in finding.find(request.roots):
        merging.add(item)
    if merging.is_empty and not request.may_be_empty:
        raise ResultsError(
            "no results found",
            where=", ".join(map(str, request.roots)),
            why="; ".join(f"{it.where}: {it.what}" for it in merging.problems[:5]),
            next_step="run a suite: `nox -s pyxis_basic`, or name the folder of a run",
        )
    return merging.merged(previous=request.previous, rows=request.rows, length=request.length)


def previous(folder: Path) -> tuple[Compat | None, ResultsError | None]:
    """Return the report that lies in a folder, if there is one; one that can't be read is put aside, and why is told.

    :raises ResultsError: if it can't be put aside.
    """
    path = folder / COMPAT_FILE
    if not path.exists():
        return None, None
    try:
        return model.load(path), None
    except ResultsError as error:
        aside = folder / UNREADABLE_FILE
        try:
            path.replace(aside)
        except OSError as refused:
            raise ResultsError("failed to put a report aside", where=str(path), why=str(refused)) from refused
        error.next_step = f"it was kept as {aside}"
        return None, error


def write(merged: Merged, folder: Path) -> None:
    """Write all files of a report, each in one stroke.

    :raises ResultsError: if that fails; ``DiskFullError`` if there is no room.
    """
    # compat.json comes last: the next report begins where this one was whole.
    for form in sorted(forms().values(), key=lambda form: form.FILE == COMPAT_FILE):
        if form.FILE:
            with paths.replaced(folder / form.FILE, "the report") as file:
                file.writelines(piece.encode(errors="replace") for piece in form.pieces(merged))
