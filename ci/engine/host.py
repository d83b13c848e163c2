"""What a machine must allow so that a cluster can run on it, and the command that allows it.

Each check returns ``None`` or an error, whose next step is the command to run as root on the host. Nothing is changed
here: the administrator runs it.
"""

from pathlib import Path
import shutil

from ci.engine.finding import read_text
from ci.errors import EngineError

_SETTINGS = Path("/proc/sys")
# By setting: the value that forbids user namespaces, one that allows them, and what the first means.
_USER_NAMESPACES = {
    "user.max_user_namespaces": ("0", "15000", "user namespaces are switched off"),
    "kernel.apparmor_restrict_unprivileged_userns": (
        *("1", "0"),
        "AppArmor forbids unprivileged users to create user namespaces",
    ),
    "kernel.unprivileged_userns_clone": ("0", "1", "unprivileged users may not create user namespaces"),
}
_FUSE = Path("/dev/fuse")
_CGROUPS = Path("/sys/fs/cgroup")


def user_namespaces() -> EngineError | None:
    """Check whether the job user may create user namespaces; enroot starts every container in one.

    Three switches can forbid it. The last two exist only on some kernels (Ubuntu from 23.10 on, and Debian).
    """
    for setting, (closed, open_, what) in _USER_NAMESPACES.items():
        file = _SETTINGS / setting.replace(".", "/")
        if (read_text(file) or "").strip() == closed:
            return EngineError(
                what,
                where=f"{file} is {closed}",
                why="enroot starts every container in a user namespace of the job's user",
                next_step=f"sysctl -w {setting}={open_}",
            )
    return None


def fuse() -> EngineError | None:
    """Check that /dev/fuse exists; the nodes get it."""
    if _FUSE.exists():
        return None
    return EngineError(
        "the FUSE device is missing",
        where=str(_FUSE),
        why="images are mounted through it on the nodes (squashfuse, fuse-overlayfs)",
        next_step="modprobe fuse",
    )


def cgroups() -> str:
    """Return which version of cgroups this machine has, and what follows from it; cells start with either, or none.

    Only version 2 has this file at its root. Where both are mounted (hybrid), the controllers are version 1's, and
    slurmd takes that.
    """
    if (_CGROUPS / "cgroup.controllers").exists():
        return (
            "version 2; cells use none. A slurmd that may choose takes cgroup/v2 here, and ends without dbus: "
            "cells name another CgroupPlugin in cgroup.conf, and a cgroup.conf of yours has to"
        )
    if (_CGROUPS / "memory").exists():
        return (
            "version 1; cells use none. Most machines have version 2: "
            "that a cgroup.conf of yours works here says nothing about them"
        )
    return f"none below {_CGROUPS}; cells use none"


def free_bytes(path: Path) -> int:
    """Return the free bytes for an ordinary user on the disk of ``path``, which need not exist."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
