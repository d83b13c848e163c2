"""Which tests of the suites ask which behaviours, by their source code."""

import ast
from collections.abc import Mapping
from functools import cache

from ci import paths
from ci.matrix.behaviours import catalogue
from ci.matrix.suites import FOLDER


@cache
def every_test() -> tuple[ast.FunctionDef, ...]:
    """Return the tests of all suites; two suites may have tests of one name."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (paths.REPOSITORY / FOLDER).rglob("*.py")]
    found = (node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef))
    return tuple(node for node in found if node.name.startswith("test_"))


def suite_tests() -> Mapping[str, ast.FunctionDef]:
    """Return the tests of all suites by name."""
    return {it.name: it for it in every_test()}


def asked_by(test: ast.FunctionDef) -> set[str]:
    """Return the behaviours that the marks of a test name: also those of its parameters, and those of each subject."""
    calls = [it for mark in test.decorator_list for it in ast.walk(mark) if isinstance(it, ast.Call)]
    marks = [it for it in calls if isinstance(it.func, ast.Attribute) and it.func.attr == "behaviour"]
    named = {str(word.value) for mark in marks for word in mark.args if isinstance(word, ast.Constant)}
    of_subjects = {
        it.topic: {each.id for each in catalogue().values() if each.topic == it.topic}
        for it in catalogue().values()
        if it.topic in named
    }
    return set().union(*(of_subjects.get(name, {name}) for name in named))


def askers(name: str) -> list[ast.FunctionDef]:
    """Return the tests that ask a behaviour."""
    return [test for test in every_test() if name in asked_by(test)]
