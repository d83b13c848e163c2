"""Profiles: a site's settings, as a folder that is laid over a cell's nodes. docs/profiles.md says what can be in one.

Files stay files: what they mean, Slurm and enroot know. Only what would take a cell apart is refused here, and what has
a name that nothing reads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
import functools
import hashlib
from pathlib import Path, PurePosixPath
import re
from typing import Self

from packaging.version import Version

from ci import paths
from ci.errors import MatrixError, ProfileError
from ci.matrix import slurm_conf
from ci.matrix.behaviours import Limits, fits, in_words, read_limits, version_of
from ci.matrix.cells import Cell, Runtime, says
from ci.matrix.tables import Faults, TomlTable, did_you_mean, read_table
from ci.terminal.quantities import count

DESCRIPTION = "profile.toml"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
"""What a profile may be called: it stands in the names of containers and folders."""

SLURM_CONF, CGROUP_CONF, ENROOT_CONF = "/etc/slurm/slurm.conf", "/etc/slurm/cgroup.conf", "/etc/enroot/enroot.conf"
_JOB_CONTAINER_CONF = "/etc/slurm/job_container.conf"
_FILES = {
    "slurm.conf": SLURM_CONF,
    "cgroup.conf": CGROUP_CONF,
    "job_container.conf": _JOB_CONTAINER_CONF,
    "enroot.conf": ENROOT_CONF,
    "prolog": "/etc/slurm/prolog",
    "epilog": "/etc/slurm/epilog",
    "taskprolog": "/etc/slurm/taskprolog",
}
_FOLDERS = {
    "plugstack.conf.d": "/etc/slurm/plugstack.conf.d",
    "enroot.conf.d": "/etc/enroot/enroot.conf.d",
    "hooks.d": "/etc/enroot/hooks.d",
    "mounts.d": "/etc/enroot/mounts.d",
    "environ.d": "/etc/enroot/environ.d",
    "files": "/",
}
_SCRIPTS = {"prolog": "Prolog", "epilog": "Epilog", "taskprolog": "TaskProlog"}
"""Files that a key of slurm.conf names; it is added where the file is there."""
_ENDS = {
    "plugstack.conf.d": ".conf",
    "enroot.conf.d": ".conf",
    "hooks.d": ".sh",
    "mounts.d": ".fstab",
    "environ.d": ".env",
}
"""How the names of files end that Slurm or enroot reads in a folder; they pass over others without a word."""
_OF_REAL_ENROOT = ("hooks.d", "mounts.d", "environ.d")
_BESIDE = (DESCRIPTION, "README.md")
"""What lies in a profile's folder and is put nowhere."""
_KNOWN = (*_FILES, *_FOLDERS, *_BESIDE)
_TAKEN = {
    SLURM_CONF: "it is made from the profile's slurm.conf",
    "/etc/slurm/plugstack.conf": "it includes what is in plugstack.conf.d",
    "/etc/munge": "each run makes its own key",
    "/etc/ssh": "each run makes its own keys",
    "/etc/enroot/enroot.conf.d/50-node.conf": "it has the folders of the nodes",
    "/usr/local/sbin/node-entrypoint": "it starts the daemons",
    **dict.fromkeys(("/home", "/run", "/proc", "/sys", "/dev"), "the node mounts something over it"),
    "/var/lib/enroot-data": "the node mounts something over it",
}
"""Paths on a node that are no profile's, nor is what is below them; and why."""
_OF_ENROOT = re.compile(r"^[ \t]*(ENROOT_[A-Z_]+)[ \t]*[ \t=][ \t]*(.*\S)", re.MULTILINE)
_READ_BY_ENROOT = re.compile(
    r"\s*((ENROOT_[A-Z_]+|(MELLANOX|NVIDIA)_\S*|SSL_CERT_(DIR|FILE)|(all|no|http|https)_proxy)([ \t=]|$)|#|$)"
)
_PATHS_OF_ENROOT = re.compile(r"\s*(ENROOT_(?:RUNTIME|CACHE|DATA|TEMP)_PATH|ENROOT_ALLOW_HTTP)\b")
_PYXIS = b"/usr/lib/slurm/spank_pyxis.so"
"""Where the nodes have it, wherever a site does."""
_PYXIS_LINE = re.compile(rb"^([ \t]*(?:required|optional)[ \t]+)\S*spank_pyxis\.so", re.MULTILINE)
_OF_PYXIS = re.compile(r"^[ \t]*(?:required|optional)[ \t]+\S*spank_pyxis\.so[ \t]+(.*)", re.MULTILINE)
_PYXIS_CONF = "/etc/slurm/plugstack.conf.d/pyxis.conf"


