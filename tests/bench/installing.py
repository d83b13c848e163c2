"""Comparison of what a session's packages take."""

from collections.abc import Callable, Iterator
from pathlib import Path
import sys
import tempfile
import tomllib

from ci import paths
from ci.errors import NotRunError, PyxisMatrixError
from ci.matrix.model import Subject
from ci.python import uv, venvs
from ci.python.venvs import Packages
from ci.terminal import console
from tests.bench.measuring import Bench, Sides, comparison, timed

_GROUPS = ("run", "test")


@comparison(
    "venv",
    goal=0.15,
    ours="the virtual environment of a session of a suite, by uv, as the sessions make it",
    other="the same packages, by venv and pip; both have their downloads from a turn before",
)
def venv(bench: Bench) -> Iterator[Sides]:
    """Compare uv with pip."""
    if uv.program() is None:
        raise NotRunError("uv was not found", next_step="pip install uv")
    packages = packages_of(bench.matrix.subject, paths.REPOSITORY / "pyproject.toml")
    # Beside the results and so beside .nox: uv links files only within one file system.
    with tempfile.TemporaryDirectory(prefix="venv-", dir=bench.folder) as folder:

        def into(make: Callable[[Path], None]) -> float:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                return timed(lambda: make(Path(place)))

        sides = Sides(
            ours=lambda: into(lambda place: _by_uv(place, packages)),
            other=lambda: into(lambda place: _by_pip(place, packages, bench.folder / "pip.log")),
        )
        sides.ours()
        sides.other()
        yield sides


def packages_of(subject: Subject, project: Path) -> Packages:
    """Return what a session of a suite installs."""
    groups = tomllib.loads(project.read_text(encoding="utf-8"))["dependency-groups"]
    requirements = [requirement for group in _GROUPS for requirement in groups[group]]
    return Packages(requirements=(*requirements, subject.requirement), constraints=subject.constraints)


def _by_uv(place: Path, packages: Packages) -> None:
    venvs.shared(place, "bench", packages)


def _by_pip(place: Path, packages: Packages, log: Path) -> None:
    for name, lines in (("requirements", packages.requirements), ("constraints", packages.constraints)):
        (place / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    # With the pip that is here: a copy of it in the environment would only take longer.
    python = place / "venv"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        str(python / "bin/python"),
        "install",
    ]
    files = ["--requirement", str(place / "requirements.txt"), "--constraint", str(place / "constraints.txt")]
    for command in ([sys.executable, "-m", "venv", "--without-pip", str(python)], [*pip, *files]):
        console.call(command, log=log).check(PyxisMatrixError, "pip's side failed")
