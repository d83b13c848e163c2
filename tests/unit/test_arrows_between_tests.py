"""Who may import what among the tests: everybody the support, nobody a suite but itself.

import-linter holds the arrows of ``ci``; the tests are no packages (importlib mode), so it can't hold theirs.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LIMIT = 400
# The rooms whose modules may be imported, where it is not the module's own alone.
_ROOMS = {
    # The two files of the design's advanced and basic suites stand beside the suites' own folders.
    "tests.integration": ("tests.integration.advanced",),
    # The programs that break the product on purpose, and that measure it, have unit tests as all code has.
    "tests.unit": (
        *("tests.unit", "tests.attacks", "tests.bench", "tests.machine", "tests.mutations", "tests.picture"),
        "tests.soak",
    ),
    "tests.component": ("tests.component", "tests.bench", "tests.soak"),
}


def rooms() -> Iterator[tuple[str, Path]]:
    """Yield each module with its room: a folder, in ``integration`` the folder of a suite."""
    for path in sorted(TESTS.rglob("*.py")):
        parts = path.relative_to(TESTS).with_suffix("").parts
        depth = 2 if parts[0] == "integration" and len(parts) > 2 else 1
        yield ".".join(("tests", *parts[:depth])) if len(parts) > 1 else "tests", path


def imported(path: Path) -> set[str]:
    """Return the modules of the tests that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{it.name}" for it in node.names)}
        elif isinstance(node, ast.Import):
            found |= {it.name for it in node.names}
    return {name for name in found if name.startswith("tests.")}


def may_import(room: str, module: str) -> bool:
    """Tell whether a module of a room may import another module of the tests."""
    own = ("tests.support", *_ROOMS.get(room, (room,)))
    legacy = room == "tests.integration" and module.startswith("tests.integration.legacy_")
    return legacy or any(f"{module}.".startswith(f"{it}.") or it.startswith(f"{module}.") for it in own)


@pytest.mark.parametrize(
    ("room", "module", "expected"),
    [
        ("tests.unit", "tests.support.oci.layers", True),
        ("tests.unit", "tests.mutations.judging", True),
        ("tests.unit", "tests.integration.upstream.hub", False),
        ("tests.integration", "tests.mutations.judging", False),
        ("tests.bench", "tests.soak.rounds", False),
        ("tests.mutations", "tests.integration.registry.support", False),
        ("tests.component", "tests.unit.conftest", False),
        ("tests.support", "tests.integration.advanced.jobs", False),
        ("tests.integration.registry", "tests.integration.registry.support", True),
        ("tests.integration.registry", "tests.integration.conformance.support", False),
        ("tests.integration", "tests.integration.advanced.jobs", True),
        ("tests.integration", "tests.integration.registry.support", False),
    ],
)
def test_the_rule(room: str, module: str, *, expected: bool) -> None:
    assert may_import(room, module) is expected


def test_every_import_keeps_to_it() -> None:
    wrong = [
        f"{path.relative_to(TESTS)} imports {module}"
        for room, path in rooms()
        for module in sorted(imported(path))
        if not may_import(room, module)
    ]
    assert wrong == []


def test_fixtures_come_by_plugin_and_conftest() -> None:
    """Not by an import that nothing seems to use."""
    wrong = [str(path.relative_to(TESTS)) for _, path in rooms() if "# noqa: " + "F401" in path.read_text("utf-8")]
    assert wrong == []


def test_no_module_is_long() -> None:
    lengths = {str(path.relative_to(TESTS)): len(path.read_text("utf-8").splitlines()) for _, path in rooms()}
    assert {name: length for name, length in lengths.items() if length > LIMIT} == {}
