"""Starting a container: new namespaces, its root file system as /, the image's environment, then its /etc/rc."""

from collections.abc import Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
import grp
import os
from pathlib import Path
import pwd
import re
import shutil
from typing import NoReturn

from . import containers, image, mounts, store
from .failure import Failure
from .mounts import Entry
from .settings import Settings
from .system import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWUTS,
    die_with_parent,
    enter_user_namespace,
    join_namespaces,
    mount,
    no_new_privileges,
    pivot_root_here,
    umount,
)

KINDS = {"net": CLONE_NEWNET, "ipc": CLONE_NEWIPC, "uts": CLONE_NEWUTS}
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NO_ENTRYPOINT = 'exec "$@"\n'


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is to run, and how."""

    rootfs: Path
    name: str
    command: Sequence[str]
    mounts: Sequence[Entry] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Set over the image's own variables, and seen by the entrypoint."""
    entrypoint: bool = True
    output: int | None = None
    """Descriptor that gets the output of the container's first process; None leaves it where it is."""
    join: int = 0
    """A process whose container is to be entered instead of starting one; 0 for none."""


@dataclass(frozen=True, kw_only=True)
class _User:
    name: str
    uid: int
    gid: int
    gecos: str
    home: str
    shell: str
    group: str


def _user() -> _User:
    uid, gid = os.getuid(), os.getgid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise Failure(f"the node knows no user with the id {uid}") from None
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = entry.pw_name
    return _User(
        name=entry.pw_name,
        uid=uid,
        gid=gid,
        gecos=entry.pw_gecos,
        home=entry.pw_dir,
        shell=entry.pw_shell,
        group=group,
    )


def enter(settings: Settings, start: Start) -> dict[str, str]:
    """Go into the container, a new one or the running one; returns the environment for what is to be run there.

    Whoever may be starting the same container has to hold its name meanwhile. Raises Failure when something is in the
    way.
    """
    user = _user()
    if start.join and _join(settings, start):
        die_with_parent(0)
        return _variables(settings, start, user)
    # What is made here can be read by everybody; the command gets the umask of who asked for it.
    before = os.umask(0o022)
    entries = mounts.check_sources(
        [*mounts.system(own_network="net" in settings.unshare, own_ipc="ipc" in settings.unshare), *_home(settings)],
    )
    wanted = mounts.check_sources(start.mounts)
    try:
        node = _switch_root(settings, start)
        variables = _prepare(settings, start, user, node, entries=entries, wanted=wanted)
        if not settings.writable:
            mounts.read_only("/")
        os.fchdir(node)
        umount(".")
        os.chdir("/")
        os.close(node)
        no_new_privileges()
        os.umask(_umask(default=before))
    except OSError as error:
        raise Failure(f"could not enter the container {start.name}: {error}") from error
    die_with_parent(0)  # the container may outlive the task that made it
    return variables


def _home(settings: Settings) -> list[Entry]:
    if not settings.mount_home:
        return []
    home = settings.environment["HOME"]
    target = "/root" if settings.remap_root else home
    return [Entry(source=home, target=target, options=("x-create=dir", "rbind", "rw", "nosuid"))]


def _switch_root(settings: Settings, start: Start) -> int:
    """Enter new namespaces and make the container's files the root; returns a descriptor of the node's root."""
    kinds = sum(KINDS[kind] for kind in settings.unshare)
    layers = containers.overlay(start.rootfs)
    enter_user_namespace(kinds=kinds, as_root=settings.remap_root)
    mount("none", "/", "none", mounts.MS_SLAVE | mounts.MS_REC)
    flags = mounts.MS_NOSUID | mounts.MS_NODEV
    if layers is None:
        root = str(start.rootfs)
        mount(root, root, "none", mounts.MS_BIND)
        mount("none", root, "none", mounts.MS_REMOUNT | mounts.MS_BIND | flags | mounts.carried_over(root))
    else:
        root = str(layers.mount(start.name, flags))
    node = os.open("/", os.O_PATH | os.O_DIRECTORY)
    os.chdir(root)
    pivot_root_here()
    os.chdir("/")
    return node


def _prepare(
    settings: Settings,
    start: Start,
    user: _User,
    node: int,
    *,
    entries: Sequence[Entry],
    wanted: Sequence[Entry],
) -> dict[str, str]:
    """Mount, and write what depends on node and user; returns the first process' environment."""
    etc = Path("/etc")
    etc.mkdir(exist_ok=True)
    volumes = mounts.fstab(_text(etc / "fstab"))
    mounts.perform(entries, node)
    _own_volumes(volumes)
    _accounts(user)
    _timezone(node)
    if settings.remap_root and (etc / "debian_version").exists():
        # apt would drop to a user that does not exist here.
        path = etc / "apt/apt.conf.d/embedded"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('APT::Sandbox::User "root";\n', encoding="ascii")
    local = image.RC_LOCAL if start.entrypoint else NO_ENTRYPOINT
    if _text(etc / "rc.local") != local:
        (etc / "rc.local").write_text(local, encoding="ascii")
    mounts.perform(wanted, node)
    return _variables(settings, start, user)


