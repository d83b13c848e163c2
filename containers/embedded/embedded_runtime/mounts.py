"""Mounts of a container: what fstab and --container-mounts say, and how it is done after the root has been switched.

All of it happens when the container's root file system is / already, so that symbolic links in the image lead where
they lead for the job. The node's files are then reached relative to an open descriptor of the old root directory.
"""

from collections.abc import Iterable
import contextlib
from dataclasses import dataclass
import errno
import os
from pathlib import Path
import stat

from .failure import Failure
from .system import mount, umount

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC = 32, 1024, 2048, 4096, 16384
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_RELATIME = 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21
PROPAGATION = MS_UNBINDABLE | MS_PRIVATE | MS_SLAVE | MS_SHARED

SET = {
    "ro": MS_RDONLY,
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
    "relatime": MS_RELATIME,
    "bind": MS_BIND,
    "rbind": MS_BIND | MS_REC,
    "private": MS_PRIVATE,
    "slave": MS_SLAVE,
    "shared": MS_SHARED,
    "unbindable": MS_UNBINDABLE,
    "rprivate": MS_PRIVATE | MS_REC,
    "rslave": MS_SLAVE | MS_REC,
    "rshared": MS_SHARED | MS_REC,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
CLEARED = {"rw": MS_RDONLY, "suid": MS_NOSUID, "dev": MS_NODEV, "exec": MS_NOEXEC, "atime": MS_NOATIME}
# A user namespace may not drop these from what it binds; they are carried over.
INHERITED = {
    os.ST_RDONLY: MS_RDONLY,
    os.ST_NOSUID: MS_NOSUID,
    os.ST_NODEV: MS_NODEV,
    os.ST_NOEXEC: MS_NOEXEC,
    os.ST_NOATIME: MS_NOATIME,
    os.ST_NODIRATIME: MS_NODIRATIME,
    os.ST_RELATIME: MS_RELATIME,
}
IGNORED = frozenset({"", "auto", "defaults", "nofail", "silent", "x-detach"})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One mount, as written."""

    source: str
    """A path of the node, or a file system's name such as tmpfs."""
    target: str
    """A path in the container; relative ones count from its root."""
    kind: str = ""
    """File system type; empty for a bind mount."""
    options: tuple[str, ...] = ()


def system(*, own_network: bool, own_ipc: bool) -> list[Entry]:
    """Return what every container gets from the node."""

    def entry(source: str, target: str, kind: str, options: str) -> Entry:
        return Entry(source=source, target=target, kind=kind, options=tuple(options.split(",")))

    entries = [
        entry("/proc", "/proc", "", "x-create=dir,rbind,rw,nosuid,nodev,noexec,rslave"),
        entry("/sys", "/sys", "", "x-create=dir,rbind,ro,nosuid,nodev,noexec,rslave"),
        entry("/dev", "/dev", "", "x-create=dir,rbind,rw,nosuid,noexec,rslave"),
        entry("tmpfs", "/tmp", "tmpfs", "x-create=dir,nosuid,nodev,mode=1777"),  # noqa: S108 - the container's
        entry("tmpfs", "/var/run", "tmpfs", "x-create=dir,nosuid,nodev,mode=755"),
        entry("tmpfs", "/var/lock", "tmpfs", "x-create=dir,nosuid,nodev,mode=755"),
        entry("/etc/hosts", "/etc/hosts", "", "x-create=file,bind,ro,nosuid,nodev,noexec,private"),
        entry("/etc/hostname", "/etc/hostname", "", "x-create=file,bind,ro,nosuid,nodev,noexec,private,nofail"),
        entry("/etc/resolv.conf", "/etc/resolv.conf", "", "x-create=file,bind,ro,nosuid,nodev,noexec,private,nofail"),
        entry("/etc/machine-id", "/etc/machine-id", "", "x-create=file,bind,ro,nosuid,nodev,noexec,private,nofail"),
    ]
    if own_network:
        # Some kernels and engines refuse a new sysfs to a user namespace; the node's stays visible then.
        entries.append(entry("sysfs", "/sys", "sysfs", "ro,nosuid,nodev,noexec,nofail"))
    if own_ipc:
        entries.append(entry("tmpfs", "/dev/shm", "tmpfs", "nosuid,nodev,noexec,mode=1777"))  # noqa: S108
        entries.append(entry("mqueue", "/dev/mqueue", "mqueue", "nosuid,nodev,noexec,nofail"))
    return entries


def fstab(text: str) -> list[Entry]:
    """Read an fstab as an image carries it: its volumes, bound onto themselves to stay writable."""
    entries = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 2 or fields[0].startswith("#"):  # noqa: PLR2004 - source and target
            continue
        source = fields[0].removeprefix("${ENROOT_ROOTFS}")
        inside = source != fields[0]
        kind = fields[2] if len(fields) > 2 and fields[2] != "none" else ""  # noqa: PLR2004
        options = tuple(fields[3].split(",")) if len(fields) > 3 else ("rbind", "x-create=auto")  # noqa: PLR2004
        entries.append(Entry(source=source, target=fields[1], kind="inside" if inside else kind, options=options))
    return entries


def requested(source: str, target: str, flags: str) -> Entry:
    """One entry of --container-mounts or --mount; flags are joined with + or commas."""
    wanted = tuple(flag for flag in flags.replace("+", ",").split(",") if flag)
    if source == "tmpfs":
        return Entry(source=source, target=target, kind="tmpfs", options=("x-create=dir", *wanted))
    if source == "umount":
        return Entry(source=source, target=target, options=("x-detach", *wanted))
    return Entry(source=source, target=target, options=("x-create=auto", "rbind", *wanted))


def check_sources(entries: Iterable[Entry]) -> list[Entry]:
    """Make sources absolute and free of links while the node's root is still ours; raises Failure for missing ones."""
    checked = []
    for entry in entries:
        if entry.kind or "x-detach" in entry.options:
            checked.append(entry)
            continue
        source = os.path.realpath(entry.source)
        if Path(source).exists():
            checked.append(Entry(source=source, target=entry.target, options=entry.options))
        elif "nofail" not in entry.options:
            raise Failure(f"--container-mounts: source path does not exist: {entry.source}")
    return checked


def _inside(target: str) -> str:
    """Return a target as an absolute path of the container; raises OSError when it climbs out of it."""
    parts: list[str] = []
    for part in target.split("/"):
        if part == ".." and not parts:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), target)
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return os.path.realpath("/" + "/".join(parts))


