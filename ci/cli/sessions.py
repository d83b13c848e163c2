"""What nox starts for a session of a suite: what comes after ``--`` is read here, once, and refused or skipped."""

import argparse
from dataclasses import replace
import os
from pathlib import Path
import shlex
import sys
from typing import NoReturn

from ci import paths
from ci.artefacts import sources
from ci.cli.clusters import plan_cell, say_how_to_enter
from ci.engine import emulation
from ci.environment.plan import EnvironmentPlan
from ci.errors import NotRunError, SelectionError, suite_session
from ci.images.building import sources_of
from ci.matrix import loading, suites
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime
from ci.matrix.pytest_words import check_environment, given
from ci.options import Scope
from ci.report import merging
from ci.report.forms import terminal
from ci.session import arguments, checks, running
from ci.session.record import Record
from ci.terminal import console


def suite(parsed: argparse.Namespace) -> int:
    """Run a suite on a cell: that of the session, or one of somebody's own."""
    reason_file = os.environ.pop(paths.NOT_RUN_VARIABLE, "")  # nothing that this process starts may write there
    if arguments.HELP & set(parsed.command):
        return _show_help(reason_file)
    record = _read(parsed)
    # Without nox' file nobody would learn that a suite was skipped: to end with 0 would look like success.
    needed = record.plan.options.strict or not reason_file
    if not (reason := obstacle(record.plan, needed=needed)):
        return run_and_show(record)
    # A result is written in both cases, so that a report has the reason; nox gets it as a skip.
    try:
        return refuse(record, reason)
    except NotRunError:
        if needed:
            raise
    return _not_run(reason, reason_file)


def _show_help(reason_file: str) -> int:
    sys.stdout.write(arguments.help_text())
    # pytest's help follows on the same stdout, from another process.
    sys.stdout.flush()
    console.attach([sys.executable, "-m", "pytest", "--help"])
    return _not_run("help was asked for", reason_file) if reason_file else 0


def _not_run(reason: str, file: str) -> int:
    """Tell nox, by the file that it named, why nothing is run; return the exit code."""
    Path(file).write_text(reason, encoding="utf-8")
    return 0


def run_and_show(record: Record, environment: running.EnvironmentContext | None = None) -> int:
    """Run a record's command against its planned environment, and show the summary; return its exit code.

    :param environment: has it up, if it is not a cell's.
    """
    plan = record.plan
    code, result = running.run(record, environment)
    terminal.summarise(merging.of_results([result], plan.options.results / plan.options.run))
    if plan.options.keep:
        say_how_to_enter(plan)
    return code


def refuse(record: Record, reason: str) -> int:
    """Write that a cell can't run here, in the place of what an earlier attempt left.

    :raises NotRunError: always.
    """

    def act() -> NoReturn:
        raise NotRunError(reason)

    return running.recorded(record, act)[0]


def _read(parsed: argparse.Namespace) -> Record:
    """Return what a session is to do.

    :raises SelectionError: for what comes after ``--`` and can't be used.
    """
    name, cell = parsed.suite_name, parsed.cell
    options, rest = arguments.split(parsed.command, parsed)
    rows = loading.load()
    if name == suites.OWN:
        if options.suite:
            raise SelectionError(
                "the suite's PATH comes first after --",
                next_step=suite_session(suites.OWN, cell, str(options.suite)),
            )
        if not rest or rest[0].startswith("-"):
            raise SelectionError(
                "the suite is missing",
                why="its PATH comes first after --",
                next_step=suite_session(suites.OWN, cell, "PATH"),
            )
        options, rest = replace(options, suite=Path(rest[0]).expanduser().absolute()), rest[1:]
    if options.suite:
        options, own, command = arguments.own_suite(options.suite, options, rest)
        record = Record(plan=plan_cell(cell, rows, options), command=command, suite=own)
        if options.pytest:
            checks.check_options(own, command)
        return record
    # Only suites of one's own use these; one of this project would pass over them in silence.
    if misplaced := options.words(Scope.SUITE):
        raise SelectionError(
            f"{misplaced[0]} cannot be used with {name}",
            why="it is for a suite of your own",
            next_step=suite_session(suites.OWN, cell, f"PATH {misplaced[0]} …"),
        )
    check_environment(os.environ)
    which = suites.suite(name)
    if how := arguments.by_variable(rest):
        where = f"after --: {shlex.join(rest)}"
        raise SelectionError(f"an option of commands cannot be used with {name}", where=where, next_step=how)
    suites.check_subject(rows.subject, name)
    words = given(which, rest)
    plan = plan_cell(cell, rows, replace(options, name=which.name, pytest=True))
    return Record(plan=plan, command=(sys.executable, "-m", "pytest", *words.command(which)), given=words)


def obstacle(plan: EnvironmentPlan, *, needed: bool) -> str:
    """Return which files or hardware of a cell are missing here; empty if it can run.

    :param needed: whether this very cell was asked for: emulated, it would give no answer.
    """
    cell, options = plan.cell, plan.options
    if cell.runtime is Runtime.LEGACY and not options.suite:
        return ""
    # Emulated, some of it runs, be it without starting containers.
    if cell.arch is not Arch.host() and (needed or options.plain):
        return f"{cell.id} needs {cell.arch} hardware, and this is {Arch.host()}; run it on such a machine"
    if why := emulation.needed(cell.arch):
        return f"{cell.id} is not run: {why}"
    return sources.missing(cell, sources_of(options)) or ""
