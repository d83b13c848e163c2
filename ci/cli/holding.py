"""`hold`: start a cell for a pytest that somebody else runs, wait until it has ended, and judge it by its report log.

What the pytest plugin (`ci/installed/plugin.py`) talks to: it reads one line of JSON from stdout as soon as the cell is
usable, writes pytest's reports to the ``log`` that is named there, and at the end pytest's exit code to stdin.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
import json
import os
from pathlib import Path
import signal
import sys

from ci.cli.clusters import plan_cell
from ci.cli.selecting import add_cell
from ci.cli.sessions import obstacle, refuse, run_and_show
from ci.environment.launching import Environment
from ci.matrix import loading
from ci.matrix.behaviours import AnswerKind, catalogue
from ci.matrix.cells import Cell
from ci.matrix.suites import SUITES
from ci.options import Options, Scope
from ci.options import add_to as add_options
from ci.options.inputs import OwnSuite
from ci.record import store
from ci.session.handover import additions, facts, sdk_settings
from ci.session.record import Record
from ci.terminal import signals


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add its arguments to a parser."""
    parser.set_defaults(handler=hold)
    parser.add_argument(
        "tests", type=Path, help="what the results are named after; the working directory is the project"
    )
    add_cell(parser)
    add_options(parser, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)


def hold(parsed: argparse.Namespace) -> int:
    """Hold a cell for a pytest, whose command line comes after ``--``; return the exit code of its result."""
    own = OwnSuite(path=parsed.tests, project=Path.cwd())
    plan = plan_cell(parsed.cell, loading.load(), replace(Options.of(parsed), name=own.name, pytest=True))
    record = Record(plan=plan, command=parsed.command, elsewhere=_elsewhere(plan.cell))
    if reason := obstacle(plan, needed=True):
        return refuse(record, reason)
    return run_and_show(record)


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
