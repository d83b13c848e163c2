"""Words that a shell completes with TAB: commands and options by the parser, the values of some by their metavar.

argcomplete is imported where a shell asks, and nowhere else: nobody else waits for it.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
import os
import sys
from typing import Any

from ci.environment import launching
from ci.errors import PyxisMatrixError, program, typed
from ci.matrix import loading, profile_files
from ci.matrix.arch import Arch
from ci.matrix.mentioned import default_group
from ci.matrix.suites import SUITES

ASKED = "_ARGCOMPLETE"
"""Set by argcomplete's functions of shells in the process that they ask."""
SHELLS = {shell: {"fish": "{} | source"}.get(shell, 'eval "$({})"') for shell in ("bash", "zsh", "fish")}
"""By shell: how it reads them."""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the argument of `complete`."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to read it")
    parser.epilog = f"In bash and zsh: {how('bash')}. In fish: {how('fish')}."


def how(shell: str) -> str:
    """Return what switches completion on in a shell."""
    return SHELLS[shell].format(typed(f"complete {shell}"))


def show(parsed: argparse.Namespace) -> int:
    """Print what a shell has to read."""
    from argcomplete.shell_integration import shellcode  # noqa: PLC0415 - see above

    sys.stdout.write(shellcode([program().split()[0]], shell=parsed.shell))
    return 0


def answer(top: argparse.ArgumentParser, **more: Any) -> None:  # noqa: ANN401 - those of argcomplete
    """Tell the shell that asks what can stand where its cursor is, and end the process."""
    import argcomplete  # noqa: PLC0415 - see above

    if " -- " in os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]:
        sys.exit(1)  # the words of another program; the shell has its own way then: names of files
    (verbs,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001 - it has no name
    shown = {action.dest for action in verbs._choices_actions}  # noqa: SLF001
    for parser in verbs.choices.values():
        for action in parser._actions:  # noqa: SLF001
            # By metavar: arguments of several names, such as `cell` and `fixed`, take the same words.
            if names := _NAMES.get(str(action.metavar)):
                action.completer = _completer(names)
    # Commands without a help text are for processes, not for people; argcomplete would offer them.
    hidden = [*verbs.choices.keys() - shown]
    argcomplete.autocomplete(top, always_complete_options=False, exclude=hidden, **more)


def _completer(names: Callable[[str], Iterable[str]]) -> Callable[..., list[str]]:
    def complete(prefix: str, **_: object) -> list[str]:
        with suppress(PyxisMatrixError):  # a matrix.toml with a fault: the command itself says what is wrong
            return [*names(prefix)]
        return []

    return complete


def _cells(prefix: str) -> Iterable[str]:
    """Return the ids of cells: those of the default group, and of all where somebody has begun to write one."""
    rows = loading.load()
    host = Arch.host()
    return (cell.id for cell in (rows.all_cells(host) if prefix else rows.cells(default_group(rows, os.environ), host)))


def _profiles(prefix: str) -> Iterable[str]:
    from argcomplete.completers import DirectoriesCompleter  # noqa: PLC0415 - see above

    return [*profile_files.shipped(), *DirectoriesCompleter()(prefix)]


_NAMES: Mapping[str, Callable[[str], Iterable[str]]] = {
    "CELL": _cells,
    "CELL|RUN": lambda _: launching.runs(),
    "GROUP": lambda _: (group.name for group in loading.load().groups),
    "NAME|DIR": _profiles,
    "NAME|DIR|USER@HOST[:PORT]|FILE": _profiles,
    "SUITE": lambda _: SUITES,
}
