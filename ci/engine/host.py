"""What a machine must allow before a cluster can run on it, and the command that allows it.

Each check is a pure function over readers and returns ``None`` or one ``Obstacle``. Nothing is changed here: the
commands are for the administrator to run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
import shutil

from ci.engine.finding import ReadText, read_text

_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_DEBIAN_SWITCH = Path("/proc/sys/kernel/unprivileged_userns_clone")
_FUSE = Path("/dev/fuse")


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Something that this machine forbids or lacks."""

    what: str
    where: str
    why: str
    fix: str
    """The exact command, to be run as root on the host."""


def user_namespaces(read: ReadText = read_text) -> Obstacle | None:
    """Tell whether a job's user may create user namespaces, which enroot starts every container in.

    Three switches can forbid it; the last two exist only on some kernels (Ubuntu from 23.10 on, and Debian).
    """
    why = "enroot starts every container in a user namespace of the job's user"
    if _setting(read, _USER_NAMESPACES) == "0":
        fix = "sysctl -w user.max_user_namespaces=15000"
        return Obstacle(what="user namespaces are switched off", where=f"{_USER_NAMESPACES} is 0", why=why, fix=fix)
    if _setting(read, _APPARMOR) == "1":
        return Obstacle(
            what="AppArmor keeps unprivileged users from creating user namespaces",
            where=f"{_APPARMOR} is 1",
            why=why,
            fix="sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    if _setting(read, _DEBIAN_SWITCH) == "0":
        return Obstacle(
            what="unprivileged users may not create user namespaces",
            where=f"{_DEBIAN_SWITCH} is 0",
            why=why,
            fix="sysctl -w kernel.unprivileged_userns_clone=1",
        )
    return None


def fuse(exists: Callable[[Path], bool] = Path.exists) -> Obstacle | None:
    """Tell whether /dev/fuse is there to be handed to the nodes."""
    if exists(_FUSE):
        return None
    return Obstacle(
        what="the FUSE device is missing",
        where=str(_FUSE),
        why="images are mounted through it on the nodes (squashfuse, fuse-overlayfs)",
        fix="modprobe fuse",
    )


def free_bytes(path: Path) -> int:
    """Return the bytes that an ordinary user may still write where ``path`` is or would be created."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _setting(read: ReadText, path: Path) -> str:
    return (read(path) or "").strip()
