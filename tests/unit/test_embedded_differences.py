"""The table of the embedded runtime's own answers: each row names tests, and each of them has two answers."""

import ast
from pathlib import Path
import re

from packaging.version import Version
import pytest

from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from tests.support.cells import EMBEDDED
from tests.support.expectations import differences, differs, version_of

INTEGRATION = Path(__file__).parents[1] / "integration"
README = Path(__file__).parents[2] / "containers/embedded/README.md"
COMPARED_WITH = re.compile(r"real cell \(enroot (\S+) and Pyxis (\S+) under Slurm (\S+)\)")


@pytest.fixture
def rows() -> Matrix:
    return loading.load()


@pytest.fixture
def newest(rows: Matrix) -> Cell:
    """Return the real cell that the table is a comparison with; it was the newest when the table was written."""
    enroot, pyxis, slurm = COMPARED_WITH.findall(README.read_text(encoding="utf-8"))[0]
    (system,) = next(row.requires_os for row in rows.slurm if row.name == slurm)
    return rows.cell(f"slurm{slurm}-enroot{enroot}-pyxis{pyxis}-{system}-{Arch.AMD64}")


@pytest.fixture(scope="module")
def functions() -> dict[str, ast.FunctionDef]:
    """Return all tests of the suites by name."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in INTEGRATION.rglob("test_*.py")]
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in found if node.name.startswith("test_")}


def asked(node: ast.AST, function: str) -> list[ast.Call]:
    """Return the calls of a function of `expectations`."""
    calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == function]


def questions(node: ast.AST) -> set[str]:
    """Return the rows that a test asks for."""
    return {ast.literal_eval(call.args[1]) for call in asked(node, "differs")}


def waits_for_a_release(node: ast.AST, cell: Cell) -> bool:
    """Tell whether a test asks for a version that comes after a cell's."""
    wanted = [(word.arg or "", ast.literal_eval(word.value)) for call in asked(node, "since") for word in call.keywords]
    return any(Version(text) > version_of(cell, axis) for axis, text in wanted)


@pytest.mark.project_matrix
def test_the_table_says_everywhere_which_cell_it_is_a_comparison_with(newest: Cell) -> None:
    assert f"| what | enroot {newest.enroot}, Pyxis {newest.pyxis} | embedded | test |" in README.read_text(
        encoding="utf-8"
    )


@pytest.mark.project_matrix
@pytest.mark.parametrize("what", differences())
def test_a_row_names_tests_that_have_both_answers(
    rows: Matrix, newest: Cell, functions: dict[str, ast.FunctionDef], what: str
) -> None:
    tests = differences()[what]
    assert tests, f"no test: {what}"
    for name in tests:
        node = functions[name]
        known = {pattern.split("[")[0] for failure in rows.known_failures(newest) for pattern in failure.tests}
        assert what in questions(node) or name in known or waits_for_a_release(node, newest), (
            f"{name} has one answer: {what}"
        )


def test_every_question_has_its_row(functions: dict[str, ast.FunctionDef]) -> None:
    for name, node in functions.items():
        for question in questions(node):
            assert name in differences()[question], f"{name} is missing in the row: {question}"


@pytest.mark.project_matrix
def test_every_known_failure_of_the_newest_cell_has_its_row(rows: Matrix, newest: Cell) -> None:
    named = {test for tests in differences().values() for test in tests}
    for failure in rows.known_failures(newest):
        assert {pattern.split("[")[0] for pattern in failure.tests} <= named, failure


def test_no_test_looks_at_the_runtime_in_another_way() -> None:
    kept = {"expectations.py", "conftest_container_packaging.py"}
    suites = [path for path in INTEGRATION.rglob("*.py") if path.name not in kept]
    assert [path.name for path in suites if "Runtime." in path.read_text(encoding="utf-8")] == []


def test_a_question_without_a_row_is_an_error() -> None:
    assert differs(EMBEDDED, "a bad TMPDIR")
    with pytest.raises(LookupError, match="no row of the table"):
        differs(EMBEDDED, "something else")
