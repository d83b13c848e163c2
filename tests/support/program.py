"""How the programs among the tests end: with an exit code and one message, as ``python -m ci`` does."""

from collections.abc import Callable
import socket

from ci.engine.refusals import errors_of_ours
from ci.errors import PyxisMatrixError
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.terminal import console, signals
from ci.terminal.help import Parser


class CheckFailedError(PyxisMatrixError):
    """What a check of this project looks for is there: something is left, a step failed. As a failed test it is 1."""

    exit_code = 1


def guarded(act: Callable[[], int], doing: str) -> int:
    """Run a program; return its exit code. What a user can meet is one message, never a traceback.

    :param doing: what the engine refused, if it refuses something: "what the mutations asked of it".
    """
    try:
        with signals.handled(), errors_of_ours(doing):
            signals.follow_parent()
            return act()
    except PyxisMatrixError as error:
        console.fail(error)
        return error.exit_code
    except signals.Interrupted as stop:
        console.fail(str(stop))
        return stop.exit_code


def parser_of(name: str, description: str | None) -> Parser:
    """Return the parser of such a program, which is started as ``nox -s NAME -- …``."""
    return Parser(prog=f"nox -s {name} --", description=description)


def cell_of(cell: str | None, matrix: Matrix) -> Cell:
    """Return the cell of this id; where none is named, the embedded one of the group smoke."""
    if cell:
        return matrix.cell(cell, Arch.host())
    return next(cell for cell in matrix.cells("smoke", Arch.host()) if cell.runtime is Runtime.EMBEDDED)


def free_port() -> int:
    """Return a port of this machine's loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])
