"""Commands over cells: listing, building, running, reporting; every function returns an exit code."""

import argparse
from collections.abc import Iterable
import json
import os
import sys

from rich.console import Console as RichConsole
from rich.table import Table

from ci import paths
from ci.artefacts import candidates, pinning, sources
from ci.artefacts import pins as pins_file
from ci.artefacts.sources import Sources
from ci.cli.clusters import plan_cell
from ci.cli.elsewhere import check_checkout
from ci.cli.sessions import run_and_show
from ci.engine.connection import connect
from ci.environment.plan import plan_environment
from ci.errors import ArtefactError, EngineError, NotRunError, SelectionError, as_here, session, suite_session, typed
from ci.fleet.planning import of_arch
from ci.images.building import Builder, sources_of
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.mentioned import default_group, requested_cells
from ci.matrix.model import Group, Matrix
from ci.matrix.pairs import pairs_of
from ci.matrix.suites import is_own
from ci.options import Options
from ci.session.record import Record
from ci.terminal import console
from ci.terminal.quantities import count


def cells(parsed: argparse.Namespace) -> int:
    """Print the ids of cells, one per line, or everything about them as JSON: of a group, or those that are named.

    :raises SelectionError: for an unknown name or group, and where none has the architecture that is asked for.
    """
    rows = loading.load()
    if parsed.excluded:
        for left_out in rows.excluded():
            _print(f"{left_out.cell.id}\t{left_out.reason}" + (f"\t{left_out.issue}" if left_out.issue else ""))
        return 0
    if parsed.cells and parsed.explain:
        raise SelectionError(
            "--explain cannot be used with cells that are named",
            why="it says why a group has them",
            next_step=typed("cells --group GROUP --explain"),
        )
    name = "" if parsed.cells else parsed.group or default_group(rows, os.environ)
    cells = (
        rows.cells(name, Arch.host()) if name else requested_cells(parsed.cells, parsed.group, rows, Arch.host(), {})
    )
    chosen = of_arch(cells, parsed.arch, name)
    if parsed.explain:
        _explain(rows, rows.group(name), chosen)
    elif parsed.json:
        _print(json.dumps([cell.as_json() | {"untried": cell.untried} for cell in chosen], indent=2))
    else:
        for cell in chosen:
            _print("\t".join(filter(None, (cell.id, cell.remark))))
    if name and (axes := rows.group(name).candidates):
        console.say(f"candidates take the place of {', '.join(axes)}: --{' and --'.join(axes)} have to name them")
    return 0


def _explain(rows: Matrix, group: Group, chosen: tuple[Cell, ...]) -> None:
    """Print why each cell is in the group, and how many pairs of values the group covers."""
    # Only a group's selectors make cells with a profile.
    cells = (*rows.without_groups(), *(cell for cell in chosen if cell.profile))
    reasons = group.members(cells, Arch.host())
    for cell in chosen:
        _print("\t".join(filter(None, (cell.id, reasons[cell], cell.remark))))
    candidates = [cell for cell in cells if group.selects(cell, Arch.host())]
    every, covered = (frozenset().union(*map(pairs_of, those)) for those in (candidates, chosen))
    console.say(
        f"{len(chosen)} of {len(candidates)} cells, "
        f"in which {len(covered)} of {len(every)} pairs of values of two axes meet"
    )


