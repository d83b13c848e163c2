"""System calls that Python 3.11 does not offer, and the user namespace built from them."""

import contextlib
import ctypes
import os
from pathlib import Path
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

# In the order to join them: the user namespace gives the right to join the others, the mounts take away /proc.
NAMESPACES = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "net": CLONE_NEWNET,
    "mnt": CLONE_NEWNS,
}

MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(kinds: int) -> None:
    """Move this process into new namespaces; `kinds` is a sum of CLONE_NEW* numbers."""
    _check(_libc.unshare(kinds), "unshare")


def setns(fd: int, kind: int) -> None:
    """Join the namespace that `fd` (an open /proc/PID/ns file) stands for."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount a file system; paths are passed as they are, flags are the kernel's MS_* numbers."""
    arguments = [ctypes.c_char_p(os.fsencode(text)) for text in (source, target, kind)]
    options = ctypes.c_char_p(os.fsencode(data)) if data else None
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), options), target)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """Call umount2(2)."""
    _check(_libc.umount2(ctypes.c_char_p(os.fsencode(target)), flags), target)


def pivot_root_here() -> None:
    """Make the current directory (a mount point) the root; the old root stays mounted below it, see pivot_root(2)."""
    number = ctypes.c_long(PIVOT_ROOT[os.uname().machine])
    _check(_libc.syscall(number, ctypes.c_char_p(b"."), ctypes.c_char_p(b".")), "pivot_root")


def no_new_privileges() -> None:
    """Switch off set-user-id programs for this process and all it starts."""
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask for a signal when the parent ends (0 takes the wish back)."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0), "pdeathsig")


def enter_user_namespace(*, kinds: int = 0, as_root: bool) -> None:
    """Become the only user of a new user namespace, as oneself or as its root, with mounts of one's own."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER | CLONE_NEWNS | kinds)
    Path("/proc/self/uid_map").write_text(f"{0 if as_root else uid} {uid} 1", encoding="ascii")
    # The kernel lets an unprivileged process map its group only after it has given up changing groups.
    with contextlib.suppress(PermissionError):
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{0 if as_root else gid} {gid} 1", encoding="ascii")


def join_namespaces(process: int | str) -> None:
    """Enter all the namespaces of a process that differ from ours; the root directory becomes that process'.

    The process is a number, or the path below /proc of its folder. Raises FileNotFoundError or ProcessLookupError,
    before anything has changed, when it has ended.
    """
    handles = {name: os.open(f"/proc/{process}/ns/{name}", os.O_RDONLY) for name in NAMESPACES}
    for name, kind in NAMESPACES.items():
        if os.fstat(handles[name]).st_ino != Path(f"/proc/self/ns/{name}").stat().st_ino:
            setns(handles[name], kind)
        os.close(handles[name])
