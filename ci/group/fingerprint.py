"""The fingerprint of a suite on a cell: a hash of all that decides what it comes to.

Minutes or hours lie between it and the suite, and files may be edited meanwhile. So there is a `stamp` of them, too,
taken before the fingerprint and again when the cell has ended: a result has its fingerprint if nothing was touched.

What is left out decides nothing: where results go, how many cells are up at a time, where a release file came from (its
content is in an image). In doubt something is in it, for to run once more is cheaper than an answer that is not true.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
import functools
import hashlib
from importlib import metadata
import os
from pathlib import Path
import platform
import sysconfig

from ci import paths
from ci.engine.connection import Engine
from ci.environment.configuration import templates_of
from ci.environment.plan import EnvironmentPlan
from ci.group.planning import hash_of
from ci.images.building import Builder
from ci.images.subject_checkout import state_of
from ci.matrix.model import Matrix
from ci.matrix.suites import Suite
from ci.options import Scope
from ci.record.reportlog import PLUGINS

_OF_PYTEST_ITSELF = ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_", "PYTEST_VERSION")

Ingredients = Mapping[str, str]
"""Hashes by the name of what they are of."""


def fingerprint(ingredients: Ingredients) -> str:
    """Return the one hash of all ingredients."""
    return hash_of(dict(ingredients))


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What is the same for all cells and suites of a run."""

    program: str
    """This program's own code."""
    pins: str
    packages: str
    """The packages that pytest runs with, the subject's among them: also what is in their files."""
    machine: str
    """Kernel, engine, architecture."""
    environment: str
    """The variables that Python, pytest and Slurm's tools read on this machine."""

    @classmethod
    def of(cls, engine: Engine) -> "Shared":
        """Return that of this machine."""
        installed = sorted(f"{it.name}=={it.version}" for it in metadata.distributions())
        read = sorted(f"{name}={value}" for name, value in os.environ.items() if _is_read(name))
        machine = (platform.machine(), platform.release(), engine.found.kind, engine.found.version)
        return cls(
            program=hash_of_files(files_below(paths.REPOSITORY / "ci")),
            pins=hash_of_files([paths.PINS_FILE]),
            packages=hash_of([platform.python_version(), *installed, hash_of_files(_installed(), _site())]),
            machine=hash_of(machine),
            environment=hash_of(read),
        )


def ingredients(
    plan: EnvironmentPlan, suite: Suite, words: Iterable[str], *, matrix: Matrix, images: str, shared: Shared
) -> Ingredients:
    """Return what decides what a suite comes to.

    :param words: more arguments for pytest.
    :param images: see `images_of`.
    """
    options = plan.options
    return {
        "images": images,
        "suite files": hash_of_files(suite_files(suite)),
        "configuration": hash_of_files(_templates(plan)),
        "subject": _subject(plan, matrix),
        "known failures": _known_failures(plan, matrix),
        "options": hash_of([*options.words(Scope.CLUSTER), str(options.accounting), str(suite.workers), *words]),
        "pins": shared.pins,
        "program": shared.program,
        "packages": shared.packages,
        "machine": shared.machine,
        "environment": shared.environment,
    }


def shared_stamp() -> Ingredients:
    """Return the part of a stamp that is the same for all cells and suites."""
    suite_files.cache_clear()
    return {
        "known failures": _stamp_of([paths.MATRIX_FILE]),
        "pins": _stamp_of([paths.PINS_FILE]),
        "program": _stamp_of(files_below(paths.REPOSITORY / "ci")),
        # Another environment made of uv's cache has the same files, as hard links, and a link changes a file's ctime.
        "packages": _stamp_of(_installed(), "st_mtime_ns"),
    }


def stamp(plan: EnvironmentPlan, suite: Suite, shared: Ingredients) -> Ingredients:
    """Return what tells whether a file that decides was touched since, though its content may be the same again."""
    checkout = plan.options.subject
    return {
        **shared,
        "suite files": _stamp_of(suite_files(suite)),
        "configuration": _stamp_of(_templates(plan)),
        "subject": state_of(checkout) if checkout else "",
    }


def images_of(plan: EnvironmentPlan, builder: Builder) -> str:
    """Return the hash of a cell's images: what they were made from, and what came of it."""
    built = [builder.ensure(image) for image in plan.images.all()]
    return hash_of([[it.tag, it.identity] for it in built])


