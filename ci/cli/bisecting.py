"""Bisecting: which release, or which commit, changed the answer of a test."""

import argparse
from dataclasses import replace
import re
import sys

from rich.console import Console as RichConsole
from rich.table import Table

from ci import paths
from ci.artefacts.checkout import Checkout
from ci.bisect import probing, steps
from ci.bisect.probing import Probe
from ci.bisect.search import Judgement, Search
from ci.bisect.steps import Span, Step
from ci.errors import BisectError, BisectRangeError, typed
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.model import VERSION_AXES
from ci.options import Options, Scope, add_to, values
from ci.terminal import console, signals


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.usage = typed("bisect --axis AXIS --good OLD --bad NEW --cell CELL [options] -- SUITE [-k TEST]")
    parser.add_argument("--axis", required=True, choices=VERSION_AXES, help="what has changed")
    parser.add_argument("--good", required=True, metavar="OLD", help="the older end: a release, or a revision")
    parser.add_argument("--bad", required=True, metavar="NEW", help="the newer end")
    parser.add_argument("--cell", required=True, metavar="CELL", help="a cell that has the other axes")
    parser.add_argument(
        "--checkout",
        type=values.folder,
        metavar="PATH",
        help="bisect the commits of this git checkout (default: the releases of matrix.toml)",
    )
    add_to(parser, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)


def bisect(parsed: argparse.Namespace) -> int:
    """Find the first release or commit at which the answer to a question changes; return 0 if it was found."""
    rows, options = loading.load(), Options.of(parsed)
    # Apart from other runs: by this folder in a step's command line, reports tell a step from a result of its cell.
    options = replace(options, results=options.results / paths.BISECTIONS_FOLDER)
    cell, span = rows.cell(parsed.cell, Arch.host()), Span(axis=parsed.axis, good=parsed.good, bad=parsed.bad)
    steps.check(span, cell, options, Arch.host())
    question = probing.question(parsed.command, cell, rows)
    if parsed.checkout:
        sequence = steps.commits(span, Checkout.at(parsed.checkout), cell, options)
    else:
        sequence = steps.releases(span, cell, rows, options)
    # All steps have the same options but for what is bisected: what the first refuses, all would.
    sequence[0].options.check(cell)
    search = Search(length=len(sequence))
    probes: dict[int, Probe] = {}
    folder = paths.make_directory(options.results / options.run)
    console.say(f"{len(sequence)} steps to search; results go to {folder}")
    try:
        while (at := search.next()) is not None:
            with console.step(f"{span.axis} {sequence[at].name} {sequence[at].title}".rstrip()) as step:
                probes[at] = probing.ask(sequence[at], question, rows)
                step.note = probes[at].answer
            # Only when the step is over: an interrupted one has no answer, and is asked again with the same run.
            search.answers[at] = probes[at].answer
    except signals.Interrupted:
        console.say(f"to continue: the same command with --run {options.run}")
        raise
    finally:
        # After a Ctrl-C or an error, too: what was asked took long.
        if probes:
            _show(span, sequence, probes)
    _tell(span, sequence, search, is_release=parsed.checkout is None)
    _warn_of_reasons(sequence, probes, search.answers[search.ends[1]])
    return 0


def _show(span: Span, sequence: list[Step], probes: dict[int, Probe]) -> None:
    """Print what was asked, oldest first."""
    table = Table(span.axis, "", "answer", "seconds", "why", box=None, header_style="bold")
    for at, probe in sorted(probes.items()):
        step = sequence[at]
        table.add_row(step.name, step.title[:60], probe.answer, f"{probe.seconds:.1f}", probe.why)
    # Without a terminal there is no width to cut lines to.
    RichConsole(width=None if sys.stdout.isatty() else 240).print(table)


def _warn_of_reasons(sequence: list[Step], probes: dict[int, Probe], answer: Judgement) -> None:
    """Say where the same answer has another reason: then more than one thing has changed."""
    reasons: dict[str, str] = {}
    for at, probe in sorted(probes.items()):
        if probe.answer is answer and probe.why:
            # Ids of jobs and processes are never the same.
            reasons.setdefault(re.sub(r"\d+", "0", probe.why), f"{sequence[at].name}: {probe.why}")
    if len(reasons) > 1:
        console.warn(
            "\n  ".join([f"{answer}, but for several reasons: more than one change lies there", *reasons.values()])
        )


def _tell(span: Span, sequence: list[Step], search: Search, *, is_release: bool) -> None:
    """Say which one it is.

    :raises BisectError, BisectRangeError: if it was not found.
    """
    old, new = (search.answers[end] for end in search.ends)
    ends = f"{sequence[0].name}: {old}; {sequence[-1].name}: {new}"
    if search.undecided:
        silent = Judgement.NONE in {old, new}
        raise BisectError(
            "an end has no answer" if silent else f"the answer is the same at both ends: {old}",
            why=ends,
            next_step="the table says why; name another end"
            if silent
            else "name other ends, or another test: each end is asked for the answers of --good",
        )
    found = search.suspects
    names = [sequence[at].name for at in found]
    kind = "release" if is_release else "commit"
    if len(found) > 1:
        raise BisectRangeError(
            f"the first {kind} with another answer is one of {len(names)}: {', '.join(names)}",
            why=f"{ends}; {len(names) - 1} of them gave no answer, and the table says why",
            next_step="repair what keeps them from being built, or look at the changes of all of them",
        )
    # Never the first step: it is the good end, and there is a step before it.
    (at,) = found
    before = sequence[at - 1].name
    console.say(f"{span.axis} {names[0]} is the first {kind} with another answer: {new}; up to {before} it is {old}")
    if sequence[at].title:
        console.say(f"  {sequence[at].title}")
    # A candidate of enroot is two packages, so there is no checkout of it to bisect.
    elif span.axis != "enroot":
        console.say(f"  which commit: the same with --checkout PATH --good {before} --bad {names[0]}")
