"""All errors that a user can meet: one class per kind, each with its exit code. Also how a full disk is recognised.

The module imports nothing of this project, so that every other module may import it.
"""

import errno
import os
from pathlib import Path
import re

INSTALLED = Path(__file__).resolve().parts[-4:-1] == ("pyxis_matrix", "tree", "ci")
"""Whether this is an installed wheel, which has neither nox nor git, and not a checkout (see ``ci/installed``)."""
PROGRAM = "pyxis-matrix"
"""The name of the installed program."""
BOOTSTRAP_VARIABLE = "PYXIS_MATRIX_BOOTSTRAP"
"""Set by ``ci/bootstrap`` where nox is only in its virtual environment, and not on the user's PATH."""
_DISK_FULL = re.compile(r"no space left on device|\bENOSPC\b|disk quota exceeded|\bEDQUOT\b", re.IGNORECASE)
# enroot and unshare use the same words when max_user_namespaces is used up:
# https://github.com/NVIDIA/pyxis/issues/93
_NOT_THE_DISK = re.compile(r"namespace|unshare|clone", re.IGNORECASE)


def disk_is_full(problem: OSError | str) -> bool:
    """Tell whether the system's error, or a program's output, says that the disk (or a quota) is full."""
    if isinstance(problem, OSError):
        return problem.errno in {errno.ENOSPC, errno.EDQUOT}
    return any(_DISK_FULL.search(line) and not _NOT_THE_DISK.search(line) for line in problem.splitlines())


def session(name: str, words: str = "") -> str:
    """Return the command for a session of the noxfile; an installed program has a command with the session's name.

    The command is right on any machine. For a message, which is for this one, see `typed` and `as_here`.
    """
    behind = f" -- {words}" if words else ""
    return " ".join(filter(None, (PROGRAM, name, words))) if INSTALLED else f"nox -s {name}{behind}"


def suite_session(name: str, cell: str = "", words: str = "") -> str:
    """Return the command for a suite on a cell, or on the cells of the default group, with ``words`` behind ``--``.

    A suite from another project has the name ``suite``.
    """
    if not INSTALLED:
        return session(f'"{name}({cell})"' if cell else name, words)
    behind = f" -- {words}" if words else ""
    if not cell:
        return session("matrix", f"--suite {name}{behind}")
    return session("suite", f"{cell}{behind}" if name == "suite" else f"{name} {cell}{behind}")


def program() -> str:
    """Return the words before a command of ``python -m ci``; ``nox -s ci`` runs it where its packages are installed."""
    return PROGRAM if INSTALLED else f"{session('ci')} --"


def set_up() -> str:
    """Return the command that prepares a machine."""
    return session("setup") if INSTALLED else "ci/bootstrap"


def typed(words: str) -> str:
    """Return a command of this program as a person types it; every message with a command gets it from here."""
    return as_here(f"{program()} {words}")


def as_here(command: str) -> str:
    """Return a command that begins with nox as a person can type it here: through bootstrap if nox is not on PATH."""
    return f"ci/bootstrap {command}" if os.environ.get(BOOTSTRAP_VARIABLE) else command


