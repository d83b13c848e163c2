"""The right answer per version, written next to the question.

A behaviour that changed has one answer before and another one from then on. Both are written down, and each cell
asserts its own: nothing is skipped because of a version.

The embedded runtime has no versions. It follows the newest release, so for it every axis but Slurm counts as newer than
any release.
"""

from typing import TypeVar

from packaging.specifiers import SpecifierSet
from packaging.version import Version
import pytest

from ci.matrix.cells import Cell, Runtime

T = TypeVar("T")

_NEWER_THAN_ALL = Version("9999")


def version_of(cell: Cell, axis: str) -> Version:
    """Return the version of ``slurm``, ``enroot`` or ``pyxis`` that the cell has to behave like."""
    return cell.version(axis) or _NEWER_THAN_ALL


def holds(cell: Cell, **specifiers: str) -> bool:
    """Whether the cell satisfies every specifier: ``holds(cell, enroot="<4.0", slurm=">=22.05")``."""
    return all(SpecifierSet(text).contains(version_of(cell, axis)) for axis, text in specifiers.items())


def since(cell: Cell, **minimum: str) -> bool:
    """Whether the cell has these versions or later ones: ``since(cell, pyxis="0.20")``."""
    return holds(cell, **{axis: f">={version}" for axis, version in minimum.items()})


def answer(cell: Cell, table: dict[tuple[str, str], T]) -> T:
    """Return the right answer for the cell.

    ``table`` maps an axis and a specifier to an answer, for example
    ``{("enroot", "<4.0"): "refused", ("enroot", ">=4.0"): "accepted"}``. Exactly one row has to apply, so a table with
    a hole or with rows that contradict each other is an error of the test.
    """
    rows = [row for row in table if holds(cell, **{row[0]: row[1]})]
    if len(rows) != 1:
        raise LookupError(f"{len(rows)} rows apply to {cell}: {rows or list(table)}")
    return table[rows[0]]


def not_promised(cell: Cell, what: str) -> None:
    """Skip the test on an embedded cell, naming what that runtime does not promise; no other cell is excused."""
    if cell.runtime is Runtime.EMBEDDED:
        pytest.skip(f"not promised by the embedded runtime: {what}")
