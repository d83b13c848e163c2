"""What a person names of this machine: a checkout, a suite, a host name. Refused here, before anything is installed."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
import os
from pathlib import Path
import re
import socket
import stat

from ci.errors import EngineError, SelectionError, SubjectError

_PROJECT_FILES = ("pyproject.toml", "setup.py")
# Where pytest looks for its rootdir.
_ROOT_FILES = (*_PROJECT_FILES, "pytest.ini", ".pytest.ini", "setup.cfg", "tox.ini")
# pytest's default of `python_files`.
_TEST_FILE = re.compile(r"test_.*\.py|.*_test\.py")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME = 60
_LOOPBACK, _LOOPBACK6 = "127.0.0.1", "::1"


@dataclass(frozen=True, kw_only=True)
class OwnSuite:
    """A suite of somebody's own."""

    path: Path
    """The file or folder with its tests."""
    project: Path
    """The folder that it is run in: that of its project, else its own."""

    @property
    def name(self) -> str:
        """What its results are filed under: readable, another one for each path, never that of a suite of the project.

        The same path has the same name on every machine.
        """
        inside = self.path.relative_to(self.project).with_suffix("") if self.path != self.project else Path()
        words = _NOT_PLAIN.sub("_", "-".join((self.project.name, *inside.parts))).strip("_.-")
        # From the end of the path, which tells suites apart better than its beginning; the digest does it for certain.
        return f"{words[-_LONGEST_NAME:].lstrip('_.-') or 'suite'}-{sha256(os.fsencode(self.path)).hexdigest()[:8]}"

    @property
    def tests(self) -> str:
        """The tests as pytest is told of them in the project's folder."""
        return self.path.relative_to(self.project).as_posix()


def check_project(checkout: Path) -> None:
    """Refuse a folder that is no Python project."""
    if not _has_any(checkout, _PROJECT_FILES):
        raise SubjectError(
            "the subject's checkout is not a Python project",
            where=str(checkout),
            why="it has neither pyproject.toml nor setup.py" if checkout.is_dir() else "there is no such directory",
            next_step="name the project's own folder with --subject PATH",
        )


def check_open_to_jobs(checkout: Path) -> None:
    """Refuse a checkout that jobs on the nodes could not read: Python would only say that there is no such module."""
    # For a folder, "execute" is the right to go through it.
    others = stat.S_IROTH | stat.S_IXOTH
    why = ""
    # The mode of /root is that of the nodes' image, whatever this machine's is.
    if checkout.is_relative_to("/root"):
        why = "nodes see it under its own path, and /root is closed to others there"
    elif checkout.stat().st_mode & others != others:
        why = "only its owner may read it"
    if why:
        raise SubjectError(
            "jobs on the nodes could not read the subject's checkout",
            where=str(checkout),
            why=f"jobs run as an ordinary user, and {why}",
            next_step="chmod -R o+rX the checkout, and keep it outside /root",
        )


def own_suite(path: Path, *, pytest: bool = True) -> OwnSuite:
    """Return the suite at a path of this machine.

    :param pytest: whether pytest runs it, which needs tests; a command of its own needs a folder only.
    :raises SelectionError: where there is no suite.
    """
    why = ""
    if not path.exists():
        why = "there is no such file or directory"
    elif path.is_dir() and not any(path.iterdir()):
        why = "the folder is empty"
    elif pytest and not _has_tests(path):
        why = "it holds no test_*.py and no *_test.py, and no configuration of pytest names other files"
    if why:
        raise SelectionError(
            "the suite was not found",
            where=str(path),
            why=why,
            next_step="name the file or the folder with the tests; for a suite without pytest, add --command COMMAND",
        )
    resolved = path.resolve()
    own = resolved if resolved.is_dir() else resolved.parent
    # The nearest one upwards, where pytest would see its rootdir as well.
    project = next((folder for folder in (own, *own.parents) if _has_any(folder, _ROOT_FILES)), own)
    return OwnSuite(path=resolved, project=project)


def check_registry_name(name: str) -> None:
    """Refuse a second name of the registry that does not lead to this machine's loopback.

    The engine looks the name up on this machine when it pushes, and does without TLS on loopback only. Both would have
    to be changed on the machine itself (/etc/hosts, daemon.json), which this project never does.

    :raises SelectionError: where the name is unknown, or leads elsewhere.
    """
    if why := _elsewhere(name):
        raise SelectionError(
            f"the registry can't have the name {name} on this machine",
            where="--registry-name",
            why=f"{why}; the engine pushes without TLS to {_LOOPBACK} only, and looks names up as this machine does",
            next_step=f"use localhost:PORT (REGISTRY_URL), or have '{_LOOPBACK} {name}' in this machine's /etc/hosts",
        )


def check_localhost() -> None:
    """Refuse a machine whose ``localhost`` is not 127.0.0.1: the registry's address is ``localhost:PORT`` everywhere.

    :raises EngineError: saying where it leads.
    """
    if why := _elsewhere("localhost"):
        raise EngineError(
            f"localhost does not resolve to {_LOOPBACK} on this machine",
            where="/etc/hosts",
            why=f"{why}; the engine pushes to localhost:PORT, without TLS to {_LOOPBACK} only",
            next_step=f"have a line '{_LOOPBACK} localhost' in /etc/hosts",
        )


def _elsewhere(name: str) -> str:
    """Return where a name leads if that is not 127.0.0.1, with ::1 or without; else nothing."""
    try:
        # Of (family, type, protocol, name, address) the address, whose first part is the number as text.
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
    except OSError as error:
        return f"{error.strerror}"
    # The port is published on 127.0.0.1 and, where this machine has it, on ::1.
    return "" if found - {_LOOPBACK6} == {_LOOPBACK} else f"it resolves to {' and '.join(sorted(found))}"


def _has_tests(path: Path) -> bool:
    if path.is_file():
        return path.suffix == ".py"
    for _, folders, names in os.walk(path):
        # Changed in place, so that os.walk does not enter .git or .venv.
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(map(_TEST_FILE.fullmatch, names)):
            return True
    # Such a file may name others with `python_files`.
    return _has_any(path, _ROOT_FILES)


def _has_any(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)