@dataclass(frozen=True, kw_only=True)
class ProfileFile:
    """A file of a profile."""

    source: str
    """Where it lies in the profile's folder."""
    content: bytes
    mode: int

    @property
    def text(self) -> str:
        """Its content as text."""
        return self.content.decode(errors="replace")

    @property
    def folder(self) -> str:
        """The folder at the top of the profile that it is in; empty if it is in none."""
        return self.source.rpartition("/")[0].partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A profile that can be laid over a cell."""

    name: str
    folder: Path
    summary: str = ""
    """What it is, as one sentence."""
    only: Limits = field(default_factory=dict)
    """The cells that it is for."""
    nodes: int = 1
    """How many it needs."""
    accounting: bool = False
    """Whether jobs are recorded."""
    tmpfs: tuple[str, ...] = ()
    """Folders that lie in memory on each node, and that everybody may write to."""
    files: Mapping[str, ProfileFile] = field(default_factory=dict)
    """By their path on a node."""

    @classmethod
    def of(cls, name: str) -> Self:
        """Read the profile of this name that comes with the project, or that in a folder.

        :raises ProfileError: names every fault, with file and line.
        """
        folder = paths.PROFILES / name
        read, table = _Reading(folder=folder), _description(folder)
        read.check_name()
        found = cls(
            name=folder.name,
            folder=folder,
            summary=table.text("summary", ""),
            only=read_limits(table),
            nodes=table.integer("nodes", 1, least=1),
            accounting=table.boolean("accounting", default=False),
            tmpfs=_folders(table, "tmpfs"),
            files=read.files(),
        )
        table.finish()
        read.faults += [*table.faults.lines, *found._faults()]
        read.raise_if_any()
        return found

    @property
    def digest(self) -> str:
        """Tells it from others of its name, and from what it was before an edit."""
        parts = [f"{path} {it.mode:o} {hashlib.sha256(it.content).hexdigest()}" for path, it in self.files.items()]
        return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:8]

    @property
    def slurm_conf(self) -> str:
        """What it says in slurm.conf: its own file, and a key for each script that it has."""
        own = self.files[SLURM_CONF].text if SLURM_CONF in self.files else ""
        scripts = [f"{key}={_FILES[name]}" for name, key in _SCRIPTS.items() if _FILES[name] in self.files]
        return "\n".join([*own.splitlines(), *scripts])

    @property
    def settings(self) -> Mapping[str, str]:
        """What it says in slurm.conf, with what this includes, and in its other files; by key in small letters.

        These are cgroup.conf, job_container.conf, enroot.conf and the options of Pyxis' plugin. A hook of enroot is a
        key as well: ``hooks.d/NAME``.
        """
        others = (it.text for path, it in self.files.items() if path in (CGROUP_CONF, _JOB_CONTAINER_CONF))
        texts = [self.slurm_conf, *self._included(), *others]
        found = {key: value for text in texts for it in slurm_conf.lines_of(text) for key, value in it.settings}
        for path, file in sorted(self.files.items(), reverse=True):
            if path == ENROOT_CONF or file.folder == "enroot.conf.d":  # the first that says it holds
                found |= {key.lower(): value for key, value in reversed(_OF_ENROOT.findall(file.text))}
            elif file.folder == "plugstack.conf.d":
                words = (word for line in _OF_PYXIS.findall(file.text) for word in line.split())
                found |= {key: value for key, _, value in (word.partition("=") for word in words)}
            elif file.folder == "hooks.d":
                found[file.source.lower()] = ""
        return found

    @property
    def cgroups(self) -> bool:
        """Whether Slurm uses cgroups: then nodes need a tree of their own that they may write to."""
        return any("/cgroup" in value for value in self.settings.values())

    @property
    def node_scripts(self) -> tuple[str, ...]:
        """What its nodes source before a daemon starts: files beside the profiles."""
        settings = self.settings
        wanted = {
            "0-namespaces.sh": says(settings, "JobContainerType=job_container/tmpfs"),
            "cgroups.sh": self.cgroups,
            "log.sh": says(settings, "ENROOT_RESTRICT_DEV"),
            "configless.sh": says(settings, "SlurmctldParameters=enable_configless"),
        }
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)

    def over(self, template: str) -> str:
        """Return the slurm.conf of a cell with this profile over it."""
        return slurm_conf.laid_over(template, self.slurm_conf, tuple(self._included()))

    def ignored(self) -> Iterator[str]:
        """Yield the files and lines that nothing reads, and why."""
        yield from (
            f"{name}: it is for people" for name in _BESIDE if name != DESCRIPTION and (self.folder / name).exists()
        )
        for file in self.files.values():
            if file.source == "enroot.conf" or file.folder == "enroot.conf.d":
                for number, line in enumerate(file.text.splitlines(), start=1):
                    if not _READ_BY_ENROOT.match(line):
                        yield f"{file.source}:{number}: enroot passes over it without a word: {line.strip()}"

    def unfit(self, cell: Cell) -> str:
        """Return why it can't be laid over a cell; empty if it can."""
        if cell.runtime is Runtime.LEGACY:
            return "a legacy cell has one configuration"
        if not fits(cell, self.only):
            return f"it is for {in_words(self.only)}"
        real = [it.source for it in self.files.values() if it.folder in _OF_REAL_ENROOT or loads_pyxis(it)]
        if real and cell.runtime is not Runtime.NVIDIA:
            return f"only real enroot and Pyxis read {real[0]}"
        return "; ".join(_unknown(self.settings, cell))

    def _included(self) -> Iterator[str]:
        """Yield the text of what its slurm.conf includes."""
        for line in slurm_conf.lines_of(self.slurm_conf):
            if file := self.files.get(_at(line.include)):
                yield file.text

    def _faults(self) -> Iterator[str]:
        for path, file in self.files.items():
            if path == SLURM_CONF:
                yield from (f"{file.source}:{line}: {why}" for line, why in slurm_conf.faults_of(file.text))
                yield from self._faults_of_includes(file)
                yield from self._faults_of_scripts(file)
            elif file.source == "enroot.conf" or file.folder == "enroot.conf.d":
                for number, line in enumerate(file.text.splitlines(), start=1):
                    if said := _PATHS_OF_ENROOT.match(line):
                        why = "enroot's folders lie on a volume, and the registry of a run speaks plain http"
                        yield f"{file.source}:{number}: {said[1]} cannot be set: {why}"

    def _faults_of_includes(self, file: ProfileFile) -> Iterator[str]:
        for line in slurm_conf.lines_of(file.text):
            if line.include and (there := self.files.get(_at(line.include))):
                yield from (f"{there.source}:{number}: {why}" for number, why in slurm_conf.faults_of(there.text))
            elif line.include:
                yield f"{file.source}:{line.number}: files{_at(line.include)} is missing, which it includes"

    def _faults_of_scripts(self, file: ProfileFile) -> Iterator[str]:
        for line in slurm_conf.lines_of(file.text):
            for name, key in _SCRIPTS.items():
                if key.lower() in dict(line.settings) and _FILES[name] in self.files:
                    yield f"{file.source}:{line.number}: {key} is set, and there is a file {name} for it, too"


