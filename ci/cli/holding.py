"""`hold`: start a cell for a pytest that somebody else runs, wait until it has ended, and judge it by its report log.

A cluster that exists is entered and left as by a session `site`. What the pytest plugin (`ci/installed/plugin.py`)
talks to: it reads one line of JSON from stdout as soon as the cell is usable, writes pytest's reports to the ``log``
that is named there, and at the end pytest's exit code to stdin.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
import json
import os
from pathlib import Path
import signal
import sys

from ci.cli.clusters import plan_cell
from ci.cli.selecting import add_cell
from ci.cli.sessions import obstacle, refuse, run_and_show
from ci.engine.connection import Engine, connect
from ci.environment.launching import Environment
from ci.errors import EngineError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.behaviours import AnswerKind, catalogue
from ci.matrix.cells import Cell
from ci.matrix.suites import SUITES
from ci.options import Options, Scope
from ci.options import add_to as add_options
from ci.options.inputs import OwnSuite
from ci.record import store
from ci.session.handover import additions, facts, sdk_settings
from ci.session.record import Record
from ci.site.running import environment_of, plan_site, reached
from ci.site.target import SiteTarget
from ci.terminal import console, signals


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add its arguments to a parser."""
    parser.set_defaults(handler=hold)
    parser.add_argument(
        "tests", type=Path, help="what the results are named after; the working directory is the project"
    )
    add_cell(parser)
    parser.add_argument(
        "--cluster", action="store_true", help="CELL is a cluster that exists: USER@HOST[:PORT], or its file"
    )
    add_options(parser, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)


def hold(parsed: argparse.Namespace) -> int:
    """Hold a cell for a pytest, whose command line comes after ``--``; return the exit code of its result."""
    own = OwnSuite(path=parsed.tests, project=Path.cwd())
    options = replace(Options.of(parsed), name=own.name, pytest=True)
    if parsed.cluster:
        return _hold_site(SiteTarget.of(parsed.cell), options, parsed.command)
    plan = plan_cell(parsed.cell, loading.load(), options)
    record = Record(plan=plan, command=parsed.command, elsewhere=_elsewhere(plan.cell))
    if reason := obstacle(plan, needed=True):
        return refuse(record, reason)
    return run_and_show(record)


def _hold_site(target: SiteTarget, options: Options, command: Sequence[str]) -> int:
    # The command that results tell to type again; an address may be private, so only the name of a file is repeated.
    rows, again = loading.load(), (*command, "--cluster", str(target.path or "USER@HOST"))
    with reached(target, options, [options.name]) as there:
        plan = plan_site(there, rows, options)
        console.say(f"site {target.name}: {plan.cell.id}")
        record = Record(plan=plan, command=again, elsewhere=_elsewhere(plan.cell))
        return run_and_show(record, environment_of(there, _builder(plan.cell.arch) if target.registry else None))


def _builder(arch: Arch) -> Callable[[], Engine] | None:
    """Return what the job image is built by; None where that is not to be had: tests that need no image need none."""
    try:
        engine = connect()
    except EngineError as error:
        console.warn(f"there will be no job image: {error}")
        return None
    if engine.arch is not arch:
        console.warn(f"there will be no job image: it is for {arch}, and this engine's is {engine.arch}")
        return None
    return lambda: engine


def _elsewhere(cell: Cell) -> Callable[[Environment], int]:
    def wait(launched: Environment) -> int:
        """Say where the cell is, and wait for pytest's exit code.

        :raises signals.Interrupted: where whoever runs it has gone.
        """
        session = {
            "run": launched.file.run,
            "log": str(launched.plan.options.folder(cell) / store.REPORT_LOG_FILE),
            "results": launched.file.results,
            "facts": facts(launched),
            "variables": additions(launched, os.environ),
            "sdk": sdk_settings(launched.file),
            "behaviours": _behaviours(cell),
        }
        sys.stdout.write(json.dumps(session) + "\n")
        # The plugin waits for this line, and stdout is a pipe, which Python fills before it writes.
        sys.stdout.flush()
        answer = sys.stdin.readline().strip()
        # The pipe has ended: pytest was killed before it could say its exit code.
        if not answer:
            raise signals.Interrupted(signal.SIGTERM)
        return int(answer)

    return wait


def _behaviours(cell: Cell) -> dict[str, str]:
    """Return by id what the catalogue says of the cell; nothing where it works, or is not asked of such cells."""
    found = {}
    for behaviour in catalogue().values():
        found[behaviour.id] = ""
        if cell.runtime in SUITES[behaviour.suite].runtimes:
            answer = behaviour.answer_on(cell)
            if answer.kind is not AnswerKind.WORKS:
                found[behaviour.id] = f"{answer.kind}: {answer.what} {answer.issue}".rstrip()
    return found
