"""The paths of files and folders: in the repository, in the user's cache, and per run.

The noxfile imports this module, in nox' own environment.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
import os
from pathlib import Path
import secrets
import sys
import tempfile
import tomllib
from typing import IO

import platformdirs

from ci.errors import INSTALLED, DiskFullError, PyxisMatrixError, ResultsError, disk_is_full

REPOSITORY = Path(__file__).resolve().parent.parent
CONTAINERS = REPOSITORY / "containers"
MATRIX_FILE = REPOSITORY / "matrix.toml"
PINS_FILE = CONTAINERS / "pins.toml"
FAMILIES = CONTAINERS / "families"
"""The families of operating systems."""
PROFILES = CONTAINERS / "profiles"
"""The profiles that come with this project, a folder each."""

REPORT_FOLDER = "report"
"""Within the folder of results: where a report goes unless another place is named."""
BISECTIONS_FOLDER = "bisect"
"""Within the folder of results: where bisections write theirs."""
BESIDE_RUNS = frozenset({REPORT_FOLDER, BISECTIONS_FOLDER})
"""Names beside the folders of runs; no run may have one of them."""
ENVIRONMENT_FOLDER = "environment"
"""Within a cell's folder: the logs of the cluster that its suites share."""
UP_FOLDER = "up"
"""Within a cell's folder: why ``up`` could not start a cluster."""
OUTPUT_FILE = "output.log"
"""Within a cell's folder: the output of its process, including pytest's."""
PROGRESS_FILE = "progress.jsonl"
"""Within a cell's folder: the phases and suites that have begun and ended so far."""
BESIDE_SUITES = frozenset({ENVIRONMENT_FOLDER, UP_FOLDER, OUTPUT_FILE, PROGRESS_FILE})
"""Names beside the folders of suites; no suite and no command may have one of them."""

RUN_VARIABLE = "PYXIS_MATRIX_RUN"
"""Environment variable with the id of the run that a session belongs to."""
NOT_RUN_VARIABLE = "PYXIS_MATRIX_NOT_RUN"
"""Environment variable with which nox names a file. A session that can't run writes why into it, and ends with 0.

No exit code can say "not run", because a suite of somebody else may end with any.
"""
CACHE_VARIABLE = "PYXIS_MATRIX_CACHE"
RESULTS_VARIABLE = "PYXIS_MATRIX_RESULTS"
FIRST_SEEN_VARIABLE = "PYXIS_MATRIX_FIRST_SEEN"
MATRIX_VARIABLE = "PYXIS_MATRIX_FILE"
"""Environment variable with the user's own matrix file, which adds to this project's, or replaces parts of it."""
MIRROR_VARIABLE = "PYXIS_MATRIX_MIRROR"
_PLACES = (CACHE_VARIABLE, RESULTS_VARIABLE, FIRST_SEEN_VARIABLE, MATRIX_VARIABLE, MIRROR_VARIABLE)
_BYTECODE, _NO_BYTECODE = "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"


def settle(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let an installed program, and all that it starts, use the current folder and leave its installation unchanged.

    Most of its processes run in the installed tree. So the paths that depend on the user's folder (results,
    ``matrix.toml``) are put into the environment here, and so is the folder for Python's bytecode.

    :raises PyxisMatrixError: if the user has no home folder, and no variable names another place.
    """
    for name in _PLACES:
        if named := directory_from(environ, name):
            environ[name] = str(named)
    environ[RESULTS_VARIABLE] = str(results_dir(environ))
    if not environ.get(MATRIX_VARIABLE) and (own := Path.cwd() / MATRIX_FILE.name).is_file():
        environ[MATRIX_VARIABLE] = str(own)
    if not (environ.get(_BYTECODE) or environ.get(_NO_BYTECODE)):
        environ[_BYTECODE] = str(cache_dir(environ) / "bytecode")
    # Python reads the variable at its start; this process has started.
    sys.pycache_prefix = environ.get(_BYTECODE)


def place_of_work() -> Path:
    """Return the folder for results if the user names no other: this checkout, or for a wheel the current folder."""
    return Path.cwd() if INSTALLED else REPOSITORY


def own_matrix_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the user's own matrix file; ``None`` if there is none.

    An installed program takes ``matrix.toml`` of the current folder (``ci/installed``).
    """
    return directory_from(environ, MATRIX_VARIABLE)


def program() -> list[str]:
    """Return the words that start this program again; its current folder has to be this repository."""
    return [sys.executable, *([str(REPOSITORY.parent / "__main__.py")] if INSTALLED else ["-m", "ci"])]


