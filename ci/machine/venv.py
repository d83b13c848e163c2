"""The virtual environment ``.venv`` with nox, which ``ci/bootstrap`` makes first. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import importlib.util
import os
from pathlib import Path
import shutil
import sys

from ci.engine.distribution import Distro, install_advice
from ci.engine.finding import read_text
from ci.errors import BootstrapError
from ci.machine import taking
from ci.machine.steps import SetupStep, StepKind, install
from ci.machine.taking import ROOT

REQUIREMENTS = (
    "nox>=2025.5.1",  # tags per parameter, default=False, interrupt_timeout, dependency groups
    "packaging>=23",  # versions and specifiers of the matrix
    "platformdirs>=4",  # the cache's place
    "uv>=0.13",  # makes the sessions' environments
)
"""The packages of the noxfile; all others are installed into the sessions' own environments."""
STAMP = ".pyxis-matrix-bootstrap"
"""A file in a virtual environment that bootstrap made; its text shows whether that is complete and up to date."""

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True, kw_only=True)
class PythonFacts:
    """The facts of this machine's Python."""

    distro: Distro
    root: bool
    python: str
    """The Python that the environment is made with."""
    ensurepip: bool
    """Whether that Python can make one; Debian has this part in a package of its own."""
    package: str | None
    """The distribution's package with that part; ``None`` for a Python that is not the distribution's."""
    venv: Path
    ready: bool
    foreign: bool
    """Whether ``venv`` exists, and bootstrap did not make it."""


def prepare(env: Mapping[str, str], *, dry_run: bool) -> None:
    """Make the environment, unless it is up to date.

    :raises BootstrapError: if it can't be made, with the commands to run instead.
    """
    facts = look(env)
    if not (steps := plan(facts)):
        return
    stamp = facts.venv / STAMP
    try:
        if not dry_run:
            # The stamp comes first, so that after an interruption the folder is recognised as ours, and incomplete.
            shutil.rmtree(facts.venv, ignore_errors=True)
            facts.venv.mkdir(parents=True)
            stamp.write_text("incomplete\n", encoding="utf-8")
        taking.take_all(steps, env, dry_run=dry_run, take=taking.run)
        if not dry_run:
            stamp.write_text(fingerprint(), encoding="utf-8")
    except OSError as error:
        raise BootstrapError(
            "the virtual environment was not made",
            where=str(facts.venv),
            why=error.strerror or str(error),
            next_step="set PYXIS_MATRIX_VENV to a folder that you can write to",
        ) from error


def look(env: Mapping[str, str]) -> PythonFacts:
    """Gather the facts; nothing is changed."""
    distro, venv = Distro.of_this_machine(), place(env)
    stamp = read_text(venv / STAMP)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    # Never the Python of a virtual environment, which may be removed: the new one would stop working with it.
    base = Path(sys.base_prefix) / "bin" / version
    return PythonFacts(
        distro=distro,
        root=os.geteuid() == 0,
        python=str(base) if sys.prefix != sys.base_prefix and base.exists() else sys.executable,
        ensurepip=importlib.util.find_spec("ensurepip") is not None,
        # Another Python, such as pyenv's, comes whole; a package of the distribution would not help it.
        package=f"{version}-venv" if distro.installable and sys.base_prefix == "/usr" else None,
        venv=venv,
        ready=stamp == fingerprint() and os.access(venv / "bin/nox", os.X_OK),
        # An empty folder is nobody's, and is taken.
        foreign=venv.exists() and stamp is None and (not venv.is_dir() or any(venv.iterdir())),
    )


def plan(facts: PythonFacts) -> list[SetupStep]:
    """Return the steps, in order; none if the environment is up to date.

    :raises BootstrapError: if it can't be made.
    """
    if facts.ready:
        return []
    if facts.foreign:
        raise BootstrapError(
            "the folder for the virtual environment exists, and bootstrap did not make it",
            where=str(facts.venv),
            next_step="move it away, or set PYXIS_MATRIX_VENV to a folder that does not exist yet",
        )
    packages = (facts.package,) if facts.package and not facts.ensurepip else ()
    if not facts.ensurepip and not (packages and facts.root):
        advice = install_advice(facts.distro, system="linux", packages=packages)
        raise BootstrapError(
            f"{facts.python} can't make a virtual environment",
            why="its ensurepip module is missing" + (", and this is not root" if packages else ""),
            next_step=advice if packages else "use a complete Python: put one first on PATH as python3",
        )
    python = str(facts.venv / "bin/python")
    pip = (python, "-m", "pip", "install", "--disable-pip-version-check", *REQUIREMENTS)
    return [
        *install(packages, facts.distro),
        SetupStep(
            kind=StepKind.RUN,
            title="make the virtual environment",
            command=(facts.python, "-m", "venv", str(facts.venv)),
        ),
        SetupStep(kind=StepKind.RUN, title=f"install {', '.join(REQUIREMENTS)} into it", command=pip),
    ]


def fingerprint() -> str:
    """Return the text of the stamp of an up-to-date virtual environment."""
    # With another Python below it, an environment's links and packages fit no more.
    parts = [*REQUIREMENTS, sys.base_prefix, f"{sys.version_info[0]}.{sys.version_info[1]}"]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def place(env: Mapping[str, str]) -> Path:
    """Return the virtual environment's folder, whether or not it exists."""
    return Path(env.get("PYXIS_MATRIX_VENV") or ROOT / ".venv").absolute()


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return ``env`` with the system's folders on PATH: apt, dockerd and mmdebstrap need them; ``su`` drops them."""
    folders = env.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join([*folders, *(folder for folder in _SYSTEM_FOLDERS if folder not in folders)])
    # PYTHONHOME is for one Python; every other one that is started would look for its library there.
    return {key: value for key, value in env.items() if key != "PYTHONHOME"} | {"PATH": path}
