"""Commands over a group of cells: `matrix`, and `cell`, which is the process of one of them."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
import os

from filelock import FileLock, Timeout

from ci import paths
from ci.artefacts import candidates, sources
from ci.cli.clusters import plan_cell
from ci.engine.connection import connect
from ci.errors import PyxisMatrixError, SelectionError
from ci.group import ending, planning
from ci.group.planning import GroupPlan
from ci.group.running import RunSettings, run_group
from ci.images.building import sources_of
from ci.matrix import loading
from ci.matrix.mentioned import default_group
from ci.matrix.model import Matrix
from ci.matrix.pytest_words import check_environment, given
from ci.matrix.suites import suite
from ci.options import Options
from ci.record import planned
from ci.record.outcomes import Outcome
from ci.report import finding, writing
from ci.report.forms import terminal
from ci.report.merging import ReportRequest
from ci.session.checks import check_profile
from ci.session.several import Order, run_suites
from ci.terminal import console, signals
from ci.terminal.quantities import count


def matrix(parsed: argparse.Namespace) -> int:
    """Run suites on the cells of a group, and show one summary; return the exit code of the worst."""
    check_environment(os.environ)
    rows = loading.load()
    plan = _plan(parsed, rows)
    for each in plan.cells:
        # Before anything is written: a run has results of one profile of a name only.
        check_profile(each.environment)
    folder = paths.make_directory(plan.options.results / plan.options.run)
    how = RunSettings(jobs=parsed.jobs, fail_fast=parsed.fail_fast, reuse=parsed.reuse, quiet=parsed.quiet)
    # Not waited for: a second process with this run is a mistake.
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        with lock:
            # A run that goes on keeps the plan that it was begun with.
            if not plan.resumed:
                planned.begin(plan.record, folder)
            unwritten: list[PyxisMatrixError] = []
            try:
                unwritten += run_group(connect, rows, plan, how)
            finally:
                # A second Ctrl-C would cost the summary of all that has run.
                with signals.shielded():
                    code = _summary(plan, rows, unwritten)
    except Timeout as error:
        raise SelectionError(
            f"run {plan.options.run} is already in progress",
            where=str(folder),
            why="another process runs it, and two would overwrite each other's results",
            next_step="wait for its end, or leave PYXIS_MATRIX_RUN and --run out to begin a run of its own",
        ) from error
    return code


def cell(parsed: argparse.Namespace) -> int:
    """Run suites on one cell, one after another in one environment."""
    check_environment(os.environ)
    plan = plan_cell(parsed.cell, loading.load(), Options.of(parsed))
    orders = [Order(suite=each, given=given(each, parsed.command)) for each in map(suite, parsed.suites)]
    return ending.exit_code(run_suites(plan, orders))


def _plan(parsed: argparse.Namespace, rows: Matrix) -> GroupPlan:
    chosen = candidates.read(Options.of(parsed), rows)
    options = chosen.options
    missing = partial(sources.missing, sources=sources_of(options))
    wanted = planning.GroupRequest(
        cells=parsed.cells, group=parsed.group, suites=parsed.suites, words=parsed.command, candidates=chosen
    )
    if parsed.resume:
        options = replace(options, run=parsed.resume)
        earlier = planned.load(options.results / options.run)
        return planning.resumed(earlier, wanted, rows, options, missing)
    if not (parsed.cells or parsed.group):
        wanted = replace(wanted, group=default_group(rows, os.environ))
    return planning.plan_group(wanted, rows, options, missing)


def _summary(plan: GroupPlan, rows: Matrix, unwritten: Sequence[PyxisMatrixError]) -> int:
    """Show what the run came to so far; return its exit code."""
    folder = plan.options.results / plan.options.run
    # From the files: each cell ran in a process of its own, and a resumed run has results of an earlier one.
    results = [found.result for found in finding.results([folder])]
    merged = writing.merge(ReportRequest(roots=[folder], base=folder, rows=rows, may_be_empty=True))
    for problem in merged.compat.problems:
        console.warn(f"{problem.where}: {problem.what}")
    terminal.summarise(merged)
    for each in plan.cells:
        for name, why in each.not_applicable.items():
            console.say(f"not applicable: {name} on {each.cell.id}: {why}")
    for why, cells in Counter(plan.record.left_out.values()).items():
        console.say(f"left out: {count(cells, 'cell')}: {why}")
    there = {(result.cell_id, result.suite) for result in results if result.outcome is not Outcome.UNFINISHED}
    wanted = {(each.cell.id, suite.name) for each in plan.cells for suite in each.suites}
    missing = wanted - there
    # Where a process was killed, an unfinished result is all that there is.
    begun = missing & {(result.cell_id, result.suite) for result in results}
    for what, suites in (("not begun", missing - begun), ("not finished", begun)):
        if suites:
            console.say(f"{what}: {count(len(suites), 'suite')}; go on with --resume {plan.options.run}")
    return ending.exit_code(results, unwritten, missing=bool(missing or merged.compat.problems))
