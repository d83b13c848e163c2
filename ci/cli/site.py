"""The command `site`: suites on a cluster that exists, over SSH."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
import os

from ci.cli.selecting import add_suites
from ci.engine.connection import connect
from ci.errors import SelectionError, typed
from ci.group import ending
from ci.matrix import loading
from ci.matrix.pytest_words import check_environment, given
from ci.matrix.suites import SUITES, Suite, check_subject, requested_suites
from ci.options import Options, Scope, add_to
from ci.options.values import run_id
from ci.report import merging
from ci.report.forms import terminal
from ci.session.several import Order, run_suites
from ci.site import running
from ci.site.redacting import redacted, redaction_of
from ci.site.target import SiteTarget
from ci.terminal import console


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = typed("site USER@HOST[:PORT]|FILE [options] [-- pytest's options]")
    parser.add_argument("target", metavar="USER@HOST[:PORT]|FILE", help="a cluster, or a TOML file that describes it")
    add_suites(parser)
    parser.add_argument(
        "--registry",
        default="",
        metavar="HOST:PORT/FOLDER",
        help="a registry, and a folder of it, that is the same from here and from the nodes",
    )
    parser.add_argument(
        "--redact", action="store_true", help="keep results in which words stand for the site's names and addresses"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--down", type=run_id, metavar="RUN", help="only remove what a run left there that was killed, on any machine"
    )
    instead.add_argument("--dry-run", action="store_true", help="say what would be done there, and do nothing")
    add_to(parser, Scope.RESULT)


def site(parsed: argparse.Namespace) -> int:
    """Run suites on a cluster that exists, and show one summary; return the exit code of the worst."""
    check_environment(os.environ)
    target = SiteTarget.of(parsed.target).with_registry(parsed.registry)
    # Before suites and options are looked at: to remove what is left needs none of them.
    if parsed.down:
        running.take_down(target, parsed.down)
        console.say(f"site {target.name}: nothing is left of the run {parsed.down}")
        return 0
    suites = _suites(parsed.suites)
    options, rows = Options.of(parsed), loading.load()
    check_subject(rows.subject, *(suite.name for suite in suites))
    orders = [Order(suite=suite, given=given(suite, parsed.command)) for suite in suites]
    if parsed.dry_run:
        console.say(running.rehearsal(target, tuple(suite.name for suite in suites), options))
        return 0
    with running.reached(target, options, [suite.name for suite in suites]) as there:
        plan = running.plan_site(there, rows, options)
        console.say(f"site {target.name}: {plan.cell.id}")
        # Only a suite that runs tasks through a subject builds a job image; the others need no engine on this machine.
        engine = connect if any(suite.subject for suite in suites) else None
        keeping: AbstractContextManager[None] = nullcontext()
        if parsed.redact:
            plan = replace(plan, again=f"{plan.again} --redact")
            keeping = redacted(options.results / options.run / plan.cell.id, redaction_of(there))
        with keeping:
            results = run_suites(plan, orders, running.environment_of(there, engine))
    terminal.summarise(merging.of_results(results, options.results / options.run))
    return ending.exit_code(results)


def _suites(names: list[str]) -> tuple[Suite, ...]:
    fitting = [suite.name for suite in SUITES.values() if suite.on_sites]
    # Not the suites of a group: most of them need what no user of a cluster may have.
    found = requested_suites(names or fitting)
    if wrong := [suite.name for suite in found if not suite.on_sites]:
        raise SelectionError(
            f"{wrong[0]} cannot be used with a cluster that exists",
            why="it needs a registry of its own, root on the nodes, or the engine",
            next_step=f"take {' or '.join(fitting)}",
        )
    return found
