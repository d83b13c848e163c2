"""Virtual environments that sessions share: sessions with the same packages use the same one.

nox itself makes one per session and parameter, which is one for each cell of each suite, and can't share them. Standard
library only, because the noxfile imports this folder.
"""

from dataclasses import dataclass
import fcntl
import hashlib
import os
from pathlib import Path
import shutil
import sys
import tempfile

from ci.errors import PyxisMatrixError
from ci.paths import make_directory
from ci.python import uv
from ci.terminal.processes import Command, run_logged

_COMPLETE = ".pyxis-matrix-complete"
"""Written last: an environment without this file was interrupted while it was made."""
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")

_CHECK_PYTHON = "install the Python that --force-python names, or leave that option out"
_CHECK_INDEX = "`pip config list` shows which package index is used (PIP_INDEX_URL, HTTPS_PROXY, PIP_CERT)"


@dataclass(frozen=True, kw_only=True)
class Packages:
    """The contents of a virtual environment."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    checkout: Path | None = None
    """A project to install as editable: its code is used in place."""
    python: str = sys.executable
    """The Python to make it with: a path, or a version that uv or virtualenv looks for."""

    @property
    def key(self) -> str:
        """The hash of all that decides what is installed (hex, 12 digits): the Python, and the requirements."""
        # After an upgrade of this Python, an environment made with the old one may not start.
        python = sys.version + sys.base_prefix if self.python == sys.executable else self.python
        parts = [python, *self.requirements, "", *self.constraints, "", str(self.checkout or "")]
        if self.checkout:
            # An edit of its code needs no installation; an edit of what it requires does.
            files = [self.checkout / name for name in _PROJECT_FILES]
            parts += [file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def shared(folder: Path, name: str, packages: Packages) -> Path:
    """Return the virtual environment ``folder/name-KEY`` that holds ``packages``, and make it if it is missing.

    A complete one is left as it is, without a question to the package index. Several processes may call this at the
    same time: one makes the environment, the others wait.

    :raises PyxisMatrixError: if making it fails.
    """
    # Absolute, because it goes on the PATH of programs that run in other folders; nox calls its own folder ".nox".
    venv = make_directory(folder.absolute(), PyxisMatrixError) / f"{name}-{packages.key}"
    with venv.with_name(f".{venv.name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when the file is closed, also after a kill
        if not ((venv / _COMPLETE).is_file() and os.access(venv / "bin/python", os.X_OK)):
            # What is left of a process that was killed while it made it.
            shutil.rmtree(venv, ignore_errors=True)
            _make(venv, packages)
            (venv / _COMPLETE).touch()
    return venv


def _make(venv: Path, packages: Packages) -> None:
    python = str(venv / "bin/python")
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-venv-") as folder:
        file = uv.write_requirements(Path(folder), packages.requirements, packages.constraints)
        arguments = ["install", "--requirement", str(file)]
        if packages.checkout:
            arguments += ["--editable", str(packages.checkout)]
        if program := uv.program():
            make: tuple[str, ...] = (program, "venv", "--python", packages.python, str(venv))
            # As pip does. Otherwise, with PYTHONDONTWRITEBYTECODE set, each process would spend 1 s on compiling.
            fill: tuple[str, ...] = (program, "pip", *arguments, "--compile-bytecode", "--python", python)
        else:
            # virtualenv comes with nox; the standard library's venv is packaged apart on Debian.
            make = (sys.executable, "-m", "virtualenv", "--no-periodic-update", "--python", packages.python, str(venv))
            fill = (python, "-m", "pip", "--disable-pip-version-check", *arguments)
        _run(make, "the virtual environment of this session was not made", _CHECK_PYTHON)
        _run(fill, "the packages of this session were not installed", _CHECK_INDEX)


def _run(words: tuple[str, ...], failure: str, next_step: str) -> None:
    command = Command(words=words, env=uv.environment())
    done = run_logged(command)
    done.check(what=failure, where=str(command), next_step=next_step)
