"""The command `plan`: the jobs of a fleet of machines."""

import argparse
import os
from pathlib import Path
import sys

from ci import paths
from ci.artefacts.candidates import Candidates, for_cells
from ci.cli.elsewhere import check_checkout
from ci.cli.selecting import add_arch, add_cells, add_suites
from ci.errors import ResultsError
from ci.fleet import earlier, planning, revision
from ci.fleet.affected import affected
from ci.fleet.formats import DEFAULT, formats
from ci.group.planning import check_options
from ci.images import cache
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.mentioned import default_group, requested_cells
from ci.matrix.profiles import Profile
from ci.matrix.suites import requested_suites
from ci.options import Options, Scope, add_to, values

_SHARDS = values.whole(1, None, "a number of shards; at least one machine has to do the work")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `plan` to its parser."""
    add_cells(parser)
    add_suites(parser)
    add_arch(parser)
    parser.add_argument(
        "--shards",
        type=_SHARDS,
        metavar="N",
        help="number of machines to share the work (default: one per architecture)",
    )
    parser.add_argument(
        "--changed-since",
        metavar="REV",
        help="only cells that can be affected by what has changed since a git revision, uncommitted changes included",
    )
    parser.add_argument(
        "--format", choices=list(formats()), default=DEFAULT, help=f"for whom to write it (default: {DEFAULT})"
    )
    parser.add_argument(
        "--earlier",
        action="append",
        type=values.folder,
        metavar="DIR",
        help="a folder with earlier results, to balance shards by (repeatable; default: that of --results)",
    )
    parser.add_argument(
        "--runner",
        action="append",
        default=[],
        type=values.runner,
        metavar="ARCH=LABEL",
        help="the label or tag of the machines for an architecture (repeatable)",
    )
    parser.add_argument(
        "--output",
        type=values.folder,
        metavar="FILE",
        help="write there (--format github appends), and print it for people",
    )
    add_to(parser, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)


def plan(parsed: argparse.Namespace) -> int:
    """Plan the jobs of a fleet and write the plan."""
    rows, host, options, form = loading.load(), Arch.host(), Options.of(parsed), formats()[parsed.format]
    group = "" if parsed.cells else parsed.group or default_group(rows, os.environ)
    named = requested_cells(parsed.cells, parsed.group, rows, host, os.environ, options.unreleased)
    cells = planning.of_arch(named, parsed.arch, group)
    if absent := [str(folder) for folder in parsed.earlier or () if not folder.is_dir()]:
        raise ResultsError(
            f"there is no folder {' or '.join(absent)}",
            where="--earlier",
            next_step="leave it out: shards are then balanced by what results/ has",
        )
    chosen = Candidates(options=options, profile=Profile.of(options.profile) if options.profile else None)
    # Of a group, cells that do not fit are left out; one that is named is refused.
    if parsed.cells:
        for_cells(cells, chosen)
    unfit = {cell.id: why for cell in cells if (why := chosen.unfit(cell))}
    cells = tuple(cell for cell in cells if cell.id not in unfit)
    check_options(options, len(cells))
    wanted = planning.FleetRequest(
        suites=requested_suites(parsed.suites),
        group=group,
        shards=parsed.shards,
        options=options,
        image_cache=cache.address(os.environ),
        # A job that builds images for the others makes sense only where it can push them.
        images_first=not cache.read_only(os.environ),
        since=parsed.changed_since or "",
        runners=dict(form.runners) | dict(parsed.runner),
        left_out=unfit,
    )
    # None: all cells get a job, without a reason. An empty one would say that the change affects none of them.
    reasons = None
    if parsed.changed_since:
        check_checkout("--changed-since")
        change = revision.changes_since(parsed.changed_since)
        reasons = affected(cells, wanted.suites, rows, options, change)
    planned = planning.plan_fleet(cells, rows, wanted, earlier.seconds_of(parsed.earlier or [options.results]), reasons)
    text = form.write(planned)
    if parsed.output is None:
        sys.stdout.write(text)
        return 0
    _write(text, parsed.output, append=form.appends)
    sys.stdout.write(formats()[DEFAULT].write(planned))  # who reads the log of a job sees what was planned, and why
    return 0


def _write(text: str, file: Path, *, append: bool) -> None:
    try:
        with file.open("a" if append else "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as problem:
        raise paths.refused(
            problem, "writing the plan failed", ResultsError, where=file, choice="--output"
        ) from problem
