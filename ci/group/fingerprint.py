"""The fingerprint of a suite on a cell: a hash of everything that can change its outcome.

The suite may run minutes or hours later, and files may be edited meanwhile. So there is also a `stamp` of the files,
taken before the fingerprint and again when the cell has ended: a result gets its fingerprint only if both are equal.

Left out is what can't change an outcome: where results go, how many cells run at the same time, where a release file
came from (its content is in an image). In doubt an ingredient is in the hash, because a run too many is cheaper than a
wrong answer.
"""

from collections.abc import Iterable, Mapping
import hashlib
from importlib import metadata
import os
from pathlib import Path
import platform
import sysconfig

from ci import paths
from ci.artefacts.pins import pins_in
from ci.engine.connection import Engine
from ci.environment.plan import EnvironmentPlan
from ci.fleet.parts import (
    CONFIGURATION,
    IMAGES,
    PROGRAM,
    Files,
    expanded,
    files_of,
    pinned_by,
    program_files,
    rows_of,
    suite_files,
)
from ci.group.planning import hash_of
from ci.images.building import Builder
from ci.images.subject_checkout import state_of
from ci.matrix.model import Matrix
from ci.matrix.suites import Suite
from ci.options import Scope

_OF_PYTEST_ITSELF = ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_", "PYTEST_VERSION")

Ingredients = Mapping[str, str]
"""Hashes, by the name of the ingredient."""


def fingerprint(ingredients: Ingredients) -> str:
    """Return the one hash of all ingredients."""
    return hash_of(dict(ingredients))


def shared_ingredients(engine: Engine) -> Ingredients:
    """Return the ingredients that are the same for all cells and suites of a run."""
    installed = sorted(f"{package.name}=={package.version}" for package in metadata.distributions())
    # Kernel and engine decide what a node may do: namespaces, cgroups, overlayfs.
    machine = (platform.machine(), platform.release(), engine.found.kind, engine.found.version)
    return {
        PROGRAM: hash_of_files(program_files()),
        # The packages that pytest runs with, including the subject: their versions and the content of their files.
        "packages": hash_of([platform.python_version(), *installed, hash_of_files(_installed(), _site())]),
        "machine": hash_of(machine),
        # The variables that Python, pytest and Slurm's tools read on this machine.
        "environment": hash_of(sorted(f"{name}={value}" for name, value in os.environ.items() if _is_read(name))),
    }


def ingredients(
    plan: EnvironmentPlan, suite: Suite, words: Iterable[str], *, matrix: Matrix, images: str, shared: Ingredients
) -> Ingredients:
    """Return the hashes of everything that can change the outcome of a suite.

    :param words: more arguments for pytest.
    :param images: see `images_of`.
    :param shared: see `shared_ingredients`.
    """
    options, checkout = plan.options, plan.options.subject
    pins = pins_in(paths.PINS_FILE.read_text(encoding="utf-8"))
    files = {name: hash_of_files(parts) for name, parts in _own_files(plan, suite).items()}
    rows = {name: hash_of(value) for name, value in rows_of(plan.cell, matrix, options).items()}
    return {
        **shared,
        **files,
        **rows,
        IMAGES: images,
        "pins": hash_of({name: pins.get(name, "") for name in pinned_by(plan)}),
        # Nodes use a checkout in place, so the images' hashes do not cover its files.
        "subject": hash_of([plan.subject, rows["subject"], state_of(checkout) if checkout else ""]),
        "options": hash_of([*options.words(Scope.CLUSTER), str(options.accounting), str(suite.workers), *words]),
    }


def shared_stamp() -> Ingredients:
    """Return the part of a stamp that is the same for all cells and suites."""
    # A file may have been added since the last call.
    suite_files.cache_clear()
    return {
        "known failures": _stamp_of(filter(None, [paths.MATRIX_FILE, paths.own_matrix_file()])),
        "pins": _stamp_of([paths.PINS_FILE]),
        PROGRAM: _stamp_of(expanded(program_files())),
        # By the mtime: uv's cache and the other environments made from it have the same files as hard links, and each
        # new link changes a file's ctime.
        "packages": _stamp_of(_installed(), "st_mtime_ns"),
    }


def stamp(plan: EnvironmentPlan, suite: Suite, shared: Ingredients) -> Ingredients:
    """Return hashes that change when a file of the ingredients is written, even with the same content as before."""
    checkout = plan.options.subject
    return {
        **shared,
        **{name: _stamp_of(expanded(parts)) for name, parts in _own_files(plan, suite).items()},
        "subject": state_of(checkout) if checkout else "",
    }


def images_of(plan: EnvironmentPlan, builder: Builder) -> str:
    """Return the hash of a cell's images: their tags, which are made from their content, and the engine's ids."""
    # They exist, so nothing is built. With the ids, because after an update of Debian the same inputs give others.
    built = [builder.ensure(image) for image in plan.images.all()]
    return hash_of([[image.tag, image.identity] for image in built])


def _own_files(plan: EnvironmentPlan, suite: Suite) -> dict[str, Files]:
    """Return the files of each suite; those of the images are in the images' tags."""
    return {"suite files": suite_files(suite), CONFIGURATION: files_of(plan)[CONFIGURATION]}


def _is_read(name: str) -> bool:
    """Tell whether a variable can change an outcome; pytest sets some for its own child processes, which can't."""
    return name.startswith(("PYTHON", "PYTEST_", "SLURM", "ENROOT_")) and not name.startswith(_OF_PYTEST_ITSELF)


# -- files ----------------------------------------------------------------------------------------------------------


def hash_of_files(parts: Iterable[Path], root: Path | None = None) -> str:
    """Return the hash of files and folders: the files' content, and their names below ``root`` (the repository)."""
    top = root or paths.REPOSITORY
    lines = [
        f"{os.path.relpath(file, top)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in expanded(parts)
    ]
    return hash_of(lines)


def _stamp_of(files: Iterable[Path], moment: str = "st_ctime_ns") -> str:
    """Return a hash that changes when one of the files is written, replaced or renamed."""
    lines = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            lines.append(f"{file} is not there")
        else:
            # Inode and ctime by default: an editor, git or `touch` can set the mtime back, but not these.
            lines.append(f"{file} {status.st_ino} {status.st_size} {getattr(status, moment)}")
    return hash_of(lines)


def _site() -> Path:
    return Path(sysconfig.get_paths()["purelib"])


def _installed() -> list[Path]:
    return expanded([_site()])
