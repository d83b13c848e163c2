"""The command ``report``: shows results, and merges those of many runs, shards and machines into a folder."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
import sys
import time
import webbrowser

from ci import paths
from ci.errors import INSTALLED, MatrixError, ResultsError, session
from ci.matrix import loading
from ci.matrix.model import Matrix
from ci.options import values
from ci.record import store
from ci.report import finding, model, serving, writing
from ci.report.forms import forms, page, terminal
from ci.report.history import DEFAULT_LENGTH
from ci.report.merging import ReportRequest
from ci.report.model import Compat
from ci.report.words import sentence
from ci.terminal import console, signals
from ci.terminal.quantities import count

# Between two looks at the times and sizes of files; only where these have changed, the results are read.
_POLL_S = 1.0


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    of_session = "--open" if INSTALLED else session("report")
    parser.add_argument(
        "results",
        nargs="*",
        metavar="RESULTS",
        help="run ids, folders, or earlier reports (default: the latest run; for a report in files: all of the results "
        "folder)",
    )
    parser.add_argument("--format", choices=list(forms()), default="text", help="what to print")
    files = parser.add_argument_group(f"a report in files (what {of_session} makes)")
    files.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write report.html, compat.json, compat.md and junit.xml there "
        f"({of_session}: results/{paths.REPORT_FOLDER})",
    )
    files.add_argument(
        "--previous",
        type=Path,
        metavar="PATH",
        help="the report before, for changes and history: its folder or compat.json (default: in --output)",
    )
    files.add_argument(
        "--history",
        type=values.whole(1, None, "a number of outcomes"),
        default=DEFAULT_LENGTH,
        metavar="N",
        help=f"keep N outcomes of each suite on each cell (default: {DEFAULT_LENGTH})",
    )
    files.add_argument(
        "--without-files", action="store_true", help="no links to files of the results: to be read where they are not"
    )
    files.add_argument("--open", action="store_true", help="show the page in the browser")
    files.add_argument("--serve", action="store_true", help="serve it on loopback, and follow runs as they go")
    files.add_argument(
        "--port", type=values.port, default=0, metavar="PORT", help="the port of --serve (default: a free one)"
    )


def show(parsed: argparse.Namespace) -> int:
    """Print a report, or write one into a folder, and show or serve it."""
    results = paths.results_dir()
    if parsed.output or parsed.open or parsed.serve:
        folder = paths.make_directory(
            (parsed.output or results / paths.REPORT_FOLDER).absolute(), choice="--output"
        ).resolve()
        roots = finding.places(parsed.results or [str(results)], results)
        return _serve(parsed, roots, folder) if parsed.serve else _write(parsed, roots, folder)
    roots = finding.places(parsed.results, results) if parsed.results else (store.latest_run(results),)
    merged = writing.merge(_request(parsed, roots, finding.common(roots), _given(parsed)))
    if parsed.format == terminal.NAME:
        terminal.show(merged, sys.stdout)
    else:
        sys.stdout.writelines(forms()[parsed.format].pieces(merged))
    check_whole(merged.compat, roots)
    return 0


def _write(parsed: argparse.Namespace, roots: Sequence[Path], folder: Path) -> int:
    merged = writing.merge(_request(parsed, roots, folder, _previous(parsed, folder)))
    writing.write(merged, folder)
    console.say(sentence(merged.compat.verdicts))
    console.say(f"report: {folder / page.FILE}")
    if parsed.open:
        _open((folder / page.FILE).as_uri())
    check_whole(merged.compat, [folder])
    return 0


def check_whole(compat: Compat, where: Sequence[Path | str]) -> None:
    """Name what could not be read, what can't be true, and what has not ended; when all else was shown.

    :raises ResultsError: if something could not be read or can't be true: such a report is not a success.
    """
    for problem in compat.problems:
        console.warn(f"{problem.where}: {problem.what}")
    for contradiction in compat.contradictions:
        console.warn(f"{contradiction.cell} {contradiction.suite} of run {contradiction.run}: {contradiction.what}")
    for begun in compat.unfinished:
        console.warn(f"{begun.cell} {begun.suite} of run {begun.run} has not ended: it is running, or it was killed")
    unreadable, untrue = len(compat.problems), len(compat.contradictions)
    if unreadable or untrue:
        read = f"{unreadable} of the results could not be read; the report has all the others" if unreadable else ""
        true = f"{count(untrue, 'contradiction')} in the results" if untrue else ""
        raise ResultsError(
            "; ".join(filter(None, (read, true))),
            where=", ".join(map(str, where)),
            next_step="they are listed above; remove them, or run their cells again",
        )


def _serve(parsed: argparse.Namespace, roots: Sequence[Path], folder: Path) -> int:
    """Serve the report, and make it anew whenever results have changed, until Ctrl-C, which is not a failure."""
    what = replace(_request(parsed, roots, folder, _previous(parsed, folder)), may_be_empty=True)
    served = serving.Served(folder=folder, top=finding.common([*roots, folder]))
    _refresh(what, served)
    try:
        with serving.serving(served, parsed.port) as address:
            console.say(f"serving {address}")
            console.say("press Ctrl-C to end it")
            if parsed.open:
                _open(address)
            while True:
                time.sleep(_POLL_S)
                _refresh(what, served)
    except signals.Interrupted:
        return 0


def _refresh(what: ReportRequest, served: serving.Served) -> None:
    state = finding.signature(what.roots)
    if state == served.state:
        return
    merged = writing.merge(what)
    if merged.compat.cells:
        writing.write(merged, served.folder)
    served.show(merged, state)


def _open(address: str) -> None:
    if not webbrowser.open(address):
        console.warn(f"no browser was found to open; open this yourself: {address}")


def _previous(parsed: argparse.Namespace, folder: Path) -> Compat | None:
    # Read before it is overwritten: the new report tells what has changed since.
    return _given(parsed) or writing.previous(folder)


def _request(parsed: argparse.Namespace, roots: Sequence[Path], base: Path, previous: Compat | None) -> ReportRequest:
    return ReportRequest(
        roots=roots,
        base=base,
        previous=previous,
        rows=_rows(),
        length=parsed.history,
        linked=not parsed.without_files,
    )


def _given(parsed: argparse.Namespace) -> Compat | None:
    """Return the report that ``--previous`` names."""
    return model.load(parsed.previous) if parsed.previous else None


def _rows() -> Matrix | None:
    try:
        return loading.load()
    # Results can be shown without the matrix, which may be in the middle of an edit.
    except MatrixError as error:
        console.warn(f"the report does not say why cells are missing: {error.what}")
        return None
