"""The table of the embedded runtime's own answers: each row names tests, and each of them has two answers."""

import ast
from pathlib import Path
import re

import pytest

from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.behaviours import catalogue
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from tests.support.asking_tests import asked_by, askers, suite_tests
from tests.support.cells import EMBEDDED
from tests.support.expectations import differences, differs

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


@pytest.fixture
def otherwise(rows: Matrix, newest: Cell) -> set[str]:
    """Return the behaviours that the embedded runtime answers otherwise than that cell, under the same Slurm."""
    embedded = rows.cell(f"slurm{newest.slurm.version}-embedded-{newest.os.name}-{newest.arch}")
    return {it.id for it in catalogue().values() if it.answer_on(newest) is not it.answer_on(embedded)}


def asked(node: ast.AST, function: str) -> list[ast.Call]:
    """Return the calls of a function of `expectations`."""
    calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == function]


def questions(node: ast.AST) -> set[str]:
    """Return the rows that a test asks for."""
    return {ast.literal_eval(call.args[1]) for call in asked(node, "differs")}


@pytest.mark.project_matrix
def test_the_table_says_everywhere_which_cell_it_is_a_comparison_with(newest: Cell) -> None:
    assert f"| what | enroot {newest.enroot}, Pyxis {newest.pyxis} | embedded | test |" in README.read_text(
        encoding="utf-8"
    )


@pytest.mark.project_matrix
@pytest.mark.parametrize("what", differences())
def test_a_row_names_tests_that_have_both_answers(rows: Matrix, newest: Cell, otherwise: set[str], what: str) -> None:
    tests = differences()[what]
    assert tests, f"no test: {what}"
    for name in tests:
        node = suite_tests()[name]
        known = {pattern.split("[")[0] for failure in rows.known_failures(newest) for pattern in failure.tests}
        differs_here = what in questions(node) or otherwise & asked_by(node) or name in known
        assert differs_here, f"{name} has one answer: {what}"


def test_every_question_has_its_row() -> None:
    for name, node in suite_tests().items():
        for question in questions(node):
            assert name in differences()[question], f"{name} is missing in the row: {question}"


@pytest.mark.project_matrix
def test_every_behaviour_that_is_answered_otherwise_has_its_row(otherwise: set[str]) -> None:
    named = {test for tests in differences().values() for test in tests}
    asking = {it.name for behaviour in otherwise for it in askers(behaviour)}
    assert asking - named == set()


def test_no_test_looks_at_the_runtime_in_another_way() -> None:
    kept = {"expectations.py", "conftest_container_packaging.py"}
    suites = [path for path in INTEGRATION.rglob("*.py") if path.name not in kept]
    assert [path.name for path in suites if "Runtime." in path.read_text(encoding="utf-8")] == []


def test_a_question_without_a_row_is_an_error() -> None:
    assert differs(EMBEDDED, "a bad TMPDIR")
    with pytest.raises(LookupError, match="no row of the table"):
        differs(EMBEDDED, "something else")
