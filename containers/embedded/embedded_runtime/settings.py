"""Settings, from the same places and under the same names as enroot's: environment, enroot.conf, defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
import os
from pathlib import Path
import pwd
import re
import shlex
import stat
import subprocess

from .failure import Failure

CONFIGURATION = Path("/etc/enroot/enroot.conf")
NO = re.compile(r"(no?|N[oO]?|[fF](alse)?|FALSE|)$")
KNOWN = re.compile(r"(ENROOT_[A-Z_]+|SSL_CERT_(DIR|FILE)|(all|no|http|https)_proxy)$")
SIMPLE = re.compile(r"\$\{(\w+)(?::-([^}$`]*))?\}|\$(\w+)|\$\((id -u)\)")
# Compressing costs far more than it saves when the file is read back on the same node a moment later.
FAST_SQUASHFS = "-noI -noD -noF -noX -no-duplicates"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the node's administrator and the caller's environment decided."""

    cache: Path
    """Downloaded layers, by digest."""
    data: Path
    """Containers' root file systems, by name."""
    temporary: Path
    """Downloads under way; needs a file system that is no overlay."""
    configuration: Path
    """The user's own folder; `.credentials` in it holds the registries' passwords (netrc form)."""
    squashfs_options: tuple[str, ...]
    writable: bool
    remap_root: bool
    mount_home: bool
    login_shell: bool
    allow_http: bool
    """Plain http, and certificates nobody checks."""
    force: bool
    overlay: bool
    """Run unnamed containers on a shared, cached copy of their image instead of one copy each."""
    retries: int
    timeout: int
    """Seconds for a whole download; 0 means no limit."""
    unshare: frozenset[str]
    environment: Mapping[str, str]
    """The environment with enroot.conf's settings merged in, for programs that this one starts."""


def _expand(value: str, environment: Mapping[str, str]) -> str:
    """Evaluate a value as the shell would, without starting one in the common cases."""
    value = value.strip()
    if "$" not in value and "`" not in value:
        return value.strip("\"'")

    def replace(match: re.Match[str]) -> str:
        braced, default, bare, command = match.groups()
        return str(os.getuid()) if command else environment.get(braced or bare) or default or ""

    simple = SIMPLE.sub(replace, value)
    if not re.search(r"[$`]", simple):
        return simple.strip("\"'")
    script = f"eval echo {shlex.quote(value)}"
    done = subprocess.run(["sh", "-c", script], env=dict(environment), capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _read(path: Path, environment: dict[str, str]) -> None:
    """Add a file's settings to the environment; what is set there already wins."""
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        line = raw.strip()
        # enroot, too, drops a last line without an end: it reads by `while read`.
        if not line or line.startswith("#") or not raw.endswith("\n"):
            continue
        match = re.match(r"(\w+)(?:[ \t=]+(.*))?$", line)
        if match is None:
            raise Failure(f"{path}, line {number}: expected NAME VALUE, found: {line}")
        name, value = match[1], match[2] or ""
        if KNOWN.match(name) and not environment.get(name):
            environment[name] = _expand(value, environment)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name) or "0"
    if not text.isdecimal():
        raise Failure(f"{name} must be a whole number, not: {text}")
    return int(text)


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Merge environment, enroot.conf and its enroot.conf.d/*.conf, and make the folders they name."""
    merged = dict(os.environ if environment is None else environment)
    merged["HOME"] = home = merged.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    for path in (CONFIGURATION, *sorted(CONFIGURATION.with_suffix(".conf.d").glob("*.conf"))):
        if path.is_file():
            _read(path, merged)

    def folder(name: str, base: str, default: str) -> Path:
        return Path(merged.get(name) or f"{merged.get(base) or home + default}/enroot")

    def yes(name: str, *, default: bool = False) -> bool:
        return not NO.match(merged[name]) if name in merged else default

    settings = Settings(
        cache=folder("ENROOT_CACHE_PATH", "XDG_CACHE_HOME", "/.cache"),
        data=folder("ENROOT_DATA_PATH", "XDG_DATA_HOME", "/.local/share"),
        temporary=Path(merged.get("ENROOT_TEMP_PATH") or merged.get("TMPDIR") or "/tmp"),  # noqa: S108 - enroot's default
        configuration=folder("ENROOT_CONFIG_PATH", "XDG_CONFIG_HOME", "/.config"),
        squashfs_options=tuple((merged.get("ENROOT_SQUASH_OPTIONS") or FAST_SQUASHFS).split()),
        writable=yes("ENROOT_ROOTFS_WRITABLE"),
        remap_root=yes("ENROOT_REMAP_ROOT"),
        mount_home=yes("ENROOT_MOUNT_HOME"),
        login_shell=yes("ENROOT_LOGIN_SHELL", default=True),
        allow_http=yes("ENROOT_ALLOW_HTTP"),
        force=yes("ENROOT_FORCE_OVERRIDE"),
        overlay=yes("ENROOT_NATIVE_OVERLAYFS", default=True),
        retries=_number(merged, "ENROOT_TRANSFER_RETRIES"),
        timeout=_number(merged, "ENROOT_TRANSFER_TIMEOUT"),
        unshare=frozenset(kind for kind in ("net", "ipc", "uts") if yes(f"ENROOT_UNSHARE_{kind.upper()}")),
        environment=merged,
    )
    for path in (settings.cache, settings.data, settings.temporary):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_owner(path, shared=path == settings.temporary)
        except OSError as error:
            raise Failure(f"could not make the folder {path}: {error.strerror}") from error
    return settings


def check_owner(path: Path, *, shared: bool) -> None:
    """Raise Failure unless only its owner, the caller, can put something into a folder.

    Several users' folders lie side by side where everybody may make one: whoever made it first could swap images. A
    `shared` folder may be root's as well, and everybody's if nobody can remove what is another's (as in /tmp).
    """
    owners = (0, os.geteuid())
    found = path.stat()
    if path.lstat().st_uid not in owners or found.st_uid not in (owners if shared else owners[1:]):
        raise Failure(f"{path} belongs to another user ({found.st_uid}); remove it or choose another folder")
    if found.st_mode & 0o022 and not (shared and found.st_mode & stat.S_ISVTX):
        raise Failure(f"{path} can be written to by other users; chmod go-w {path}")
