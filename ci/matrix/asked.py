"""Which cells a command line asks for: nox' arguments, its tags, and the environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ci.matrix.cells import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ci.matrix.arch import Arch
    from ci.matrix.cells import Cell
    from ci.matrix.model import Matrix

GROUP_VARIABLE = "PYXIS_MATRIX_GROUP"
"""Environment variable naming the group to use where none is given."""

_ID = re.compile(r"(?<![\w.-])slurm[0-9.]+-(?:embedded|legacy|enroot[\w.+]+-pyxis[\w.+]+)-[a-z0-9]+(?![\w.-])")
_TAG_OPTION = re.compile(r"--tags?(?:=(?P<long>.*))?|-t(?P<short>.*)", re.DOTALL)


def default_group(matrix: Matrix, env: Mapping[str, str]) -> str:
    """Return the group to use where none is given: the environment's choice, else the matrix'."""
    return env.get(GROUP_VARIABLE) or matrix.defaults.group


def mentioned(argv: Sequence[str], matrix: Matrix, host: Arch, env: Mapping[str, str]) -> tuple[Cell, ...]:
    """Return the cells that the container sessions must offer for this nox command line.

    A hundred sessions would drown ``nox -l``, so the default group is always there and the rest appears when it is
    named: as ``session(CELL)``, or through a tag (``-t``), which may be a group or an axis such as ``slurm24.11``.

    :param argv: nox' arguments; those behind ``--`` belong to the session and don't count.
    :raises SelectionError: for an unknown group in the environment, and for a well-formed id of no cell.
    """
    default = matrix.cells(default_group(matrix, env), host)
    return _with_named(default, _candidates(matrix, host, legacy=False), argv, env, matrix)


def mentioned_legacy(argv: Sequence[str], matrix: Matrix, host: Arch, env: Mapping[str, str]) -> tuple[Cell, ...]:
    """Return the legacy cells to offer, as `mentioned` does for the container sessions.

    Not every group holds a legacy cell; the session exists nevertheless, on the default group's or on any of the host.
    """
    candidates = _candidates(matrix, host, legacy=True)
    wanted = (default_group(matrix, env), matrix.defaults.group)
    matrix.group(wanted[0])  # an unknown name is an error here as it is for the container sessions
    per_group = ([cell for cell in candidates if name in cell.groups] for name in wanted)
    default = next(filter(None, per_group), None) or [cell for cell in candidates if cell.arch is host][:1]
    return _with_named(default, candidates, argv, env, matrix)


def _candidates(matrix: Matrix, host: Arch, *, legacy: bool) -> tuple[Cell, ...]:
    return tuple(cell for cell in matrix.all_cells(host) if (cell.runtime is Runtime.LEGACY) == legacy)


def _with_named(
    default: Sequence[Cell], candidates: Sequence[Cell], argv: Sequence[str], env: Mapping[str, str], matrix: Matrix
) -> tuple[Cell, ...]:
    """Return the default cells and the candidates that arguments name by id or tag, in matrix order."""
    arguments = _own_arguments(argv)
    tags = set(_tags(arguments))
    sessions = [*arguments, env.get("NOXSESSION", "")]
    ids = {matrix.cell(name).id for argument in sessions for name in _ID.findall(argument)}
    ids |= {cell.id for cell in default}
    return tuple(cell for cell in candidates if cell.id in ids or tags.intersection(cell.tags))


def _own_arguments(argv: Sequence[str]) -> list[str]:
    arguments = list(argv)
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _tags(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the values of ``-t A B``, ``-tA``, ``--tags A B`` and ``--tags=A``."""
    collecting = False
    for argument in arguments:
        if argument.startswith("-"):
            option = _TAG_OPTION.fullmatch(argument)
            attached = (option["long"] or option["short"]) if option else None
            collecting = option is not None and not attached
            if attached:
                yield attached
        elif collecting:
            yield argument


def selected(cell: Cell, argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Tell whether somebody asked for this very cell: by id, tag or group, and not just through the default."""
    if environ.get(GROUP_VARIABLE) or cell.id in environ.get("NOXSESSION", ""):
        return True
    tagged = any(argument.startswith(("-t", "--tag")) for argument in argv)
    return tagged or any(cell.id in argument for argument in argv)
