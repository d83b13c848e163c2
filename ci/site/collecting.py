"""The files of a cluster's configuration, read over SSH as an ordinary user. Nothing is made there, and no job runs."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
import re
import shlex

from ci.environment.ssh import Connection
from ci.errors import SiteError
from ci.matrix import slurm_conf
from ci.matrix.profile_files import ENDS
from ci.site.observing import settings_of

PROGRAMS = (
    *("prolog", "epilog", "taskprolog", "taskepilog", "prologslurmctld", "epilogslurmctld"),
    *("srunprolog", "srunepilog"),
)
"""Keys of slurm.conf in small letters that name programs, which a cell's nodes can run as well."""
DEEP = 5
"""How often a file that is included may include another one."""
_LARGEST = 262144
"""Bytes: a file of settings or a script has no more."""
# One line for each file: what it is, and its path; its content has no line ends.
_READ = """
cd {folder} 2>/dev/null || exit 0
for it in {patterns}; do
    if test -f "$it" && test -r "$it" && test "$(wc -c < "$it")" -le {largest}; then
        echo "file $(base64 -w 0 < "$it") $it"
    elif test -e "$it"; then
        echo "refused - $it"
    fi
done
"""
_NAMES = "hostname -s; hostname -f; hostname -d; id -un"
_ENROOT = 'echo "${ENROOT_SYSCONF_PATH:-/etc/enroot}"'
# A name such as `login` or `blue` may be anybody's word; one with a digit, a dot or a hyphen is a name.
_A_NAME = re.compile(r"(?=.*[\d.-])[\w.-]{2,}")
HOSTS = ("slurmctldhost", "accountingstoragehost", "accountingstoragebackuphost", "jobcomphost", "clustername")
"""How keys of slurm.conf in small letters begin that name hosts, and the cluster."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The files of a site's configuration that a user may read."""

    slurm: str
    """Its version."""
    folder: str
    """Where slurm.conf lies."""
    plugstack: str = ""
    """The file that names SPANK plugins."""
    enroot: str = "/etc/enroot"
    """Where enroot's settings lie."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """By their path there."""
    refused: tuple[str, ...] = ()
    """What is there, and is not readable, is no file, or is too large."""
    folders: frozenset[str] = frozenset()
    """Of the sources of enroot's mounts: those that are folders there."""
    names: frozenset[str] = frozenset()
    """Of hosts, of the domain, of the user and of the cluster: what a profile does not tell."""

    def matching(self, pattern: str) -> list[str]:
        """Return the paths of collected files that a path stands for, which may have wildcards as a shell's."""
        whole = str(PurePosixPath(self.folder, pattern))
        return sorted(path for path in self.files if path == whole or fnmatchcase(path, whole))


def collect(connection: Connection) -> Collected:
    """Read the files that Slurm and enroot have their settings from, on the login node.

    :raises SiteError: if Slurm does not answer there, or nothing can be read.
    """
    settings = settings_of(connection)
    conf = PurePosixPath("/etc/slurm", settings.get("slurm_conf", "slurm.conf"))
    # Without daemons on a configless login node, each command has a file of its own, which is gone when it ends.
    folders = dict.fromkeys((str(conf.parent), "/run/slurm/conf", "/etc/slurm"))
    plugstack = settings.get("plugstackconfig", "")
    enroot = connection.run(_ENROOT).stdout.strip()
    found: dict[str, bytes] = {}
    refused: set[str] = set()

    def read(folder: str, patterns: Iterable[str]) -> None:
        for path, content in _read(connection, folder, patterns):
            if content is None:
                refused.add(path)
            else:
                found[path] = content

    for folder in folders:
        read(folder, ["slurm.conf"])
        if found or refused:
            break
    else:
        # None of them has it: what Slurm says of its own counts for the other files.
        folder = str(conf.parent)
    read(folder, [*("cgroup.conf", "job_container.conf", "plugstack.conf"), *([plugstack] if plugstack else [])])
    read(folder, [f"plugstack.conf.d/*{ENDS['plugstack.conf.d']}"])
    read(enroot, ["enroot.conf", *(f"{name}/*{end}" for name, end in ENDS.items() if name != "plugstack.conf.d")])
    if not found:
        raise SiteError(
            "no file of Slurm's or enroot's configuration can be read there",
            where=f"{folder}, {enroot}",
            why="they are not there, or not for this user: " + (", ".join(sorted(refused)) or "nothing was found"),
            next_step="ask its administrators for copies, and put them into a folder: docs/profiles.md",
        )
    for _ in range(DEEP):
        here = Collected(slurm="", folder=folder, files=found)
        more = [source for source in _named(found, folder, plugstack) if not here.matching(source)]
        if not more:
            break
        read(folder, more)
    # A line of fstab begins with the source of its mount.
    sources = {
        line.split()[0] for path, content in found.items() if path.endswith(".fstab") for line in _lines(content)
    }
    return Collected(
        slurm=settings["slurm_version"],
        folder=folder,
        plugstack=plugstack if plugstack in found else f"{folder}/plugstack.conf",
        enroot=enroot,
        files=found,
        refused=tuple(sorted(refused)),
        folders=frozenset(_folders(connection, sources)),
        names=frozenset(_names(connection, settings)),
    )


def _lines(content: bytes) -> list[str]:
    text = content.decode(errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _read(connection: Connection, folder: str, patterns: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield what patterns stand for: each path, and its content, None where that is not to be had."""
    words = " ".join(_quoted(part) for part in patterns)
    script = _READ.format(folder=shlex.quote(folder), patterns=words, largest=_LARGEST)
    for line in connection.run(script).stdout.splitlines():
        what, _, rest = line.partition(" ")
        # "file BASE64 PATH" or "refused - PATH": only the path may have spaces.
        content, _, name = rest.partition(" ")
        if what in ("file", "refused"):
            yield str(PurePosixPath(folder, name)), base64.b64decode(content) if what == "file" else None


def _quoted(pattern: str) -> str:
    """Return a pattern for a shell, in which wildcards alone mean something."""
    return "".join(part if part in ("*", "?") else shlex.quote(part) for part in re.split(r"([*?])", pattern) if part)


def _named(files: Mapping[str, bytes], folder: str, plugstack: str) -> list[str]:
    """Return what Slurm's files include or run."""
    found = []
    for path, content in files.items():
        if path == plugstack or path.startswith(f"{folder}/plugstack"):
            words = (line.split() for line in _lines(content))
            # "include /etc/slurm/plugstack.conf.d/*"
            found += [pair[1] for pair in words if pair[0].lower() == "include" and len(pair) > 1]
        elif path.endswith(".conf") and path.startswith(folder):
            named = slurm_conf.statements_of(content.decode(errors="replace"))
            found += [
                statement.value
                for statement in named
                if statement.include or (statement.key.lower() in PROGRAMS and statement.value[:1] == "/")
            ]
    return list(dict.fromkeys(found))


def _folders(connection: Connection, sources: Iterable[str]) -> list[str]:
    words = " ".join(shlex.quote(source) for source in sorted(sources) if source.startswith("/"))
    return connection.run(f'for it in {words}; do if test -d "$it"; then echo "$it"; fi; done').stdout.splitlines()


def _names(connection: Connection, settings: Mapping[str, str]) -> Iterator[str]:
    said = [connection.run(_NAMES).stdout, *(value for key, value in settings.items() if key.startswith(HOSTS))]
    for word in re.split(r"[\s,()]+", " ".join(said)):
        if _A_NAME.fullmatch(word) and not word.startswith("localhost"):
            yield word
