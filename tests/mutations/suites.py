"""The suites that have to notice a mutation, as their sessions run them (a unit test compares with the noxfile)."""

from ci.matrix.cells import Cell, Runtime
from ci.paths import REPOSITORY

_FOLDER = REPOSITORY / "tests/integration"
_PLUGIN = ("-p", "tests.integration.conftest_container_packaging")
_FILES = {
    "pyxis_basic": ("test_container_packaging_basic.py", "conftest_container_packaging.py"),
    "pyxis_conformance": ("conformance",),
    "registry": ("registry",),
}


def suites_of(cell: Cell) -> dict[str, tuple[str, ...]]:
    """Return pytest's arguments by the name of the suite's session."""
    if cell.runtime is Runtime.LEGACY:
        files = sorted(path.name for path in _FOLDER.glob("test_legacy_*.py"))
        return {"legacy_integration": tuple(f"tests/integration/{name}" for name in files)}
    return {suite: (*_PLUGIN, *(f"tests/integration/{name}" for name in names)) for suite, names in _FILES.items()}
