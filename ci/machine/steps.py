"""The plan behind ``ci/bootstrap``: what a machine lacks, and the steps that supply it.

``plan`` is pure: facts in, steps out. Gathering the facts and taking the steps is ``ci.machine.setup``'s business.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
import shlex

from ci.engine.distribution import Distro, install_advice
from ci.errors import BootstrapError, EngineError, EngineMissingError

REQUIREMENTS = (
    "nox>=2025.5.1",  # tags per parameter, default=False, interrupt_timeout, dependency groups
    "packaging>=23",  # versions and specifiers of the matrix
)
"""What the noxfile needs; everything else is installed by nox into its sessions' own environments."""

_APT = ("apt-get", "-o", "DPkg::Lock::Timeout=300")
_INSTALL = (*_APT, "install", "--yes", "--no-install-recommends")


class Kind(StrEnum):
    """How a step is taken."""

    RUN = "run"
    """Its command must succeed."""
    TRY = "try"
    """Its command may fail: one unreachable repository of many is no reason to stop."""
    ENVIRONMENT = "environment"
    """Make the virtual environment anew; its commands run after what is left of an earlier one is gone."""
    DAEMON = "daemon"
    """Start the command in a session of its own, unless the engine answers by now or is about to."""
    WAIT = "wait"
    """Wait until the engine answers."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that bootstrap is about to do."""

    kind: Kind
    title: str
    """Completes the sentence "about to …"."""
    commands: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        """Return the step as it is announced: what, and with which commands."""
        return "\n".join([self.title, *(f"    $ {shlex.join(command)}" for command in self.commands)])


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found on this machine."""

    platform: str
    """As ``sys.platform`` spells it."""
    distro: Distro
    root: bool
    systemd: bool
    """Whether systemd runs here, not whether it is installed."""
    python: str
    """The Python that the virtual environment is made with."""
    ensurepip: bool
    """Whether that Python can make one; Debian packages that part apart."""
    venv_package: str | None
    """The distribution's package with that part; ``None`` for a Python that did not come from it."""
    venv: Path
    venv_ready: bool
    venv_foreign: bool
    """There is something in the way at ``venv`` that bootstrap did not make."""
    engine: EngineError | None
    """Why no engine can be used; ``None`` where one answers."""
    client: EngineError | None
    """Why no client can build; ``None`` where one can."""
    client_kind: str
    """Whose client is wanted: ``docker``, or ``podman`` where that is the engine that answers."""
    dockerd: str | None
    """The engine's own program, where it is installed."""
    mmdebstrap: bool
    """Whether base images can be made from Debian's packages."""
    debian_keyring: bool
    apparmor_parser_missing: bool
    """AppArmor is on and its parser is not there; Docker then can't start any container."""


def plan(facts: Facts) -> list[Step]:
    """Return what has to be done, in order; nothing where all is there.

    Raises ``EngineError`` where the engine can't be supplied by installing one from the distribution as root, and
    ``BootstrapError`` where the virtual environment can't be made. Both say which commands to run instead.
    """
    may_install = facts.root and facts.distro.installable and facts.platform == "linux"
    start = facts.engine is not None
    if facts.engine and not (may_install and isinstance(facts.engine, EngineMissingError)):
        raise facts.engine
    if facts.client and not start and not may_install:
        raise facts.client
    return [*_packages(facts, may_install=may_install), *_environment(facts), *(_start(facts) if start else [])]


def packages(facts: Facts, *, may_install: bool) -> tuple[str, ...]:
    """Return the distribution's packages to install."""
    wanted: list[str] = []
    if not facts.venv_ready and not facts.ensurepip and facts.venv_package:
        wanted.append(facts.venv_package)
    if not may_install:
        return tuple(wanted)
    if facts.engine:
        if not facts.dockerd:
            # Certificates, for registries that talk TLS: the engine's package only recommends them.
            wanted += [*facts.distro.engine_packages, "ca-certificates"]
        elif facts.client:
            wanted += facts.distro.client_packages(facts.client_kind)
        if facts.apparmor_parser_missing:
            wanted.append("apparmor")
    elif facts.client:
        wanted += facts.distro.client_packages(facts.client_kind)
    if not facts.mmdebstrap:
        wanted.append("mmdebstrap")
    if not facts.debian_keyring:
        wanted.append("debian-archive-keyring")
    return tuple(wanted)


def _packages(facts: Facts, *, may_install: bool) -> list[Step]:
    wanted = packages(facts, may_install=may_install)
    if not wanted:
        return []
    if not may_install:
        raise BootstrapError(
            f"{facts.python} can't make a virtual environment",
            why="its ensurepip module is missing, and this is not root on Debian or Ubuntu",
            next_step=install_advice(facts.distro, platform=facts.platform, packages=wanted),
        )
    return [
        Step(kind=Kind.TRY, title="refresh the package lists", commands=((*_APT, "update"),)),
        Step(
            kind=Kind.RUN,
            title=f"install {', '.join(wanted)} from {facts.distro.name}",
            commands=((*_INSTALL, *wanted),),
        ),
    ]


def _environment(facts: Facts) -> list[Step]:
    if facts.venv_ready:
        return []
    if facts.venv_foreign:
        raise BootstrapError(
            "the place of the virtual environment is taken by something that bootstrap did not make",
            where=str(facts.venv),
            next_step="move it away, or set PYXIS_MATRIX_VENV to a folder that does not exist yet",
        )
    if not facts.ensurepip and not facts.venv_package:
        raise BootstrapError(
            f"{facts.python} can't make a virtual environment",
            why="its ensurepip module is missing",
            next_step="use a complete Python: put one first on PATH as python3",
        )
    return [
        Step(
            kind=Kind.ENVIRONMENT,
            title=f"make the virtual environment {facts.venv} with {' and '.join(REQUIREMENTS)}",
            commands=(
                (facts.python, "-m", "venv", str(facts.venv)),
                (str(facts.venv / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check", *REQUIREMENTS),
            ),
        )
    ]


def _start(facts: Facts) -> list[Step]:
    if facts.systemd:
        first = Step(kind=Kind.RUN, title="start the engine", commands=(("systemctl", "start", "docker"),))
    else:
        first = Step(
            kind=Kind.DAEMON,
            title="start the engine in the background (no systemd here)",
            commands=((facts.dockerd or "/usr/sbin/dockerd",),),
        )
    return [first, Step(kind=Kind.WAIT, title="wait until the engine answers")]