def _umask(*, default: int) -> int:
    """Return the umask of the image's logins, if it says one."""
    found = re.search(r"^UMASK\s+([0-7]+)", _text(Path("/etc/login.defs")), re.MULTILINE)
    return int(found[1], 8) if found else default


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _own_volumes(entries: Sequence[Entry]) -> None:
    """Make each volume a mount of its own, writable also in a read-only container."""
    for entry in entries:
        if entry.kind == "inside":
            Path(entry.target).mkdir(parents=True, exist_ok=True)
            mount(entry.target, entry.target, "none", mounts.MS_BIND)


def _accounts(user: _User) -> None:
    """Make root, nobody and the submitter known, before whatever the image has under these names."""
    shell = user.shell if os.access(user.shell, os.X_OK) else "/bin/sh"
    people = {
        "root": f"root:x:0:0:root:/root:{shell}",
        "nobody": "nobody:x:65534:65534:nobody:/:/sbin/nologin",
        user.name: f"{user.name}:x:{user.uid}:{user.gid}:{user.gecos}:{user.home}:{shell}",
    }
    groups = {"root": "root:x:0:", "nogroup": "nogroup:x:65534:", user.group: f"{user.group}:x:{user.gid}:"}
    _merge(Path("/etc/passwd"), people)
    _merge(Path("/etc/group"), groups)
    home = Path(user.home)
    if not home.exists():
        with contextlib.suppress(OSError):
            home.mkdir(mode=0o700, parents=True)
            if Path("/etc/skel").is_dir():
                shutil.copytree("/etc/skel", home, dirs_exist_ok=True)


def _merge(path: Path, ours: Mapping[str, str]) -> None:
    # apt's own user can't be switched to: there is one user id in here.
    dropped = {*ours, "_apt"}
    kept = [line for line in _text(path).splitlines() if line.partition(":")[0] not in dropped]
    text = "\n".join([*ours.values(), *kept]) + "\n"
    if _text(path) != text:
        path.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _timezone(node: int) -> None:
    with contextlib.suppress(OSError):
        link = os.readlink("etc/localtime", dir_fd=node)
        if Path("/etc", link).exists():
            Path("/etc/localtime").unlink(missing_ok=True)
            Path("/etc/localtime").symlink_to(link)


def _variables(settings: Settings, start: Start, user: _User) -> dict[str, str]:
    """Return the first process' environment: what a login sets, over it the image, the node and the command line."""
    root = os.geteuid() == 0
    home = "/root" if root else user.home
    shell = user.shell if os.access(user.shell, os.X_OK) else "/bin/sh"
    variables = {
        "TERM": "dumb",
        "HOME": home,
        "SHELL": shell,
        "USER": "root" if root else user.name,
        "LOGNAME": user.name,
        "PATH": DEFAULT_PATH,
        **image.environment(_text(Path("/etc/environment"))),
    }
    if term := settings.environment.get("TERM"):
        variables["TERM"] = term
    if settings.mount_home:
        variables["HOME"] = home if root else settings.environment["HOME"]
    return {**variables, **start.environment}


def _join(settings: Settings, start: Start) -> bool:
    """Enter a running container; False when it ended meanwhile, so that it has to be started like any other."""
    try:
        # The folder of one process never becomes another's, as its number may.
        handle = os.open(f"/proc/{start.join}", os.O_RDONLY | os.O_DIRECTORY)
        if store.container_of(settings, f"self/fd/{handle}") != start.name:
            return False
        join_namespaces(f"self/fd/{handle}")
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError as error:
        raise Failure(f"could not join the running container (process {start.join}): {error.strerror}") from error
    return True


def execute(settings: Settings, start: Start, variables: dict[str, str]) -> NoReturn:
    """Become the container's first process, as which /etc/rc runs the command. Raises Failure if that can not start."""
    if start.output is not None:
        for descriptor in (1, 2):
            os.dup2(start.output, descriptor)
    os.closerange(3, 1024)  # the plugin's channels: it waits for their ends
    with contextlib.suppress(OSError):
        os.chdir(variables["HOME"])
    shell = variables["SHELL"]
    if not os.access(shell, os.X_OK):
        shell = "/bin/sh"
    # A login shell reads the image's /etc/profile, as it does under enroot.
    first = ("-" if settings.login_shell else "") + Path(shell).name
    command = list(start.command)
    if Path("/etc/rc").exists():
        arguments = [first, "/etc/rc", *command]
    else:
        arguments = [first, "-c", 'exec "$@"', first, *(command or ["/bin/sh"])]
    try:
        os.execve(shell, arguments, variables)  # noqa: S606 - the image's own shell
    except OSError as error:
        raise Failure(f"failed to execute: {shell}: {error.strerror}") from error
