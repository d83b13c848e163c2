"""The commands that answer from results: `compare`, how two cells differ; `ask`, whether a combination works."""

import argparse
from dataclasses import replace
import sys
from typing import Any

import msgspec

from ci import paths
from ci.answers import asking, comparing, document, selecting
from ci.answers.asking import Advice
from ci.answers.comparing import Comparison, Kind
from ci.answers.document import FORMS, Document
from ci.artefacts import candidates
from ci.cli import groups, reports
from ci.cli.selecting import add_suites
from ci.errors import ResultsError, SelectionError, UntestedError, session
from ci.matrix import loading
from ci.matrix.behaviours import behaviour
from ci.matrix.model import AXES
from ci.options import Options, values
from ci.report.behaviours import of_catalogue
from ci.report.model import COMPAT_FILE

SHIPPED = paths.REPOSITORY / "docs" / "compat" / COMPAT_FILE
"""The data that comes with this project."""
DIFFERS = FAILS = 1
"""As diff and grep have it; no error ends with it."""


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `compare` to its parser."""
    parser.add_argument("cells", nargs="*", metavar="CELL", help="two cells: before and after the change")
    axis: dict[str, Any] = {"action": "append", "default": [], "metavar": "AXIS=VALUE"}
    pairs = "in place of cells: all pairs that differ in this only, such as slurm=24.11.7 (repeatable)"
    parser.add_argument("--from", dest="before", help=pairs, **axis)
    parser.add_argument("--to", dest="after", help="the other side, such as slurm=25.11.7", **axis)
    parser.add_argument("--format", choices=[*FORMS, "json"], default="text", help="what to print")
    _add_data(parser, "all of the results folder")
    parser.add_argument("--run", action="store_true", help=f"first run what is missing, as {session('matrix')} does")
    add_suites(parser)
    with_it = "compare the cells as they are with a site's settings"
    parser.add_argument("--profile", type=values.profile, metavar="NAME|DIR", help=with_it)
    parser.epilog = "Exit codes: 0 the same, 1 differs, 55 could not be told; others are errors."


def add_ask(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ask` to its parser."""
    for axis, example in (("slurm", "25.05.8"), ("enroot", "3.4.1"), ("pyxis", "0.21.0")):
        help_ = f"such as {example}"
        parser.add_argument(f"--{axis}", required=True, type=values.version, metavar="VERSION", help=help_)
    parser.add_argument("--os", metavar="OS", help="only this operating system, such as debian12")
    parser.add_argument("--arch", type=values.arch, metavar="ARCH", help="only this architecture")
    parser.add_argument("--behaviour", metavar="ID", help="answer this question only, such as task-prolog")
    parser.add_argument("--json", action="store_true", help="print the answer for programs")
    _add_data(parser, "what comes with this project, docs/compat")
    parser.epilog = "Exit codes: 0 works (with or without hazards), 1 fails, 55 not tested; others are errors."


def _add_data(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="PATH",
        help=f"the results: folders, ids of runs, reports (compat.json); repeatable (default: {default})",
    )


def compare(parsed: argparse.Namespace) -> int:
    """Say how cells differ; return 0 if they are the same, and 1 if they differ.

    :raises UntestedError: if nothing differs, and not all was seen on both sides.
    """
    before, after = (selecting.axes(words, name) for words, name in ((parsed.before, "--from"), (parsed.after, "--to")))
    selecting.check(parsed.cells, before, after)
    rows, results = loading.load(), paths.results_dir()
    names = parsed.data or ([str(results)] if results.is_dir() else [])
    if parsed.suites and not parsed.run:
        raise SelectionError("--suite says what --run runs", next_step="add --run, or leave it out")
    cells, chosen = parsed.cells, candidates.read(Options(profile=parsed.profile or ""), rows)
    if chosen.profile:
        if not cells:
            raise SelectionError("--profile cannot be used with --from and --to", next_step="name the two cells")
        rows = replace(rows, added=tuple(chosen.into(rows.cell(name)) for name in cells))
        cells = [cell.id for cell in rows.added]
    compat = selecting.read(names, results, may_be_empty=True, profile=chosen.profile)
    before, after = (selecting.as_rows(side, compat.cells, rows) for side in (before, after))
    selecting.check(parsed.cells, before, after)  # two releases may be of one row
    for side in (before, after):
        selecting.check_values(side, compat, rows)
    if parsed.run:
        wanted = cells or selecting.partners(before, after, compat, rows)
        lacking, suites = selecting.to_run(wanted, parsed.suites, compat, rows)
        names += _run([rows.cell(name).matrix_id for name in lacking], suites, chosen.options.profile)
        compat = selecting.read(names, results, may_be_empty=True, profile=chosen.profile)
    pairs = selecting.pairs(cells, before, after, compat, rows)
    found = comparing.compare(compat, pairs)
    _print(found, document.of_comparison(found), parsed.format)
    reports.check_whole(compat, names)
    if found.verdict == Kind.UNTOLD:
        raise UntestedError(
            "nothing differs, but not all was seen on both sides",
            why="what could not be told is named above, with the reason",
            next_step=comparing.how_to_tell(found),
        )
    return DIFFERS if found.verdict == "differs" else 0


def _run(cells: list[str], suites: list[str], profile: str) -> list[str]:
    """Run suites on cells as `matrix` does; return the folder of the run, if there was anything to run.

    Which tests failed is in the results: the exit code would say no more, and is that of another question.
    """
    if not cells:
        return []
    run, how = Options().run, {"jobs": 0, "fail_fast": False, "reuse": True, "quiet": False, "resume": None}
    # As the parser of `matrix` would have read them.
    asked = {"cells": cells, "group": None, "suites": suites, "command": [], "run": run, "profile": profile}
    groups.matrix(argparse.Namespace(**asked, **how))
    return [str(paths.results_dir() / run)]


def ask(parsed: argparse.Namespace) -> int:
    """Say whether a combination works; return 0 if it does, and 1 if it fails.

    :raises UntestedError: if it was not tested.
    :raises SelectionError: for a question that there is not.
    """
    rows = loading.load()
    versions = {axis: str(value) for axis in AXES if (value := getattr(parsed, axis))}
    if not (parsed.data or SHIPPED.is_file()):
        raise ResultsError(
            "no results come with this version of the project, so nothing is known without --data",
            where=str(SHIPPED),
            next_step=f"{asking.how_to_test(versions, rows)}, then the same again with --data {paths.results_dir()}",
        )
    names = parsed.data or [str(SHIPPED)]
    compat = selecting.read(names, paths.results_dir())
    known, name = {behaviour.id: behaviour for behaviour in compat.behaviours}, parsed.behaviour
    # A question that only today's catalogue has was asked of no cell.
    question = known.get(name) or of_catalogue({name: behaviour(name)})[0] if name else None
    found = asking.ask(compat, versions, rows, question)
    _print(found, document.of_reply(found), "json" if parsed.json else "text")
    reports.check_whole(compat, names)
    if found.status is asking.Status.UNTESTED:
        raise UntestedError("not tested: it may work or fail", next_step=found.next_step)
    return FAILS if found.status is asking.Status.FAILS else 0


def _print(found: Comparison | Advice, said: Document, form: str) -> None:
    if form == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
    else:
        sys.stdout.writelines(FORMS[form](said))
    # Before warnings, which go to stderr, so that they stand below the answer where both are one terminal.
    sys.stdout.flush()
