"""The suites that have to notice a mutation."""

from ci.matrix.cells import Cell, Runtime
from ci.matrix.suites import SUITES
from tests.mutations.mutation import UNIT_TESTS

_CONTAINER_SUITES = ("pyxis_basic", "pyxis_advanced", "pyxis_conformance", "registry")


def suites_of(cell: Cell) -> dict[str, tuple[str, ...]]:
    """Return pytest's arguments by the name of the suite's session."""
    names = ("legacy_integration",) if cell.runtime is Runtime.LEGACY else _CONTAINER_SUITES
    return {**{name: SUITES[name].words() for name in names}, UNIT_TESTS: ("tests/unit",)}