def _subject(plan: EnvironmentPlan, matrix: Matrix) -> str:
    checkout = plan.options.subject
    # Nodes use a checkout in place, so no image tells all of it.
    return hash_of([plan.subject, *matrix.subject.constraints, state_of(checkout) if checkout else ""])


def _known_failures(plan: EnvironmentPlan, matrix: Matrix) -> str:
    """Return the hash of the known failures of the cell.

    Of those of other cells the words count, too: a test that passes and says them turns red (tests/support).
    """
    here = matrix.known_failures(plan.cell)
    own = [[*it.tests, it.says, it.reason, it.issue or ""] for it in here]
    return hash_of([own, [[*it.tests, it.says] for it in matrix.failures]])


def _is_read(name: str) -> bool:
    """Tell whether a variable is read by what runs the tests; those that pytest sets for its own children are not."""
    return name.startswith(("PYTHON", "PYTEST_", "SLURM", "ENROOT_")) and not name.startswith(_OF_PYTEST_ITSELF)


# -- files ----------------------------------------------------------------------------------------------------------


def files_below(folder: Path) -> list[Path]:
    """Return the files of a folder, without what Python leaves there."""
    return sorted(it for it in folder.rglob("*") if it.is_file() and "__pycache__" not in it.parts)


def hash_of_files(files: Iterable[Path], root: Path | None = None) -> str:
    """Return the hash of files: their content, and their names below ``root`` (the repository)."""
    top = root or paths.REPOSITORY
    lines = [
        f"{file.relative_to(top).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}"
        for file in sorted(set(files))
    ]
    return hash_of(lines)


def _stamp_of(files: Iterable[Path], moment: str = "st_ctime_ns") -> str:
    """Return what changes when one of the files is written, replaced or renamed."""
    lines = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            lines.append(f"{file} is not there")
        else:
            lines.append(f"{file} {status.st_ino} {status.st_size} {getattr(status, moment)}")
    return hash_of(lines)


def _templates(plan: EnvironmentPlan) -> list[Path]:
    """Return the files from which a cell's configuration is made when it is launched; no image has them."""
    return [file for folder in templates_of(plan.cell) for file in files_below(paths.CONTAINERS / folder)]


def _site() -> Path:
    return Path(sysconfig.get_paths()["purelib"])


def _installed() -> list[Path]:
    return files_below(_site())


@functools.cache
def suite_files(suite: Suite, root: Path = paths.REPOSITORY) -> tuple[Path, ...]:
    """Return the files that a suite runs: its own, pytest's settings, and of the other tests what they import."""
    own = [file for path in suite.paths() for file in (files_below(path) if path.is_dir() else [path])]
    data = [file for file in files_below(root / "tests" / "support") if file.suffix != ".py"]
    data.append(
        root / "containers" / "embedded" / "README.md"
    )  # its table says which answers are the embedded runtime's
    plugins = [file for word in suite.plugins for file in _module(word, root)]
    plugins += files_below(root / PLUGINS)
    waiting = [*own, *data, *plugins, root / "pyproject.toml"]
    found: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        # pytest loads these by itself.
        waiting += [
            it for it in (folder / "conftest.py" for folder in file.parents) if it.is_file() and root in it.parents
        ]
        if file.suffix == ".py":
            waiting += [it for name in _names(file, root) for it in _module(name, root)]
    return tuple(sorted(found))


def _names(file: Path, root: Path) -> Iterator[str]:
    """Yield the names of modules of the tests that a file imports, or that a text in it names (``pytest_plugins``)."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # somebody is at it; pytest says what is wrong
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (it.name for it in node.names)
            case ast.ImportFrom():
                here = file.parent.relative_to(root).parts
                base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
                module = ".".join(filter(None, (base, node.module)))
                yield module
                yield from (f"{module}.{it.name}" for it in node.names)
            case ast.Constant(value=str(text)) if text.startswith("tests."):
                yield text


def _module(name: str, root: Path) -> list[Path]:
    """Return the file of a module of the tests; none if the name is not that of one."""
    parts = name.split(".")
    if parts[0] != "tests" or not all(part.isidentifier() for part in parts):
        return []
    path = root.joinpath(*parts)
    return [it for it in (path.with_suffix(".py"), path / "__init__.py") if it.is_file()]