def shipped() -> list[str]:
    """Return the names of the profiles that come with this project."""
    return sorted(it.name for it in paths.PROFILES.iterdir() if it.is_dir())


def _taken(path: str) -> str:
    """Return which of the paths that are no profile's a path is, or lies below; empty for none."""
    return next((it for it in _TAKEN if path == it or path.startswith(f"{it}/")), "")


def _folders(table: TomlTable, key: str) -> tuple[str, ...]:
    """Return folders of a node that a key lists."""
    found = table.texts(key)
    for index, folder in enumerate(found):
        if not folder.startswith("/") or folder == "/":
            table.fault(f"{key}[{index}]", f"write a folder of the node, such as /scratch, not {folder!r}")
        elif taken := _taken(folder):
            table.fault(f"{key}[{index}]", f"{folder} cannot lie in memory: {_TAKEN[taken]}")
    return found


def _description(folder: Path) -> TomlTable:
    file = folder / DESCRIPTION
    try:
        return read_table(file) if file.exists() else TomlTable({}, "", Faults(path=file))
    except MatrixError as error:
        raise ProfileError(error.what, where=error.where, why=error.why) from error


@dataclass(kw_only=True)
class _Reading:
    """What is wrong with a folder, while it is read."""

    folder: Path
    faults: list[str] = field(default_factory=list)
    found: dict[str, ProfileFile] = field(default_factory=dict)
    """By their path on a node."""

    def check_name(self) -> None:
        name = self.folder.name
        if not NAME.fullmatch(name):
            self.faults.append(f"{name!r} is no name of a profile: it has small letters, digits and hyphens")
        elif name in shipped() and self.folder.parent != paths.PROFILES:
            self.faults.append(f"{name} is the name of a profile that comes with this project; rename the folder")

    def files(self) -> dict[str, ProfileFile]:
        for entry in sorted(self.folder.iterdir()):
            is_folder = entry.name in _FOLDERS
            if entry.name.startswith(".") or entry.name in _BESIDE:
                continue
            if entry.name not in _KNOWN:
                where = "; any other file stands below files/, by its path on the nodes"
                self.faults.append(f"unknown file {entry.name!r}{did_you_mean(entry.name, _KNOWN)}{where}")
            elif is_folder is not entry.is_dir():
                self.faults.append(f"{entry.name} has to be a {'folder' if is_folder else 'file'}")
            elif is_folder:
                for it in sorted(entry.rglob("*")):
                    if it.is_symlink() or not it.is_dir():
                        self._read(it, f"{_FOLDERS[entry.name]}/{it.relative_to(entry)}")
            else:
                self._read(entry, _FILES[entry.name])
        if not self.found and not self.faults and not (self.folder / DESCRIPTION).exists():
            self.faults.append(f"there is nothing in it; it can have {', '.join(_KNOWN)}")
        if any(map(loads_pyxis, self.found.values())):
            # Else the plugin would be loaded twice: the image has a line of its own in this file.
            self.found.setdefault(_PYXIS_CONF, ProfileFile(source="", content=b"# see beside\n", mode=0o644))
        return self.found

    def _read(self, file: Path, place: str) -> None:
        """Read a file that belongs at a place on the nodes."""
        source, path = str(file.relative_to(self.folder)), str(PurePosixPath("/", place.lstrip("/")))
        folder, _, name = source.partition("/")
        taken = _taken(path)
        if taken and source != "slurm.conf":
            self.faults.append(f"{source} cannot be put at {path}: {_TAKEN[taken]}")
        elif folder in _ENDS and ("/" in name or not name.endswith(_ENDS[folder])):
            self.faults.append(f"{source} is read by nothing: a name in {folder} ends in {_ENDS[folder]}")
        elif path in self.found:
            self.faults.append(f"{source} and {self.found[path].source} are both put at {path}")
        elif not file.is_file():
            self.faults.append(f"{source} is no file: a link that leads nowhere or to a folder, a pipe, or a device")
        else:
            read = ProfileFile(source=source, content=file.read_bytes(), mode=0o644)
            if source in _SCRIPTS or read.folder == "hooks.d" or file.stat().st_mode & 0o100:
                read = replace(read, mode=0o755)
            if read.folder == "plugstack.conf.d":
                read = replace(read, content=_PYXIS_LINE.sub(rb"\1" + _PYXIS, read.content))
            self.found[path] = read

    def raise_if_any(self) -> None:
        if self.faults:
            raise ProfileError(
                f"the profile {self.folder.name} has {count(len(self.faults), 'fault')}:"
                + "".join(f"\n  - {it}" for it in self.faults),
                where=str(self.folder),
                next_step="correct it; what can be in a profile: docs/profiles.md",
            )


