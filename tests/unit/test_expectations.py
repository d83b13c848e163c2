"""Expectations by version: exactly one answer per cell, and the embedded runtime follows the newest release."""

from dataclasses import replace

from packaging.version import Version
import pytest

from ci.matrix.cells import Cell
from tests.support.cells import EMBEDDED, REAL
from tests.support.expectations import holds, not_promised, since


def _cell(enroot: str, pyxis: str) -> Cell:
    return replace(REAL, enroot=Version(enroot), pyxis=Version(pyxis))


@pytest.mark.parametrize(
    ("pyxis", "expected"), [("0.19.0", False), ("0.20.0", True), ("0.21.0", True), ("0.9.0", False)]
)
def test_since(pyxis: str, *, expected: bool) -> None:
    assert since(_cell("3.4.1", pyxis), pyxis="0.20") is expected


def test_every_condition_has_to_hold() -> None:
    cell = _cell("3.4.1", "0.21.0")
    assert holds(cell, enroot="<4.0", pyxis=">=0.21", slurm=">=22.05")
    assert not holds(cell, enroot="<4.0", pyxis="<0.21")
    assert not since(cell, slurm="24.11", pyxis="0.21")


def test_embedded_follows_the_newest_release_of_all_but_slurm() -> None:
    assert since(EMBEDDED, pyxis="0.24", enroot="4.1.3")
    assert not since(EMBEDDED, slurm="24.11")


def test_only_embedded_is_excused() -> None:
    with pytest.raises(pytest.skip.Exception, match="not promised by the embedded runtime: importing over https"):
        not_promised(EMBEDDED, "importing over https")
    not_promised(_cell("3.4.1", "0.19.0"), "anything")