def version() -> str:
    """Return this project's version."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def results_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that holds one folder per run: ``PYXIS_MATRIX_RESULTS``, else ``results`` where one works."""
    return directory_from(environ, RESULTS_VARIABLE) or place_of_work() / "results"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for what may be kept between runs, whether or not it exists.

    ``PYXIS_MATRIX_CACHE`` is used unchanged; the default is ``pyxis-matrix`` in the user's own cache folder.
    """
    return directory_from(environ, CACHE_VARIABLE) or _own(platformdirs.user_cache_path, CACHE_VARIABLE)


def first_seen_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the user's list of release files as they were first seen, whether or not it exists.

    ``PYXIS_MATRIX_FIRST_SEEN`` is used unchanged. The default is in the user's configuration, not in the cache: the
    list has to outlive the files that it names.
    """
    chosen = directory_from(environ, FIRST_SEEN_VARIABLE)
    return chosen or _own(platformdirs.user_config_path, FIRST_SEEN_VARIABLE) / "first-seen.toml"


def _own(find: Callable[[str], Path], variable: str) -> Path:
    """Return this project's folder among the user's own."""
    with _home_is_known(variable):
        found = find("pyxis-matrix")
        if not found.is_absolute():  # older versions of platformdirs leave "~" unchanged if there is no home
            raise RuntimeError(f"the folder would be {found}")
        return found


def directory_from(environ: Mapping[str, str], variable: str) -> Path | None:
    """Return the absolute path that an environment variable names; ``None`` where it is unset or empty."""
    text = environ.get(variable, "").strip()
    if not text:
        return None
    with _home_is_known(variable):
        # Absolute, for processes that run in another folder. "~", because no shell has read what a CI service sets.
        return Path(text).expanduser().absolute()


def new_run_id(now: datetime | None = None) -> str:
    """Return a fresh run id, such as ``20261125-023431-a1b2``: time in UTC, then four random hex digits.

    Ids sort by time, and can be part of the names of containers and networks.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    # Jobs of one CI pipeline may well begin in the same second.
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def make_directory(path: Path, error: type[PyxisMatrixError] = ResultsError, *, choice: str = "") -> Path:
    """Make a folder and its parents, and return it; ``choice`` as for `refused`.

    Raises ``error`` if that fails, ``DiskFullError`` if the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise refused(problem, "failed to make a folder", error, choice=choice) from problem
    return path


def refused(
    problem: OSError,
    what: str = "the operating system refused an operation",
    error: type[PyxisMatrixError] = PyxisMatrixError,
    *,
    where: Path | None = None,
    choice: str = "",
) -> PyxisMatrixError:
    """Return the ``error`` for what the system refused; ``DiskFullError`` where the disk is full.

    :param where: the path; not all errors of the system have one.
    :param choice: the option or variable that names another place.
    """
    kind = DiskFullError if disk_is_full(problem) else error
    return kind(
        what,
        where=str(problem.filename or where or ""),
        why=problem.strerror or str(problem),
        next_step="make room or allow writing there, or choose "
        + (f"another place with {choice}" if choice else f"others with {CACHE_VARIABLE} and {RESULTS_VARIABLE}"),
    )


@contextmanager
def replaced(
    path: Path, what: str, error: type[PyxisMatrixError] = ResultsError, *, mode: int = 0o644
) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of ``path`` at the end of the block, and that is removed if the block fails.

    Other processes see the old content or the new one, never a part of it.

    :param mode: of the complete file. Before that, only its owner can read it.
    :raises DiskFullError: if there is no room; ``error`` if writing fails for another reason.
    """
    draft = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, because only within one file system is a rename atomic. mkstemp gives it mode 0600.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            draft = file.name
            yield file
        Path(draft).chmod(mode)
        Path(draft).replace(path)
        draft = ""
    except OSError as problem:
        full = disk_is_full(problem)
        raise (DiskFullError if full else error)(
            f"failed to write {what}",
            where=str(path),
            why=str(problem),
            next_step="make room and try again" if full else "check who may write there",
        ) from problem
    finally:
        # Also after Ctrl-C in the block.
        if draft:
            Path(draft).unlink(missing_ok=True)


@contextmanager
def _home_is_known(variable: str) -> Iterator[None]:
    try:
        yield
    # As pathlib and platformdirs say that neither HOME nor the list of users has a home.
    except RuntimeError as problem:
        raise PyxisMatrixError(
            "the user's home folder was not found, so there is no place for the cache",
            why=str(problem),
            next_step=f"set {variable} to a path that may be written",
        ) from problem
