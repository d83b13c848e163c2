"""The noxfile as text: what can't be seen in the list of its sessions (for that, see the component tests)."""

import ast
from pathlib import Path
import tomllib

from packaging.requirements import Requirement
import pytest

ROOT = Path(__file__).resolve().parents[2]
TREE = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def assigned(name: str) -> list[ast.expr]:
    """Return what is assigned to a dotted name at the top of the noxfile."""
    found = (node for node in TREE.body if isinstance(node, ast.Assign))
    return [node.value for node in found if any(ast.unparse(target) == name for target in node.targets)]


def sessions() -> list[ast.FunctionDef]:
    functions = (node for node in TREE.body if isinstance(node, ast.FunctionDef))
    return [node for node in functions if any("nox.session" in ast.unparse(it) for it in node.decorator_list)]


def calls(method: str) -> list[ast.Call]:
    return [node for node in ast.walk(TREE) if isinstance(node, ast.Call) and ast.unparse(node.func) == method]


def text(call: ast.Call) -> str:
    return ast.unparse(call)


def test_whatever_may_have_an_environment_up_is_given_the_time_to_take_it_down() -> None:
    """Unless told otherwise, nox kills a child half a second after Ctrl-C (wntrblm/nox#369)."""
    (patience,) = assigned("PATIENCE")
    assert float(ast.literal_eval(patience)) >= 30
    starting = calls("session.run")
    assert starting
    for call in starting:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("interrupt_timeout") == given.get("terminate_timeout") == "PATIENCE", text(call)


def test_a_missing_interpreter_is_no_success() -> None:
    """By default nox skips such a session and ends with 0 outside of CI (wntrblm/nox#340)."""
    (value,) = assigned("nox.options.error_on_missing_interpreters")
    assert ast.literal_eval(value) is True


def test_plain_nox_runs_only_what_needs_no_cell() -> None:
    (value,) = assigned("nox.options.sessions")
    assert ast.literal_eval(value) == ["lint", "types", "tests"]


@pytest.mark.parametrize("session", sessions(), ids=lambda node: str(node.name))
def test_a_session_has_a_line_for_the_list_and_is_either_default_or_not(session: ast.FunctionDef) -> None:
    documentation = ast.get_docstring(session)
    assert documentation
    assert documentation.splitlines()[0].endswith(".")
    chosen = ast.literal_eval(assigned("nox.options.sessions")[0])
    (decorator,) = [ast.unparse(it) for it in session.decorator_list if "nox.session" in ast.unparse(it)]
    assert ("default=False" in decorator) is (session.name not in chosen)


def test_the_noxfile_is_short() -> None:
    assert len((ROOT / "noxfile.py").read_text(encoding="utf-8").splitlines()) <= 200


def lowest(name: str) -> Requirement:
    groups = PROJECT["dependency-groups"]
    (found,) = [Requirement(line) for group in groups.values() for line in group if Requirement(line).name == name]
    return found


def test_docker_py_that_breaks_with_todays_requests_is_excluded() -> None:
    """docker/docker-py#3256: before 7.1 every connection fails under requests 2.32."""
    assert "7.0.0" not in lowest("docker").specifier
    assert "7.1.0" in lowest("docker").specifier
