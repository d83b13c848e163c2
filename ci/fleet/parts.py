"""What a suite on a cell is made of, as far as this repository says it: files, what matrix.toml says, and pins.

Their hash is a part of the fingerprint of a result (`ci.group.fingerprint`); what of them is not as it was at an
earlier revision is what a change affects (`ci.fleet.affected`). In doubt something is in here: to run once more is
cheaper than an answer that is not true.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import replace
import functools
import os
from pathlib import Path
import re

from ci import paths
from ci.environment.configuration import templates_of
from ci.environment.plan import EnvironmentPlan
from ci.images.content import SHARED
from ci.matrix import behaviours
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.matrix.suites import FILE, FOLDER, Suite
from ci.options import Options
from ci.record.reportlog import PLUGINS

IMAGES, CONFIGURATION, PROGRAM = "images", "configuration", "program"
_A_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+")


Files = frozenset[Path]
"""Files and folders; a folder stands for all that is below it."""


def files_of(plan: EnvironmentPlan) -> dict[str, Files]:
    """Return the files that all suites on a cell are made of, by what they go into; `suite_files` has the others."""
    family = [member for image in plan.images.all() for member in image.family()]
    folders = {SHARED} | {folder for member in family for folder in (member.folder, *member.beside)}
    profile = {plan.profile.folder, *paths.PROFILES.glob("*.*")} if plan.profile else set()
    return {
        IMAGES: frozenset(
            {paths.CONTAINERS / folder for folder in folders} | {paths.FAMILIES / f"{plan.cell.os.family.name}.toml"}
        ),
        # What is rendered when the cell is launched; no image has it.
        CONFIGURATION: frozenset({paths.CONTAINERS / folder for folder in templates_of(plan.cell)} | profile),
        PROGRAM: program_files(),
    }


def program_files() -> Files:
    """Return this program's own code."""
    return frozenset({paths.REPOSITORY / "ci"})


def rows_of(cell: Cell, matrix: Matrix, options: Options) -> dict[str, object]:
    """Return what matrix.toml says that decides what a cell's suites come to, by its name."""
    return {
        "rows": replace(cell, slurm=replace(cell.slurm, supported_until=None)),  # only reports say how long
        "known failures": [
            [failure.tests, failure.says, failure.reason, failure.issue] for failure in matrix.known_failures(cell)
        ],
        # Also those of other cells: a test that passes and says them turns red (tests/support).
        "words of known failures": [[failure.tests, failure.says] for failure in matrix.failures],
        "subject": matrix.subject,
        "number of nodes": options.nodes or matrix.defaults.nodes,
        "suites' environment": matrix.suite_environment,
    }


def pinned_by(plan: EnvironmentPlan) -> frozenset[str]:
    """Return the names whose entries in pins.toml vouch for what a cell is made of: release files, pulled images."""
    pulled = {member.pulled_as for image in plan.images.all() for member in image.family()} - {""}
    return frozenset(pulled | {artefact.path for artefact in plan.images.artefacts})


def expanded(parts: Iterable[Path]) -> list[Path]:
    """Return the files, and those below the folders, without what Python leaves there."""
    found: set[str] = set()  # as text: an environment has ten thousand files, and `rglob` takes longer
    for part in parts:
        if not part.is_dir():
            found.add(str(part))
        for folder, below, names in os.walk(part):
            # In place, because os.walk goes into what is left in this very list.
            below[:] = [name for name in below if name != "__pycache__"]
            found.update(f"{folder}/{name}" for name in names)
    return [file for file in map(Path, sorted(found)) if file.is_file()]


def belongs(name: str, files: Files) -> bool:
    """Tell whether a file of the repository is one of these, or below one, be it removed."""
    file = paths.REPOSITORY / name
    return not files.isdisjoint((file, *file.parents))


@functools.cache
def suite_files(suite: Suite, root: Path = paths.REPOSITORY) -> Files:
    """Return what a suite runs: its own files and folders, pytest's settings, and what of others its tests name."""
    own = [*suite.paths(), *(root / FOLDER / suite.folder / name for name in (FILE, behaviours.FILE))]
    # No import names them, and which test reads which is not known: each counts for all suites.
    data = [file for file in expanded([root / "tests" / "support"]) if file.suffix != ".py"]
    plugins = [file for word in suite.plugins for file in _named(word, root)]
    waiting = [*expanded(own), *data, *plugins, *expanded([root / PLUGINS]), root / "pyproject.toml"]
    found: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        # pytest loads these by itself.
        waiting += [
            conftest
            for conftest in (folder / "conftest.py" for folder in file.parents)
            if conftest.is_file() and root in conftest.parents
        ]
        # Modules of `ci` are not followed: all of them count already, as the program.
        if file.suffix == ".py" and root / "ci" not in file.parents:
            waiting += [named for name in _names(file, root) for named in _named(name, root)]
    return frozenset({*own, *found})


def _names(file: Path, root: Path) -> Iterator[str]:
    """Yield the modules that a file imports, and what it has in texts: modules (``pytest_plugins``), paths of files."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # somebody is at it; pytest says what is wrong
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                here = file.parent.relative_to(root).parts
                # `from ..support import x`: of the folder's own parts as many as the dots leave (one dot: all).
                base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
                module = ".".join(filter(None, (base, node.module)))
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.Constant(value=str(text)) if text.startswith("tests.") or _A_PATH.fullmatch(text):
                yield text


def _named(name: str, root: Path) -> list[Path]:
    """Return the file of the tests' module, or of the repository, that has a name; none if nothing has it."""
    if "/" in name:
        return [root / name] if (root / name).is_file() else []
    parts = name.split(".")
    if parts[0] != "tests" or not all(part.isidentifier() for part in parts):
        return []
    path = root.joinpath(*parts)
    return [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
