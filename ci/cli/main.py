"""``python -m ci``: the commands a person or a CI job types."""

import argparse
from collections.abc import Callable, Sequence
import os
import sys
import traceback

from ci.errors import INSTALLED, PROGRAM, PyxisMatrixError, as_here, program, suite_session, typed

try:
    from ci import paths
    from ci.cli import (
        answers,
        bisecting,
        bumping,
        clusters,
        commands,
        completing,
        doctor,
        elsewhere,
        fleet,
        groups,
        holding,
        profiles,
        reports,
        reproducing,
        sessions,
        site,
    )
    from ci.cli.selecting import add_arch, add_cell, add_cells, add_suites
    from ci.engine.refusals import asking
    from ci.matrix.suites import OWN
    from ci.options import Scope, add_to, packages
    from ci.options.values import run_id, whole
    from ci.terminal import console, signals
    from ci.terminal.help import Parser
except ModuleNotFoundError as missing:
    lacking = f"pip install {PROGRAM}" if INSTALLED else f"{typed('COMMAND')} (nox installs it), or pip install ."
    sys.stderr.write(f"the package {missing.name} is missing from {sys.executable}\n  next: {lacking}\n")
    sys.exit(PyxisMatrixError.exit_code)  # 1 is an answer, of `compare` and of tests

# Commands that only print; for them a closed stdout (`| head`) is not an error.
_LISTS = ("cells", "plan", "report", "logs", "reproduce", "profile")
_DESCRIPTION = f"""\
Runs container jobs through every combination of Slurm, Pyxis and enroot that you care about.

A cell is one combination, named like slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64; `cells` lists them. `up` starts
one and leaves it to you, `run` starts one for a command, `down` clears up. A suite on all cells of the default group:

{as_here(suite_session("pyxis_basic"))}
"""


def parser() -> Parser:
    """Return the command line's parser."""
    top = Parser(prog=program(), description=_DESCRIPTION)
    # Where no command is named, `main` shows the help.
    top.set_defaults(handler=None)
    # argparse leaves as much room for the names of commands as this one word needs.
    top.usage = f"{program()} [-h] COMMAND ..."
    verbs = top.add_subparsers(title="commands", metavar="COMMAND ...", prog=program())

    cells = _verb(verbs, "cells", commands.cells, "list the cells of a group")
    add_cells(cells)
    add_arch(cells)
    cells.add_argument("--json", action="store_true", help="for CI: everything about each cell, on stdout")
    cells.add_argument("--explain", action="store_true", help="say why each cell is in the group")
    cells.add_argument("--excluded", action="store_true", help="list what the matrix leaves out, with the reasons")

    images = _verb(verbs, "images", commands.images, "build the images of cells", "[CELL ...] [options]")
    add_cells(images)
    add_to(images, Scope.IMAGES, Scope.RESULT)

    run = _verb(
        verbs,
        "run",
        commands.run,
        "start a cell, run the command after `--` against it, take it down",
        "CELL [options] -- COMMAND",
    )
    add_cell(run)
    add_to(run, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT, Scope.COMMAND)

    # What a session of nox starts.
    suite = _verb(
        verbs,
        "suite",
        sessions.suite,
        "run a suite on a cell: one of this project, or your own (-- PATH)",
        "[SUITE] CELL [options] [-- [PATH] [pytest's options]]",
    )
    suite.add_argument(
        "suite_name", nargs="?", default=OWN, metavar="SUITE", help="one of this project (default: your own, PATH)"
    )
    add_cell(suite)
    add_to(suite, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT, Scope.SUITE)

    holding.add_to(verbs.add_parser("hold"))  # what the pytest plugin starts

    matrix = _verb(
        verbs,
        "matrix",
        groups.matrix,
        "run suites on all cells of a group, several at a time",
        "[CELL ...] [options] [-- pytest's options]",
    )
    add_cells(matrix)
    add_suites(matrix)
    _add_group_options(matrix)
    add_to(matrix, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)

    # The process of one cell of a group; it has no line in the list of commands.
    one = verbs.add_parser("cell")
    one.set_defaults(handler=groups.cell)
    add_cell(one)
    add_suites(one)
    add_to(one, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)

    site.add_options(_verb(verbs, "site", site.site, "run suites on a cluster that exists, over SSH, as a user"))

    up = _verb(verbs, "up", clusters.up, "start a cell and leave it up", "CELL [options]")
    add_cell(up)
    add_to(up, Scope.IMAGES, Scope.CLUSTER, Scope.RESULT)

    bisecting.add_options(
        _verb(verbs, "bisect", bisecting.bisect, "find the release or commit at which a test's answer changes")
    )
    plan = _verb(
        verbs, "plan", fleet.plan, "plan the jobs of a fleet of machines for a group of cells", "[CELL ...] [options]"
    )
    fleet.add_options(plan)

    shell = _verb(
        verbs,
        "shell",
        clusters.shell,
        "enter the login node of a cell that is up, or run a command there",
        "[CELL|RUN] [-- COMMAND]",
    )
    logs = _verb(verbs, "logs", clusters.logs, "show what the daemons of a cell that is up wrote")
    down = _verb(verbs, "down", clusters.down, "take a cell down, or all that is left of a run")
    for verb in (shell, logs, down):
        verb.add_argument("which", nargs="?", metavar="CELL|RUN", help="needed only when more than one is up")
    down.add_argument("--all", action="store_true", help="everything of yours on this engine; says what others have")
    down.add_argument("--everyone", action="store_true", help="everything of this project, of all users of the engine")

    _add_knowledge(verbs)
    return top


