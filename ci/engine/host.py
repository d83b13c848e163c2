"""Checks of what the kernel of a machine must allow so that a cluster can run on it.

Each check returns ``None`` or an error, whose next step is the command to run as root on the host. Nothing is changed
here: the administrator runs the command.
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
    """Check that /dev/fuse exists, which is passed on to the nodes."""
    if _FUSE.exists():
        return None
    return EngineError(
        "the FUSE device is missing",
        where=str(_FUSE),
        why="images are mounted through it on the nodes (squashfuse, fuse-overlayfs)",
        next_step="modprobe fuse",
    )


def cgroups() -> str:
    """Return the version of cgroups on this machine, and what it means for a user; cells start with any, and without.

    Only version 2 has the file ``cgroup.controllers`` at its root. If both are mounted (hybrid), version 1 has the
    controllers, and slurmd uses that one.
    """
    if (_CGROUPS / "cgroup.controllers").exists():
        return (
            "version 2; cells use none. A slurmd that may choose takes cgroup/v2 here, and ends without dbus: "
            "cells name another CgroupPlugin in cgroup.conf, and a cgroup.conf of yours has to"
        )
    if (_CGROUPS / "memory").exists():
        return (
            "version 1; cells use none. Most machines have version 2, "
            "and a cgroup.conf of yours that works here may fail there"
        )
    return f"none below {_CGROUPS}; cells use none"


def free_bytes(path: Path) -> int:
    """Return the bytes that an ordinary user can still write to the disk of ``path``, which need not exist."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
