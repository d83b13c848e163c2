"""Which cells a nox command line asks for, by its arguments, its tags and the environment."""

import argparse
from collections.abc import Mapping, Sequence
from itertools import takewhile
import re

from ci.errors import SelectionError
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.matrix.systems import OS_NAME

GROUP_VARIABLE = "PYXIS_MATRIX_GROUP"
"""Environment variable with the group to use if the command line names none."""

# Neither before nor behind it may stand what could be a part of an id: no piece of a longer word is found.
# Also one without the operating system, as ids once were: whoever has it is told what it is called now.
_ID = re.compile(
    rf"(?<![\w.-])slurm[0-9.]+-(?:embedded|legacy|enroot[\w.+]+-pyxis[\w.+]+)(?:-{OS_NAME})?-[a-z0-9]+(?:\+[a-z0-9-]+)?(?![\w.-])"
)


def default_group(matrix: Matrix, env: Mapping[str, str]) -> str:
    """Return the group to use if the command line names none: that of the environment, else that of the matrix."""
    return env.get(GROUP_VARIABLE) or matrix.defaults.group


def requested_cells(
    names: Sequence[str],
    group: str | None,
    matrix: Matrix,
    host: Arch,
    env: Mapping[str, str],
    unreleased: Sequence[str] = (),
) -> tuple[Cell, ...]:
    """Return the cells that a command is asked for: those of these names, else all of a group, legacy ones too.

    :param unreleased: the axes on which options name a candidate.
    :raises SelectionError: for an unknown name or group, a group without container cells, and names beside a group.
    """
    if names and group:
        raise SelectionError(
            "cells and a group are both named", why="only one of them can say what to run", next_step="leave one out"
        )
    if names:
        return tuple(matrix.cell(name, host) for name in dict.fromkeys(names))
    members = matrix.group(group or default_group(matrix, env))
    members.check(unreleased)
    matrix.cells(members.name, host)  # refuses one that no suite of containers could run on
    return tuple(cell for cell in matrix.all_cells(host) if members.name in cell.groups)


def mentioned(argv: Sequence[str], matrix: Matrix, host: Arch, env: Mapping[str, str]) -> tuple[Cell, ...]:
    """Return the cells that sessions must offer for this nox command line, in the order of the matrix.

    A hundred sessions would make ``nox -l`` unreadable. So the cells of the default group are always offered, and
    others only if they are named: as ``session(CELL)``, or by a tag (``-t``), which is a group or, for example,
    ``slurm24.11``. Not every group has a legacy cell: then that of the matrix' own default group is offered, or the
    first one of this host.

    :param argv: nox' arguments; those after ``--`` belong to the session and are ignored.
    :raises SelectionError: for an unknown group in the environment, one of what is not released without that, and for a
        well-formed id of no cell.
    """
    group, cells = default_group(matrix, env), matrix.all_cells(host)
    legacy = [cell for cell in cells if cell.runtime is Runtime.LEGACY]
    per_group = ([cell for cell in legacy if name in cell.groups] for name in (group, matrix.defaults.group))
    default = [
        *matrix.cells(group, host),
        # The first of the two groups that has any; if neither has, one is enough to show the session.
        *(next(filter(None, per_group), None) or [cell for cell in legacy if cell.arch is host][:1]),
    ]
    arguments = list(takewhile(lambda word: word != "--", argv))
    tags = set(_tags(arguments))
    # Options behind `--` are read by the tool later; here it only counts that a candidate is named, as in --pyxis=PATH.
    behind = {word.partition("=")[0].removeprefix("--") for word in argv[len(arguments) :]}
    for each in matrix.groups:
        if each.name in {group, *tags}:
            each.check(behind)
    # nox takes the names of sessions from this variable, too.
    sessions = [*arguments, env.get("NOXSESSION", "")]
    # Looked up, and not only compared: an id of no cell is refused, and what is near it is named.
    ids = {matrix.cell(name, host).id for argument in sessions for name in _ID.findall(argument)}
    ids |= {cell.id for cell in default}
    return tuple(cell for cell in cells if cell.id in ids or tags.intersection(cell.tags))


def _tags(arguments: Sequence[str]) -> list[str]:
    """Return the values of ``-t A B``, ``-tA``, ``--tags A B`` and ``--tags=A``, read as nox reads them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-t", "--tags", "--tag", nargs="*", action="extend", default=[])
    found: list[str] = parser.parse_known_args(list(arguments))[0].tags
    return found


def selected(cell: Cell, argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Tell whether this cell was named, by id, tag or group, and is not only one of the default group."""
    if environ.get(GROUP_VARIABLE) or cell.id in environ.get("NOXSESSION", ""):
        return True
    # Both ``-t TAG`` and ``-tTAG``.
    tagged = any(argument.startswith(("-t", "--tag")) for argument in argv)
    return tagged or any(cell.id in argument for argument in argv)