def _create(target: str, *, directory: bool) -> None:
    if directory:
        Path(target).mkdir(parents=True, exist_ok=True)
    elif not os.path.lexists(target):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def _flags(options: Iterable[str]) -> tuple[int, str]:
    """Split options into the kernel's flags and what is left for the file system."""
    flags, data = 0, []
    for option in options:
        if option in SET:
            flags |= SET[option]
        elif option in CLEARED:
            flags &= ~CLEARED[option]
        elif option not in IGNORED and not option.startswith("x-create="):
            data.append(option)
    return flags, ",".join(data)


def carried_over(path: str) -> int:
    """Return the flags of the mount at a path that a user namespace may not take away when it changes others."""
    present = os.statvfs(path).f_flag
    return sum(carried for flag, carried in INHERITED.items() if present & flag)


def _perform(entry: Entry, node: int) -> None:
    target = _inside(entry.target)
    if "x-detach" in entry.options:
        umount(target)
        return
    flags, data = _flags(entry.options)
    os.fchdir(node)
    # Relative, so that it means the node's file although / is the container's.
    source = entry.source if entry.kind else "." + entry.source
    directory = not (flags & MS_BIND) or stat.S_ISDIR(Path(source).stat().st_mode)
    if any(option.startswith("x-create=") for option in entry.options):
        _create(target, directory=directory)
    plain = flags & ~PROPAGATION
    if flags & MS_BIND:
        mount(source, target, "none", plain & (MS_BIND | MS_REC if "rbind" in entry.options else MS_BIND))
        change = plain & ~(MS_BIND | MS_REC)
        if change:
            mount("none", target, "none", MS_REMOUNT | MS_BIND | change | carried_over(target))
    else:
        mount(source, target, entry.kind, plain & ~MS_REC, data)
    for kind in (MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE):
        if flags & kind:
            mount("none", target, "none", kind | (flags & MS_REC if _recursive(entry) else 0))


def _recursive(entry: Entry) -> bool:
    return any(option in ("rprivate", "rslave", "rshared", "runbindable") for option in entry.options)


def perform(entries: Iterable[Entry], node: int) -> None:
    """Do the mounts, in order; `node` is an open descriptor of the node's root directory. Raises Failure."""
    for entry in entries:
        try:
            _perform(entry, node)
        except OSError as error:
            if "nofail" in entry.options:
                continue
            action = "unmount" if "x-detach" in entry.options else "mount"
            raise Failure(f"failed to {action}: {entry.source} at {entry.target}: {error.strerror}") from error
    with contextlib.suppress(OSError):
        os.chdir("/")


def read_only(path: str) -> None:
    """Make the mount at a path read-only, keeping its other flags."""
    mount("none", path, "none", MS_REMOUNT | MS_BIND | MS_RDONLY | carried_over(path))