def _add_knowledge(verbs: "argparse._SubParsersAction[Parser]") -> None:
    """Add the commands that start no cell: what is known of cells, this machine and upstream."""
    reports.add_to(_verb(verbs, "report", reports.show, "show the results of runs, or merge them into a report"))
    answers.add_compare(_verb(verbs, "compare", answers.compare, "say what changes between two cells, or versions"))
    answers.add_ask(_verb(verbs, "ask", answers.ask, "say whether a combination of versions works"))

    reproducing.add_to(
        _verb(
            verbs, "reproduce", reproducing.reproduce, "write a script that shows a test's fault without this project"
        )
    )

    elsewhere.add_init(_verb(verbs, "init", elsewhere.init, "write a matrix.toml of your own into the current folder"))
    setup = _verb(verbs, "setup", elsewhere.setup, "install and start what this machine lacks: a container engine")
    setup.add_argument("--dry-run", action="store_true", help="only say what would be done")
    setup.add_argument("--emulate", action="store_true", help="also an emulator for images of the other architecture")
    profiles.add_options(
        _verb(verbs, "profile", profiles.profile, "check a profile, or make one of a site's own files, over SSH")
    )
    completing.add_to(_verb(verbs, "complete", completing.show, "print what completes commands in a shell with TAB"))
    _verb(verbs, "doctor", doctor.examine, "check this machine, and print the fix for what is missing")
    bump = _verb(verbs, "bump", bumping.bump, "look for new releases of Slurm, enroot and Pyxis, and add their rows")
    bump.add_argument("--check", action="store_true", help="change nothing; the exit code is 50 if there is news")
    pins = _verb(verbs, "pins", commands.pins, "record upstream's checksums in containers/pins.toml")
    pins.add_argument("--group", default="full", help="the cells whose artefacts are recorded (default: full)")


def _add_group_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("options of a group")
    group.add_argument(
        "--jobs",
        type=whole(1, None, "a number of cells"),
        default=0,
        metavar="N",
        help="cells at a time (default: by cores and memory; never more than fit)",
    )
    group.add_argument("--fail-fast", action="store_true", help="end the run when a cell fails")
    group.add_argument("--reuse", action="store_true", help="take an earlier result that passed if nothing has changed")
    group.add_argument("--quiet", action="store_true", help="show only what went wrong, and the summary")
    group.add_argument("--resume", type=run_id, metavar="RUN", help="go on with a run that was broken off")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. A user's mistake is one message, never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # A shell that completes starts this program, with what was typed so far in variables.
    if completing.ASKED in os.environ:
        completing.answer(parser())
    # After `--` comes another program's command line; argparse would look for our options in it.
    own, command = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parsed = parser().parse_args(own, argparse.Namespace(command=command))
    handler: Callable[[argparse.Namespace], int] | None = parsed.handler
    if handler is None:
        parser().print_help()
        # As argparse ends where an argument is missing.
        return 2
    return _run(handler, parsed, words)


def _run(handler: Callable[[argparse.Namespace], int], parsed: argparse.Namespace, words: Sequence[str]) -> int:
    try:
        with signals.handled(), asking("what this command asked of it"):
            # Within `handled`: the end of the parent then ends this run as Ctrl-C would, with everything taken down.
            signals.follow_parent()
            # Nox does it for a checkout. `run` is the id of the run, and for `compare` whether it is to run anything.
            if INSTALLED and words[0] in packages.RUN_SUITES and parsed.run:
                elsewhere.enter(words)
            return handler(parsed)
    except PyxisMatrixError as error:
        return _failed(error)
    except signals.Interrupted as stop:
        console.fail(str(stop))
        return stop.exit_code
    except BrokenPipeError:
        # stdout was closed (`| head`). Replace it, so that Python prints no error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if words[0] in _LISTS else PyxisMatrixError.exit_code
    except OSError as error:
        # A full disk or a missing right, wherever it was met.
        return _failed(paths.refused(error))
    except Exception:  # noqa: BLE001 - a mistake of ours; by itself Python would end with 1, which is an answer
        traceback.print_exc()
        return PyxisMatrixError.exit_code


def _failed(error: PyxisMatrixError) -> int:
    console.fail(error)
    return error.exit_code


def _verb(
    verbs: "argparse._SubParsersAction[Parser]",
    name: str,
    handler: Callable[[argparse.Namespace], int],
    text: str,
    usage: str = "",
) -> Parser:
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    # argparse knows nothing of what stands behind `--`.
    verb.usage = typed(f"{name} {usage}") if usage else None
    verb.set_defaults(handler=handler)
    return verb