def loads_pyxis(file: ProfileFile) -> bool:
    """Tell whether it is a file of plugstack.conf.d that names Pyxis' plugin."""
    return file.folder == "plugstack.conf.d" and _PYXIS_LINE.search(file.content) is not None


def _at(include: str) -> str:
    """Return the path of a file that slurm.conf includes; a relative one is relative to slurm.conf."""
    return str(PurePosixPath("/etc/slurm", include))


@functools.cache
def _releases() -> Mapping[str, Mapping[str, str]]:
    """Return, by ``since`` and ``until``, settings that not every release of Slurm takes, with the release."""
    table = read_table(paths.PROFILES / "settings.toml")
    found = {}
    for name in ("since", "until"):
        inner = table.table(name)
        found[name] = {key: inner.text(key) for key in inner.values} if inner else {}
    table.faults.raise_if_any()
    return found


def _unknown(settings: Mapping[str, str], cell: Cell) -> Iterator[str]:
    """Yield which settings a cell's Slurm does not take."""
    now = version_of(cell, "slurm")
    for name, release in _releases()["since"].items():
        if says(settings, name) and now < Version(release):
            yield f"Slurm {cell.slurm} does not know {name}, which came with {release}"
    for name, release in _releases()["until"].items():
        if says(settings, name) and now >= Version(release):
            yield f"Slurm {cell.slurm} does not know {name} any more, since {release}"
