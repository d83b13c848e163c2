"""The words behind ``--`` on the command line of a session: our options, and the arguments of pytest."""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import replace
import difflib
from pathlib import Path

from ci import options
from ci.errors import SelectionError, suite_session, typed
from ci.options import Options, Scope, inputs
from ci.options.inputs import OwnSuite
from ci.terminal.help import Parser

HELP = frozenset({"-h", "--help"})
# Words less similar than this are not taken for a typing mistake; pytest's --strict-config is 0.7 like our --strict.
_NEAR = 0.8
_OURS = (Scope.IMAGES, Scope.CLUSTER, Scope.SUITE)


def split(words: Sequence[str], read: argparse.Namespace | None = None) -> tuple[Options, list[str]]:
    """Split words into our options and pytest's arguments.

    :param read: the options of earlier words, to which these are added.
    :raises SelectionError: for a misspelt option of ours, such as ``--node``.
    """
    parsed, rest = _parser().parse_known_args(list(words), read)
    # argparse leaves it among the rest, and pytest would take all that follows it for paths.
    others = [word for word in rest if word != "--"]
    _refuse_slips(others, options.flags(*_OURS))
    return Options.of(parsed), others


def own_suite(path: Path, given: Options, rest: Sequence[str]) -> tuple[Options, OwnSuite, tuple[str, ...]]:
    """Return the options, a suite of another project, and its command line: pytest's, or a shell's (``--command``).

    :raises SelectionError: for arguments that a shell command would not get.
    """
    found = inputs.own_suite(path, pytest=not given.shell_command)
    own = replace(given, suite=path, name=found.name, plain=True, pytest=not given.shell_command)
    if not given.shell_command:
        return own, found, ("pytest", found.tests, *rest)
    if rest:
        raise SelectionError(
            f"--command runs in place of pytest, so {' '.join(rest)} would be ignored",
            next_step="write it into the command, or leave it out",
        )
    # Of `make test | tee log`, tee's status would be the suite's.
    return own, found, ("bash", "-o", "pipefail", "-c", given.shell_command)


def by_variable(words: Sequence[str]) -> str:
    """Return a hint for the first word that is an option of commands only: its variable; empty if there is none.

    Sessions of nox have no such options, but the variables work for both.
    """
    flags = [word.partition("=")[0] for word in words]
    named = ((flag, options.variable(flag)) for flag in flags)
    return next((f"set {name} in the environment in place of {flag}" for flag, name in named if name), "")


def help_text() -> str:
    """Return the help on our options of a session."""
    return _parser().format_help()


def _parser() -> Parser:
    # Without abbreviations, because one of ours could be a whole option of pytest.
    parser = Parser(
        prog=suite_session("SUITE", "CELL", "").strip(),
        usage=suite_session("SUITE", "CELL", "[options] [pytest's options]"),
        allow_abbrev=False,
        add_help=False,
    )
    options.add_to(parser, *_OURS)
    return parser


def _refuse_slips(words: Sequence[str], flags: Collection[str]) -> None:
    for word in words:
        name = word.partition("=")[0]
        near = difflib.get_close_matches(name, flags, n=1, cutoff=_NEAR) if name.startswith("--") else []
        if near:
            raise SelectionError(
                f"unknown option {name}; did you mean {near[0]}?",
                where=f"behind -- on the command line: {' '.join(words)}",
                next_step=f"{typed('suite --help')} lists the options",
            )
