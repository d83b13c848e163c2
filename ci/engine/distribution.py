"""The Linux distribution of this machine, and the names of its packages for a container engine."""

from dataclasses import dataclass
import platform
import re
from typing import Self

ROLLING = 9999
"""The release number given to Debian testing and sid, whose os-release carries none."""

_ENGINE = "docker.io"
_DEBIAN_13 = 13
_CLIENT = ("docker-cli", "docker-buildx")


@dataclass(frozen=True, kw_only=True)
class Distro:
    """A Linux distribution: what has to be known of it to install an engine."""

    id: str
    """``ID`` of os-release: ``debian``, ``ubuntu``, …; empty where there is no os-release (macOS)."""
    release: int
    """The major release number; ``ROLLING`` where the release has none."""
    name: str
    """Its full name: "Debian GNU/Linux 12 (bookworm)"."""

    @classmethod
    def of_this_machine(cls) -> Self:
        """Read os-release."""
        try:
            values = platform.freedesktop_os_release()
        except OSError:  # there is none on macOS
            values = {}
        # "12" of Debian, "24.04" of Ubuntu.
        number = re.match(r"\d+", values.get("VERSION_ID", ""))
        return cls(
            id=values.get("ID", "").lower(),
            release=int(number.group()) if number else ROLLING,
            name=values.get("PRETTY_NAME", "this system"),
        )

    @property
    def installable(self) -> bool:
        """Whether the project knows how to install an engine here."""
        return self.id in {"debian", "ubuntu"}

    @property
    def engine_packages(self) -> tuple[str, ...]:
        """The packages of the engine and of a client that can build with BuildKit; empty where unknown.

        Debian 12's docker.io (20.10) carries its client, and that one has BuildKit built in. From Debian 13 on the
        client and buildx are packages of their own. Ubuntu keeps the client in docker.io, buildx apart.
        """
        if self.id == "ubuntu":
            return (_ENGINE, "docker-buildx")
        if self.id == "debian":
            return (_ENGINE, *_CLIENT) if self.release >= _DEBIAN_13 else (_ENGINE,)
        return ()

    def client_packages(self, kind: str) -> tuple[str, ...]:
        """Return the packages of a client that can build, where an engine of that ``kind`` is already there."""
        if kind == "podman":
            return ("podman",)
        if self.id == "debian" and self.release >= _DEBIAN_13:
            return _CLIENT
        return self.engine_packages


def install_advice(distro: Distro, *, system: str, packages: tuple[str, ...]) -> str:
    """Return the command that installs ``packages`` here, or else what to install.

    :param system: as in ``sys.platform``.
    """
    if system == "darwin":
        return "install and start Docker Desktop, OrbStack or Colima (brew install colima docker && colima start)"
    if distro.installable:
        return f"sudo apt-get update && sudo apt-get install --no-install-recommends {' '.join(packages)}"
    if distro.id in {"fedora", "rhel", "centos", "rocky", "almalinux"}:
        return "sudo dnf install podman podman-docker && systemctl --user enable --now podman.socket"
    return "install Docker Engine 20.10 or newer with buildx, or Podman 4 or newer with its API socket enabled"
