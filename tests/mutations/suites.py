"""The suites that have to notice a mutation."""

from ci.matrix.cells import Cell
from ci.matrix.suites import SUITES
from tests.mutations.mutation import UNIT_TESTS


def suites_of(cell: Cell) -> dict[str, tuple[str, ...]]:
    """Return pytest's arguments by the name of the suite's session."""
    its = [it for it in SUITES.values() if it.default and cell.runtime in it.runtimes]
    return {**{it.name: it.words() for it in its}, UNIT_TESTS: ("tests/unit",)}
