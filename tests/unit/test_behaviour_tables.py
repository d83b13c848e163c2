"""The table of behaviours in a suite's README is the one that is made from its catalogue.

After a change of a catalogue, ``python -m tests.unit.test_behaviour_tables --update`` writes the tables anew.
"""

import ast
from pathlib import Path
import sys

import pytest

from ci import paths
from ci.matrix.behaviours import catalogue
from ci.matrix.suites import FOLDER, SUITES
from tests.support.asking_tests import asked_by, askers
from tests.support.behaviour_tables import HEADING, table_of

UPDATE = "python -m tests.unit.test_behaviour_tables --update"
READMES = {
    it.suite: path
    for it in catalogue().values()
    if (path := paths.REPOSITORY / FOLDER / SUITES[it.suite].folder / "README.md").is_file()
}


def changed(text: str, table: list[str]) -> str:
    """Return a README with this table in place of the one that it has; one that has none stays as it is."""
    before, heading, rest = text.partition(f"\n{HEADING}\n")
    if not heading:
        return text
    after = rest.splitlines(keepends=True)
    while after and after[0].startswith("|"):
        del after[0]
    return "".join([before, "\n", *(f"{line}\n" for line in table), *after])


@pytest.mark.parametrize("suite", READMES)
def test_the_table_of_a_readme_is_the_catalogues(suite: str) -> None:
    text, table = READMES[suite].read_text(encoding="utf-8"), table_of(suite)
    lines = "\n".join(table)
    if f"\n{lines}\n" not in text:
        pytest.fail(f"{READMES[suite]} has another table, or none; {UPDATE}, or paste:\n{lines}", pytrace=False)


def test_every_row_names_a_test() -> None:
    assert [it for it in catalogue() if not askers(it)] == []


def test_a_table_takes_the_place_of_the_one_that_is_there() -> None:
    text = f"before\n\n{HEADING}\n|---|---|---|\n| old | row | x |\n\nafter\n"
    assert changed(text, [HEADING, "| new |"]) == f"before\n\n{HEADING}\n| new |\n\nafter\n"
    assert changed("no table", ["| new |"]) == "no table"


def test_a_parameter_may_have_a_behaviour_of_its_own() -> None:
    code = """
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.behaviour("second")), 2])
@pytest.mark.behaviour("first")
def test_x(): pass
"""
    (test,) = ast.parse(code).body
    assert isinstance(test, ast.FunctionDef)
    assert asked_by(test) == {"first", "second"}


def main(arguments: list[str]) -> None:
    """Write the tables anew."""
    if arguments != ["--update"]:
        raise SystemExit(f"usage: {UPDATE}")
    for suite, path in READMES.items():
        Path(path).write_text(changed(path.read_text(encoding="utf-8"), table_of(suite)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
