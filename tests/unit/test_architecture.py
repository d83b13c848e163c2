"""Arrows go one way: noxfile to the lower tier of ci, tests to ci, and ci to neither nox, pytest nor tests."""

import ast
from collections.abc import Iterator
import os
from pathlib import Path
import socket
import subprocess
import sys
import urllib.request

import pytest

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "ci"
MODULES = {path.stem: path for path in sorted(CI.glob("*.py"))}

LOWER = ("errors", "arch", "matrix", "cells", "plan", "sources", "paths", "host")
"""Of the lower tier by design; so is all that these and the noxfile import."""
UPPER = (
    *("console", "engine", "images", "registry", "cluster", "ssh", "wait"),
    *("subject", "environment", "results", "report", "__main__"),
)
LOWER_MAY_USE = sys.stdlib_module_names | {"packaging"}
PRINTERS = ("console",)


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of all that is imported at run time, also inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def imported_by(module: str) -> set[str]:
    return set(imports(ast.parse(MODULES[module].read_text(encoding="utf-8"))))


def imported_by_noxfile() -> set[str]:
    return set(imports(ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))))


def siblings(names: set[str]) -> set[str]:
    """Return the modules of ci among imported names: ``ci.arch.Arch`` and ``ci.arch`` are both ``arch``."""
    return {part for name in names if name.startswith("ci.") for part in [name.split(".")[1]] if part in MODULES}


def lower_tier() -> set[str]:
    tier: set[str] = set()
    waiting = {module for module in LOWER if module in MODULES} | siblings(imported_by_noxfile())
    while waiting:
        tier |= waiting
        waiting = {name for module in waiting for name in siblings(imported_by(module))} - tier
    return tier


@pytest.mark.parametrize("module", sorted(lower_tier()))
def test_the_lower_tier_needs_only_the_standard_library_and_packaging(module: str) -> None:
    roots = {name.split(".")[0] for name in imported_by(module)} - {"ci"}
    assert roots <= LOWER_MAY_USE


def test_the_lower_tier_does_not_reach_up() -> None:
    assert lower_tier().isdisjoint(UPPER)
    assert lower_tier() >= {"errors", "arch", "matrix", "cells"}


def test_errors_import_nothing() -> None:
    assert imported_by("errors") == set()


@pytest.mark.parametrize("module", MODULES)
def test_ci_knows_neither_nox_nor_pytest_nor_the_tests(module: str) -> None:
    roots = {name.split(".")[0] for name in imported_by(module)}
    assert roots.isdisjoint({"nox", "pytest", "_pytest", "tests", "conftest", "noxfile"})


@pytest.mark.parametrize("module", [module for module in MODULES if module not in PRINTERS])
def test_only_the_console_prints(module: str) -> None:
    calls = [node for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))) if is_print(node)]
    assert [ast.unparse(call) for call in calls] == []


def is_print(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def test_the_noxfile_needs_nothing_that_noxs_environment_lacks() -> None:
    assert {name.split(".")[0] for name in imported_by_noxfile()} <= LOWER_MAY_USE | {"ci", "nox"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import docker", {"docker"}),
        ("from ci.arch import Arch", {"ci.arch.Arch"}),
        ("def f():\n    from rich import print", {"rich.print"}),
        ("try:\n    import rich\nexcept ImportError:\n    pass", {"rich"}),
        ("if TYPE_CHECKING:\n    import docker", set()),
    ],
)
def test_the_rule_sees_every_kind_of_import(source: str, found: set[str]) -> None:
    assert set(imports(ast.parse(source))) == found


def start_a_program() -> None:
    subprocess.run(["true"], check=True)


def open_an_address() -> None:
    urllib.request.urlopen("http://127.0.0.1:9/", timeout=1)


def open_a_socket() -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


def reach_docker() -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("/var/run/docker.sock")


def run_a_shell() -> None:
    os.system("true")  # noqa: S605 (it is what must be refused)


@pytest.mark.parametrize("act", [start_a_program, open_an_address, open_a_socket, reach_docker, run_a_shell])
def test_the_guard_refuses(act: object) -> None:
    assert callable(act)
    with pytest.raises(pytest.fail.Exception, match="a unit test may not use"):
        act()


def test_a_double_may_stand_where_the_guard_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 7))
    assert subprocess.run(["true"], check=False).returncode == 7
