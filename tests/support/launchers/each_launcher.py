"""The launchers that the suite `launchers` asks: each is a file in its folder ``adapters``, named after it."""

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from ci import paths
from ci.matrix.suites import FOLDER

ADAPTERS: Mapping[str, Path] = {
    it.stem.replace("_", "-"): it for it in sorted((paths.REPOSITORY / FOLDER / "launchers/adapters").glob("*.py"))
}


def behaviour(topic: str) -> pytest.MarkDecorator:
    """Have a test ask a question of each launcher, by its fixture ``launcher``."""
    ids = {name: f"{topic}-{name}" for name in ADAPTERS}
    each = [pytest.param(name, marks=pytest.mark.behaviour(ids[name]), id=name) for name in ADAPTERS]
    return pytest.mark.parametrize("launcher", each, indirect=True)


def requirements(adapter: Path) -> tuple[str, ...]:
    """Return what an adapter's launcher is installed from; it can't be imported where that is not."""
    for line in ast.parse(adapter.read_text(encoding="utf-8")).body:
        match line:
            case (
                ast.Assign(targets=[ast.Name(id="REQUIRES")], value=value)
                | ast.AnnAssign(target=ast.Name(id="REQUIRES"), value=ast.expr() as value)
            ):
                return tuple(map(str, ast.literal_eval(value)))
    raise LookupError(f"{adapter.name} has no REQUIRES")
