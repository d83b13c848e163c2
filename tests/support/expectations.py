"""What the embedded runtime answers otherwise than real cells, and what it does not promise.

It has no versions, and follows the newest release: for it every axis but Slurm counts as newer than any release
(`ci.matrix.behaviours.version_of`). Where it knowingly does not, a table in its README says so (`differs`). What
depends on versions is a behaviour (`tests.support.behaviours`).
"""

from functools import cache
from pathlib import Path
import re

import pytest

from ci.matrix.cells import Cell, Runtime

_README = Path(__file__).parents[2] / "containers/embedded/README.md"


def differs(cell: Cell, answer_of: str) -> bool:
    """Whether the cell's answer is the embedded runtime's own, by the row of its README's table that says so.

    Raises LookupError for what is no row there: whoever reads the table is to find all of them.
    """
    if answer_of not in differences():
        raise LookupError(f"no row of the table in {_README} is called: {answer_of}")
    return cell.runtime is Runtime.EMBEDDED


def no_such_image(cell: Cell, *, logs_in: bool = False) -> str:
    """Return what is said of an image that the registry does not have: where enroot logs in, only that it did."""
    if differs(cell, "words of a registry that refuses"):
        return "manifest unknown"
    return "Authenticating with user" if logs_in else "error code: 404 Not Found"


@cache
def differences() -> dict[str, tuple[str, ...]]:
    """Return the rows of the embedded runtime's table: what is asked, and the tests that ask it."""
    _, _, table = _README.read_text(encoding="utf-8").partition(
        "| what | enroot 4.1.2, Pyxis 0.24.0 | embedded | test |"
    )
    rows: dict[str, tuple[str, ...]] = {}
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            break
        what, *_, tests = (column.strip() for column in line.strip("|").split(" | "))
        if what in rows:
            raise LookupError(f"two rows of the table in {_README} are called: {what}")
        rows[what] = tuple(re.findall(r"`(test_\w+)`", tests))
    return rows


def not_promised(cell: Cell, what: str) -> None:
    """Skip the test on an embedded cell, naming what that runtime does not promise; no other cell is excused."""
    if cell.runtime is Runtime.EMBEDDED:
        pytest.skip(f"not promised by the embedded runtime: {what}")
