"""The plan behind ``ci/bootstrap``: what a machine lacks, and the steps that install it.

Pure: facts in, steps out. The modules ``venv`` and ``setup`` gather the facts and take the steps. Standard library
only, because ``--dry-run`` lists the steps on a machine that has no packages yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
import shlex
import shutil

from ci.engine.distribution import Distro
from ci.errors import EngineError, EngineMissingError

_WITHOUT_ENGINE = {"lint", "types", "tests", "plan", "report", "page", "scale"}
"""Sessions of the noxfile that need no engine; some of them need a browser."""
_WITH_BROWSER = {"page", "scale"}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# apt-get ends at once where another one holds dpkg's lock, as upgrades of a machine that has just booted do.
_APT = ("apt-get", "-o", "DPkg::Lock::Timeout=300")


class StepKind(StrEnum):
    """How a step is taken."""

    RUN = "run"
    """Its command must succeed."""
    TRY = "try"
    """Its command may fail: one unreachable repository of many is no reason to stop."""
    DAEMON = "daemon"
    """Start the command in the background, unless an engine answers or is starting already."""
    WAIT = "wait"
    """Wait until the engine answers."""


@dataclass(frozen=True, kw_only=True)
class SetupStep:
    """One step of bootstrap."""

    kind: StepKind
    title: str
    """Completes the sentence "about to …"."""
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the step as it is announced: its title and its command."""
        return f"{self.title}\n    $ {shlex.join(self.command)}" if self.command else self.title


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts of this machine, except those of its Python."""

    platform: str
    """As in ``sys.platform``."""
    distro: Distro
    root: bool
    systemd: bool
    """Whether systemd runs here, not whether it is installed."""
    engine: EngineError | None
    """Why no engine can be used; ``None`` if one answers."""
    client: EngineError | None
    """Why no client can build; ``None`` if one can."""
    client_kind: str
    """The kind of client that is needed: ``docker``, or ``podman`` if that engine answers."""
    dockerd: str | None
    """The engine's own program, if it is installed."""
    mmdebstrap: bool
    """Whether base images can be made from Debian's packages."""
    debian_keyring: bool
    apparmor_parser_missing: bool
    """Whether AppArmor is on without its parser; then Docker can't start any container."""


def needs_engine(command: Sequence[str]) -> bool:
    """Tell whether a command may need a container engine: all do but nox with sessions that start nothing.

    Plain ``nox`` runs such sessions only. In doubt the answer is yes.
    """
    if not command or Path(command[0]).name != "nox":
        return True
    arguments = list(command[1 : command.index("--")] if "--" in command else command[1:])
    sessions = arguments[1:] if arguments[:1] in (["-s"], ["--session"], ["--sessions"]) else arguments
    return not _WITHOUT_ENGINE.issuperset(sessions)


def needs_browser(command: Sequence[str]) -> bool:
    """Tell whether a command tests in a browser."""
    own = command[: command.index("--")] if "--" in command else command
    return bool(own) and Path(own[0]).name == "nox" and not _WITH_BROWSER.isdisjoint(own)


def plan_browser(distro: Distro, *, root: bool, path: str) -> list[SetupStep]:
    """Return the steps that install a browser; none if there is one, or if bootstrap can't install one.

    Ubuntu's package of this name installs a snap, which the tests can't control; the session says what to do.
    """
    if not root or distro.id != "debian" or any(shutil.which(name, path=path) for name in _BROWSERS):
        return []
    return install(("chromium",), distro)


def plan(facts: Facts) -> list[SetupStep]:
    """Return the steps, in order; none if nothing is missing.

    :raises EngineError: if the distribution's engine can't be installed as root, with the commands to run instead.
    """
    may_install = facts.root and facts.distro.installable and facts.platform == "linux"
    # Only a missing engine is installed. One that is too old, or refuses this user, takes another remedy.
    if facts.engine and not (may_install and isinstance(facts.engine, EngineMissingError)):
        raise facts.engine
    if facts.client and not facts.engine and not may_install:
        raise facts.client
    steps = install(_packages(facts), facts.distro) if may_install else []
    if not facts.engine:
        return steps
    if facts.systemd:
        start = SetupStep(kind=StepKind.RUN, title="start the engine", command=("systemctl", "start", "docker"))
    else:
        title = "start the engine in the background (no systemd here)"
        start = SetupStep(kind=StepKind.DAEMON, title=title, command=(facts.dockerd or "/usr/sbin/dockerd",))
    return [*steps, start, SetupStep(kind=StepKind.WAIT, title="wait until the engine answers")]


def install(packages: tuple[str, ...], distro: Distro) -> list[SetupStep]:
    """Return the steps that install packages of Debian or Ubuntu; none for no packages."""
    if not packages:
        return []
    return [
        SetupStep(kind=StepKind.TRY, title="refresh the package lists", command=(*_APT, "update")),
        SetupStep(
            kind=StepKind.RUN,
            title=f"install {', '.join(packages)} from {distro.name}",
            command=(*_APT, "install", "--yes", "--no-install-recommends", *packages),
        ),
    ]


def _packages(facts: Facts) -> tuple[str, ...]:
    wanted: list[str] = []
    if facts.engine and not facts.dockerd:
        # Certificates for registries with TLS: the engine's package only recommends them.
        wanted += [*facts.distro.engine_packages, "ca-certificates"]
    elif facts.client:
        wanted += facts.distro.client_packages(facts.client_kind)
    if facts.engine and facts.apparmor_parser_missing:
        # dockerd loads its profile for containers by this program, which Debian's docker.io only recommends.
        wanted.append("apparmor")
    if not facts.mmdebstrap:
        wanted.append("mmdebstrap")
    if not facts.debian_keyring:
        # By it mmdebstrap checks Debian's signatures; Ubuntu does not have it by itself.
        wanted.append("debian-archive-keyring")
    return tuple(wanted)