class PyxisMatrixError(Exception):
    """Base of all errors that are reported without a traceback.

    The text says what went wrong, where, why, and which command comes next.
    """

    exit_code = 70

    def __init__(self, what: str, *, where: str = "", why: str = "", next_step: str = "") -> None:
        """Compose the message from its parts; empty parts are left out."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.next_step = next_step

    def __str__(self) -> str:
        """Return the message with one part per line."""
        # Here, because `next_step` may be a constant, made before anybody knows whether nox is on PATH.
        step = as_here(self.next_step) if self.next_step.startswith("nox ") else self.next_step
        details = {"where": self.where, "why": self.why, "next": step}
        return "\n".join([self.what, *(f"  {label}: {text}" for label, text in details.items() if text)])


class MatrixError(PyxisMatrixError):
    """matrix.toml is invalid or contradicts itself; the text lists every fault at once."""

    exit_code = 10


class SelectionError(PyxisMatrixError):
    """A cell, group or filter was named that matches nothing."""

    exit_code = 11


class NotRunError(PyxisMatrixError):
    """Nothing failed, but a selected cell could not run here."""

    exit_code = 12


class CheckoutNeededError(PyxisMatrixError):
    """The command needs a checkout of this project: it edits the project's files, or reads git's history."""

    exit_code = 13


class EngineError(PyxisMatrixError):
    """No usable container engine: missing, too old, not reachable, or no permission on its socket."""

    exit_code = 20


class EngineMissingError(EngineError):
    """No container engine was found at any of the usual places; ``ci/bootstrap`` installs one."""


class ArtefactError(PyxisMatrixError):
    """An artefact (release file, base image, wheel) was not found at any source."""

    exit_code = 21


class ChecksumError(PyxisMatrixError):
    """The content of an artefact is not what was pinned: its checksum is wrong."""

    exit_code = 22


class BuildError(PyxisMatrixError):
    """Building an image failed, or made the wrong image."""

    exit_code = 23


class DiskFullError(PyxisMatrixError):
    """The disk filled up while building or running."""

    exit_code = 24


class SubjectError(PyxisMatrixError):
    """The package under test was not found, or failed to build or install."""

    exit_code = 25


class BootstrapError(PyxisMatrixError):
    """Setting the machine up failed: no suitable Python, or a package or the virtual environment failed to install."""

    exit_code = 26


class UpstreamError(PyxisMatrixError):
    """Upstream's releases could not be read: no answer, too many requests, or no such repository."""

    exit_code = 27


class CandidateError(PyxisMatrixError):
    """A candidate, named in place of a release, is unsuitable: another project, no such revision, files missing."""

    exit_code = 28


class ProfileError(PyxisMatrixError):
    """A profile cannot be laid over the cell: a file or a setting in it; the text lists every fault at once."""

    exit_code = 29


class LaunchError(PyxisMatrixError):
    """An environment did not become ready; the text has its state, last log lines and a hint."""

    exit_code = 30


class RefusedError(LaunchError):
    """The container engine refused a request, or did not answer; the text has its words."""


class NotOnEngineError(RefusedError):
    """The container engine has no object of that name: it never had one, or the object was removed."""


class PortTakenError(LaunchError):
    """A port that the user chose is in use by another process."""

    exit_code = 31


class TeardownError(PyxisMatrixError):
    """An environment was not taken down: the engine refused to remove some of it, or did not answer."""

    exit_code = 32


class RegistryChangedError(PyxisMatrixError):
    """The registry did not hold the job image that was pushed: somebody else wrote to it, or it was removed."""

    exit_code = 33


class VersionMismatchError(LaunchError):
    """The cluster has another version of Slurm, enroot or Pyxis than the cell's id says."""

    exit_code = 34


class SiteError(LaunchError):
    """A cluster that exists cannot be asked: no login, no Slurm or Pyxis there, or a version that nothing tells."""

    exit_code = 35


class NewReleaseError(PyxisMatrixError):
    """Upstream has releases that are not in the matrix, and ``bump --check`` was asked to tell."""

    exit_code = 50


class BisectError(PyxisMatrixError):
    """A bisection found nothing: both ends have the same answer, or the question could not be put to them."""

    exit_code = 51


class BisectRangeError(PyxisMatrixError):
    """A bisection was not narrowed to one release or commit, because those in between gave no answer."""

    exit_code = 52


class UntestedError(PyxisMatrixError):
    """The answer is not known: the question was not tested, or not on both sides of a comparison."""

    exit_code = 55


class ReproduceError(PyxisMatrixError):
    """What a test ran can't be run without this project; the text says why."""

    exit_code = 56


class ResultsError(PyxisMatrixError):
    """Failed to write or read results, or they are invalid."""

    exit_code = 40
