"""The command ``report``: shows results, and merges those of many runs, shards and machines into a folder."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
import os
from pathlib import Path
import sys
import time
import webbrowser

import msgspec

from ci import paths
from ci.errors import MatrixError, ResultsError
from ci.matrix import loading
from ci.matrix.model import Matrix
from ci.options import values
from ci.record import store
from ci.report import compat, finding, markdown, page, serving, terminal, writing
from ci.report.choosing import Choosing
from ci.report.compat import Compat, Contradiction
from ci.report.history import DEFAULT_LENGTH
from ci.report.merging import Merged
from ci.report.terminal import Format
from ci.report.words import contradicted, sentence
from ci.report.writing import Asked
from ci.terminal import console, signals

_POLL_S = 1.0


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "results",
        nargs="*",
        metavar="RESULTS",
        help="run ids or folders (default: the latest run; for a report in files: all of the results folder)",
    )
    parser.add_argument("--format", choices=[it.value for it in Format], default="text", help="what to print")
    files = parser.add_argument_group("a report in files (what nox -s report makes)")
    files.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write report.html, compat.json, compat.md and junit.xml there "
        f"(nox -s report: results/{paths.REPORT_FOLDER})",
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
    files.add_argument("--open", action="store_true", help="show the page in the browser")
    files.add_argument("--serve", action="store_true", help="serve it on loopback, and follow runs as they go")
    files.add_argument("--port", type=values.port, default=0, metavar="PORT", help="of --serve (default: a free one)")


def show(asked: argparse.Namespace) -> int:
    """Print a report, or write one into a folder, and show or serve it."""
    results = paths.results_dir()
    if asked.output or asked.open or asked.serve:
        folder = paths.make_directory(
            (asked.output or results / paths.REPORT_FOLDER).absolute(), choice="--output"
        ).resolve()
        roots = finding.places(asked.results or [str(results)], results)
        return _serve(asked, roots, folder) if asked.serve else _write(asked, roots, folder)
    roots = finding.places(asked.results, results) if asked.results else (store.latest_run(results),)
    format_ = Format(asked.format)
    if format_ is Format.TEXT:
        newest, unreadable, untrue = _newest(roots)
        if not (newest or unreadable):
            raise ResultsError(
                "no results found", where=", ".join(map(str, roots)), next_step="run a suite: `nox -s pyxis_basic`"
            )
        terminal.show(newest, stream=sys.stdout, root=roots[0] if len(roots) == 1 else None)
        _refuse_half(unreadable, untrue, roots)
        return 0
    base = Path(os.path.commonpath(roots))
    merged = writing.merge(_asked(asked, roots, base, _given(asked.previous)))
    _warn(merged)
    match format_:
        case Format.MARKDOWN:
            sys.stdout.write(markdown.as_markdown(merged.compat))
        case Format.HTML:
            sys.stdout.write(page.as_html(merged))
        case Format.JSON:
            sys.stdout.write(compat.as_json(merged.compat))
    _refuse_half(len(merged.compat.problems), len(merged.compat.contradictions), roots)
    return 0


def _write(asked: argparse.Namespace, roots: Sequence[Path], folder: Path) -> int:
    merged = writing.merge(_asked(asked, roots, folder, _previous(asked, folder)))
    writing.write(merged, folder)
    console.say(sentence(merged.compat.verdicts))
    console.say(f"report: {folder / writing.PAGE_FILE}")
    _warn(merged)
    if asked.open:
        _open((folder / writing.PAGE_FILE).as_uri())
    _refuse_half(len(merged.compat.problems), len(merged.compat.contradictions), [folder])
    return 0


def _refuse_half(unreadable: int, untrue: int, where: Sequence[Path]) -> None:
    """Say, when all else was shown, that something could not be read or can't be true; such a report is no success."""
    if unreadable or untrue:
        read = f"{unreadable} of the results could not be read; the report has all the others" if unreadable else ""
        true = f"{untrue} contradiction{'s' if untrue > 1 else ''} in the results" if untrue else ""
        raise ResultsError(
            "; ".join(filter(None, (read, true))),
            where=", ".join(map(str, where)),
            next_step="they are named above; take them away, or run their cells again",
        )


def _serve(asked: argparse.Namespace, roots: Sequence[Path], folder: Path) -> int:
    """Serve the report, and make it anew whenever results have changed, until Ctrl-C; that is no failure."""
    what = replace(_asked(asked, roots, folder, _previous(asked, folder)), may_be_empty=True)
    served = serving.served_from(roots, folder)
    _refresh(what, served)
    try:
        with serving.serving(served, asked.port) as address:
            console.say(f"serving {address}")
            console.say("Ctrl-C ends it")
            if asked.open:
                _open(address)
            while True:
                time.sleep(_POLL_S)
                _refresh(what, served)
    except signals.Interrupted:
        return 0


def _refresh(what: Asked, served: serving.Served) -> None:
    state = finding.signature(what.roots)
    if state == served.state:
        return
    merged = writing.merge(what)
    if merged.compat.cells:
        writing.write(merged, served.folder)
    served.show(merged.compat, page.as_html(merged, live=state), state)


def _open(address: str) -> None:
    if not webbrowser.open(address):
        console.warn(f"no browser was found to open; open this yourself: {address}")


def _previous(asked: argparse.Namespace, folder: Path) -> Compat | None:
    if asked.previous:
        return _given(asked.previous)
    found, problem = writing.previous(folder)
    if problem:
        console.warn(str(problem))
    return found


def _asked(asked: argparse.Namespace, roots: Sequence[Path], base: Path, previous: Compat | None) -> Asked:
    return Asked(roots=roots, base=base, previous=previous, rows=_rows(), length=asked.history)


def _given(path: Path | None) -> Compat | None:
    if path is None:
        return None
    return compat.load(path / compat.COMPAT_FILE if path.is_dir() else path)


def _rows() -> Matrix | None:
    try:
        return loading.load()
    except MatrixError as error:
        console.warn(f"the report does not say why cells are missing: {error.what}")
        return None


def _newest(roots: Sequence[Path]) -> tuple[list[store.Result], int, int]:
    """Return the result that counts of each suite on each cell, how many could not be read, and how many can't be true.

    These are named.
    """
    problems = 0
    choosing = Choosing(lambda found: found.result, datetime.now(UTC))
    for item in finding.find(roots):
        match item:
            case finding.Found():
                choosing.add(item)
            case compat.Problem():
                problems += 1
                console.warn(f"{item.where}: {item.what}")
    results = []
    for it in choosing.chosen().values():
        told = "\n".join(filter(None, (it.disagreement, it.kept.reason)))
        results.append(msgspec.structs.replace(it.kept, reason=told))
    against = choosing.contradictions()
    _warn_of(against)
    return results, problems, len(against)


def _warn_of(contradictions: Sequence[Contradiction]) -> None:
    for it in contradictions:
        console.warn(contradicted(it))


def _warn(merged: Merged) -> None:
    for problem in merged.compat.problems:
        console.warn(f"{problem.where}: {problem.what}")
    _warn_of(merged.compat.contradictions)
    for it in merged.compat.unfinished:
        console.warn(f"{it.cell} {it.suite} of run {it.run} has not ended: it is running, or it was killed")