def images(parsed: argparse.Namespace) -> int:
    """Have the images of cells, and print of each whether it was built, pulled or reused, its seconds and its size."""
    rows = loading.load()
    host = Arch.host()
    put = candidates.read(Options.of(parsed), rows)
    chosen = requested_cells(parsed.cells, parsed.group, rows, host, os.environ, put.options.unreleased)
    # A cell that is named has to be built here, if need be by emulation; those of a group need not.
    if not parsed.cells:
        group = [cell for cell in chosen if cell.runtime is not Runtime.LEGACY]
        chosen = tuple(cell for cell in group if cell.arch is host)
        if left := len(group) - len(chosen):
            console.say(f"left out: {count(left, 'cell')} of another architecture; that takes a machine of its own")
        chosen = tuple(cell for cell in chosen if not put.unfit(cell))
    options, chosen = put.options, candidates.for_cells(chosen, put)
    where = sources_of(options)
    builder = Builder(connect(), where, logs=options.results / options.run / "images", share_all=True)
    # All cells are tried: one that lacks a file says nothing of the next.
    lacking: list[str] = []
    refused: list[NotRunError] = []
    for cell in chosen:
        if reason := sources.missing(cell, where):
            lacking.append(f"{cell.id}: {reason}")
            console.warn(lacking[-1])
            continue
        with console.step(f"images of {cell.id}") as step:
            try:
                builder.build(plan_environment(cell, rows, options).images)
            except NotRunError as error:
                step.note = "not built"
                refused.append(error)
                lacking.append(f"{cell.id}: {error.what}: {error.why}")
                console.warn(lacking[-1])
    _print_images(builder)
    if lacking:
        what, why = f"{len(lacking)} of {count(len(chosen), 'cell')} could not be built", "; ".join(lacking)
        # Nothing failed then, and the exit code says so: no file is missing, but this machine can't build them.
        if len(refused) == len(lacking):
            raise NotRunError(what, why=why, next_step=refused[0].next_step)
        raise ArtefactError(
            what,
            why=why,
            next_step="give a mirror with --mirror DIR or PYXIS_MATRIX_MIRROR, or build the other cells by name",
        )
    return 0


def run(parsed: argparse.Namespace) -> int:
    """Start a cell, run a command against it, take it down, and show the summary."""
    options = Options.of(parsed)
    if not parsed.command:
        raise SelectionError(
            "there is no command to run",
            next_step=f"{typed(f'run {parsed.cell} -- COMMAND')}, or {typed(f'up {parsed.cell}')}",
        )
    if not is_own(options.name):
        raise SelectionError(
            f"--as {options.name} cannot be used for a command: the name is that of a suite of this project",
            why="whoever reads the result would take it for that suite's",
            next_step=f"take another name, or run the suite: {as_here(suite_session(options.name, parsed.cell))}",
        )
    return run_and_show(Record(plan=plan_cell(parsed.cell, loading.load(), options), command=parsed.command))


def pins(parsed: argparse.Namespace) -> int:
    """Record the checksums of artefacts as upstream serves them now."""
    check_checkout("pins")
    rows = loading.load()
    cells = rows.cells(parsed.group, Arch.host())
    written = pinning.write_pins(cells, Sources.from_environment())
    for label in ("added", "changed", "unchanged"):
        console.say(f"{label}: {len(getattr(written, label))}")
    _pin_images(rows, cells)
    for path, why in (written.kept | written.unpinned).items():
        console.warn(f"{path}: {why}")
    if written.unpinned:
        raise ArtefactError(
            f"{count(len(written.unpinned), 'artefact')} could not be pinned",
            where=str(paths.PINS_FILE),
            why="upstream is not reachable from this machine",
            next_step=f"run `{as_here(session('pins'))}` where upstream is reachable, and commit the file",
        )
    return 0


def _pin_images(rows: Matrix, cells: Iterable[Cell]) -> None:
    """Record the digests of the images that are pulled; if no registry answers, the earlier digest is kept."""
    wanted = [image for cell in cells for image in plan_environment(cell, rows, Options()).images.all()]
    # Images of several cells are made of the same base; each reference is asked for once.
    references = {member.pulled_as for image in wanted for member in image.family()} - {""}
    try:
        engine = connect()
    except EngineError as problem:
        console.warn(f"no image is pinned: {problem.what}")
        return
    for reference in pins_file.write_image_pins(paths.PINS_FILE, references, engine.registry_digest):
        console.warn(f"{reference}: no registry answers for it")


def _print_images(builder: Builder) -> None:
    table = Table("image", "variant", "", "seconds", "MB", box=None, header_style="bold")
    for built in builder.done:
        how, seconds, size = built.how.value, f"{built.seconds:.1f}", f"{built.size / 1e6:.0f}"
        table.add_row(built.plan.folder, built.plan.variant, how, seconds, size)
    # Without a terminal there is no width to cut lines to.
    RichConsole(width=None if sys.stdout.isatty() else 160).print(table)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
