"""Where things lie: in the repository, in the user's cache, and per run.

Standard library only, because the noxfile imports this tier; that is why the cache's place is worked out here.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
import os
from pathlib import Path
import secrets
import sys

from ci.errors import DiskFullError, PyxisMatrixError, ResultsError, disk_is_full

REPOSITORY = Path(__file__).resolve().parent.parent
CONTAINERS = REPOSITORY / "containers"
MATRIX_FILE = REPOSITORY / "matrix.toml"
PINS_FILE = CONTAINERS / "pins.toml"

CACHE_VARIABLE = "PYXIS_MATRIX_CACHE"
RESULTS_VARIABLE = "PYXIS_MATRIX_RESULTS"


def results_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that holds one folder per run: ``PYXIS_MATRIX_RESULTS``, else ``results`` in the repository."""
    return directory_from(environ, RESULTS_VARIABLE) or REPOSITORY / "results"


def cache_dir(environ: Mapping[str, str] = os.environ, system: str = sys.platform) -> Path:
    """Return the folder for what may be kept between runs, whether or not it exists.

    ``PYXIS_MATRIX_CACHE`` is taken as it is; otherwise it is ``pyxis-matrix`` in the user's own cache folder.
    """
    if chosen := directory_from(environ, CACHE_VARIABLE):
        return chosen
    # The XDG specification says that a relative path is to be ignored.
    xdg = Path(environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():
        return xdg / "pyxis-matrix"
    return _home(environ) / ("Library/Caches" if system == "darwin" else ".cache") / "pyxis-matrix"


def directory_from(environ: Mapping[str, str], variable: str) -> Path | None:
    """Return the absolute path that an environment variable names; ``None`` where it is unset or empty."""
    text = environ.get(variable, "").strip()
    if not text:
        return None
    path = Path(text)
    if path.parts[0] == "~":
        path = _home(environ).joinpath(*path.parts[1:])
    return path.absolute()


def new_run_id(now: datetime | None = None) -> str:
    """Return a fresh run id, such as ``20261125-023431-a1b2``: time in UTC, then four random hex digits.

    It sorts by time, and is short and plain enough for the names of containers and networks.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def make_directory(path: Path, error: type[PyxisMatrixError] = ResultsError) -> Path:
    """Make a folder and its parents, and return it.

    Raises ``error`` where that is not possible, ``DiskFullError`` where it is for want of space.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise refused(problem, "A folder can't be made.", error) from problem
    return path


def refused(
    problem: OSError, what: str = "the system refused something", error: type[PyxisMatrixError] = PyxisMatrixError
) -> PyxisMatrixError:
    """Return the ``error`` for what the system refused; ``DiskFullError`` where it is for want of space."""
    kind = DiskFullError if disk_is_full(problem) else error
    return kind(
        what,
        where=str(problem.filename or ""),
        why=problem.strerror or str(problem),
        next_step=f"free or allow the place, or choose others with {CACHE_VARIABLE} and {RESULTS_VARIABLE}",
    )


def _home(environ: Mapping[str, str]) -> Path:
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path.home()
    except RuntimeError as problem:
        raise PyxisMatrixError(
            "The user has no home folder, so there is no place for the cache.",
            why=str(problem),
            next_step=f"set {CACHE_VARIABLE} to a folder that may be written",
        ) from problem
