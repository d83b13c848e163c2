"""What a command needs of packages: groups of pyproject.toml; for tests the subject and what the command line adds.

The noxfile makes the environments of its sessions with it, and an installed program, which has no nox, that of tests.
"""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
import sys
import tomllib

from ci import paths
from ci.matrix.model import Subject
from ci.options.inputs import check_project
from ci.python import venvs

SUITES_NEED = ("run", "test")
"""The groups of what runs suites."""
RUN_SUITES = ("suite", "matrix", "bisect", "compare", "site")
"""The commands that run tests, `compare` only with ``--run``: they need pytest and the subject."""


def requirements(*groups: str) -> tuple[str, ...]:
    """Return what the groups of pyproject.toml name; that called ``run`` is what the project itself depends on."""
    with (paths.REPOSITORY / "pyproject.toml").open("rb") as file:
        content = tomllib.load(file)
    known = {"run": content["project"]["dependencies"], **content["dependency-groups"]}
    return tuple(line for group in groups for line in known[group])


def environment(
    folder: Path, groups: Sequence[str], subject: Subject, *, named: Sequence[str] = (), python: str = sys.executable
) -> Path:
    """Return the virtual environment in a folder that has these groups; with those of tests, the subject is in it, too.

    :param named: words among which ``--subject`` and ``--with`` say what is installed; the tool reads all others.
    :raises PyxisMatrixError: where it can't be made, ``SubjectError`` for a checkout that is not a project.
    """
    # Two options only: the tool reads the others itself, and says what is wrong with them.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--subject", type=lambda text: Path(text).expanduser().absolute())
    parser.add_argument("--with", dest="beside", action="append", default=[])
    # Filled as far as the words can be read, even where the parser gives up.
    found = argparse.Namespace(subject=None, beside=[])
    tests = "test" in groups
    if tests:
        with suppress(argparse.ArgumentError):  # the tool itself says what is wrong
            parser.parse_known_args(list(named), found)
    if found.subject:
        check_project(found.subject)
    release = [subject.requirement] if tests and not found.subject else []
    packages = venvs.Packages(
        requirements=(*requirements(*groups), *release, *found.beside),
        constraints=subject.constraints if tests else (),
        checkout=found.subject,
        python=python,
    )
    return venvs.shared(folder, "-".join(groups), packages)
