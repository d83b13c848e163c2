"""Profiles: a site's settings, as a folder that is laid over a cell's nodes. docs/profiles.md says what can be in one.

Files stay files: what they mean, Slurm and enroot know. Only what would take a cell apart is refused here, and what has
a name that nothing reads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from ci.matrix.profile_files import (
    BESIDE,
    CGROUP_CONF,
    DESCRIPTION,
    FILES,
    JOB_CONTAINER_CONF,
    OF_REAL_ENROOT,
    SCRIPTS,
    SLURM_CONF,
    TAKEN,
    Fault,
    ProfileFile,
    Reading,
    loads_pyxis,
    taken_of,
)
from ci.matrix.tables import Faults, TomlTable, read_table

# With the end of the line: enroot reads with `while read -r key value`, which drops a last line that has none. Then the
# shell reads the value (`eval echo`), and takes what follows " #" for a comment.
_OF_ENROOT = re.compile(r"^[ \t]*(ENROOT_[A-Z_]+)[ \t]*[ \t=][ \t]*(.*?\S)(?:[ \t]+#.*)?\s*\n", re.MULTILINE)
# ``required /usr/lib/slurm/spank_pyxis.so container_scope=job use_enroot_load=1``
_OF_PYXIS = re.compile(r"^[ \t]*(?:required|optional)[ \t]+\S*spank_pyxis\.so[ \t]+(.*)", re.MULTILINE)
# As `config::load` has it (https://github.com/NVIDIA/enroot/blob/master/enroot.in).
_READ_BY_ENROOT = re.compile(
    r"\s*((?P<key>ENROOT_[A-Z_]+|(MELLANOX|NVIDIA)_\S*|SSL_CERT_(DIR|FILE)|(all|no|http|https)_proxy)([ \t=]|$)|#|$)"
)
_CGROUP = re.compile(r"(^|[/,])cgroup(,|$)")  # task/cgroup, which may also be written as cgroup
PASSED_OVER = "enroot passes over it without a word"
"""Of a line that means nothing to it."""
_PATHS_OF_ENROOT = re.compile(r"\s*(ENROOT_(?:RUNTIME|CACHE|DATA|TEMP)_PATH|ENROOT_ALLOW_HTTP)\b")


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
        found, read = cls.with_faults(paths.PROFILES / name)
        read.raise_if_any()
        return found

    @classmethod
    def with_faults(cls, folder: Path) -> tuple[Self, Reading]:
        """Read the profile in a folder, and what is wrong with it."""
        read, table = Reading(folder=folder), _description(folder)
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
        # After finish(), which finds the unknown keys.
        read.faults += [Fault(source=DESCRIPTION, why=text) for text in table.faults.lines]
        read.faults += found._faults()
        return found, read

    @property
    def digest(self) -> str:
        """Tells it from others of its name, and from what it was before an edit."""
        parts = [
            f"{path} {file.mode:o} {hashlib.sha256(file.content).hexdigest()}" for path, file in self.files.items()
        ]
        # Eight digits: they stand beside the name in tables, and tell edits of one profile apart.
        return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:8]

    @property
    def label(self) -> str:
        """Its name and its digest, as results have them beside the versions."""
        return f"{self.name} {self.digest}"

    @property
    def slurm_conf(self) -> str:
        """What it says in slurm.conf: its own file, and a key for each script that it has."""
        own = self.files[SLURM_CONF].text if SLURM_CONF in self.files else ""
        scripts = [f"{key}={FILES[name]}" for name, key in SCRIPTS.items() if FILES[name] in self.files]
        return "\n".join([*own.splitlines(), *scripts])

    @property
    def settings(self) -> Mapping[str, str]:
        """What it says in slurm.conf, with what this includes, and in its other files; by key in small letters.

        These are cgroup.conf, job_container.conf, enroot.conf and the options of Pyxis' plugin. A hook of enroot is a
        key as well: ``hooks.d/NAME``.
        """
        # Slurm reads these two as it reads slurm.conf.
        others = (file.text for path, file in self.files.items() if path in (CGROUP_CONF, JOB_CONTAINER_CONF))
        texts = [self.slurm_conf, *self._included(), *others]
        found = {
            key: value for text in texts for setting in slurm_conf.lines_of(text) for key, value in setting.settings
        }
        # Backwards, each over what was read before: in enroot's files the first that sets a key holds.
        for path, file in sorted(self.files.items(), reverse=True):
            if file.configures_enroot:
                found |= {key.lower(): value for key, value in reversed(_OF_ENROOT.findall(file.text))}
            elif file.folder == "plugstack.conf.d":
                words = (word for line in _OF_PYXIS.findall(file.text) for word in line.split())
                found |= {key: value for key, _, value in (word.partition("=") for word in words)}
            elif file.folder == "hooks.d":
                # In small letters like all keys, because `says` asks so.
                found[f"hooks.d/{PurePosixPath(path).name}".lower()] = ""
        return found

    @property
    def cgroups(self) -> bool:
        """Whether Slurm uses cgroups: then nodes need a tree of their own that they may write to."""
        return any(map(_CGROUP.search, self.settings.values()))

    @property
    def binds_tasks(self) -> bool:
        """Whether Slurm binds tasks to CPUs by their affinity."""
        return "affinity" in self.settings.get("taskplugin", "")

    @property
    def node_scripts(self) -> tuple[str, ...]:
        """What its nodes source before a daemon starts: files beside the profiles."""
        settings = self.settings
        wanted = {
            # Nodes source their scripts in the order of their names, and this one has to be the first.
            "0-namespaces.sh": says(settings, "JobContainerType=job_container/tmpfs"),
            "cgroups.sh": self.cgroups,
            "fuse.sh": says(settings, "use_squashfuse=1"),
            "log.sh": says(settings, "ENROOT_RESTRICT_DEV"),
            "configless.sh": says(settings, "SlurmctldParameters=enable_configless"),
        }
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)

    def over(self, template: str) -> str:
        """Return the slurm.conf of a cell with this profile over it."""
        return slurm_conf.laid_over(template, self.slurm_conf, tuple(self._included()))

    def ignored(self) -> Iterator[Fault]:
        """Yield the files and lines that nothing reads, and why."""
        for name in BESIDE:
            if name != DESCRIPTION and (self.folder / name).exists():
                yield Fault(source=name, why=f"{name}: it is for people")
        for file in self.files.values():
            if file.configures_enroot:
                for number, line in enumerate(file.text.splitlines(keepends=True), start=1):
                    read = _READ_BY_ENROOT.match(line)
                    if not read or (read["key"] and not line.endswith("\n")):
                        why = ", because the line has no end" if read else ""
                        yield file.fault(number, f"{PASSED_OVER}{why}: {line.strip()}")

    def unfit(self, cell: Cell) -> str:
        """Return why it can't be laid over a cell; empty if it can."""
        if cell.runtime is Runtime.LEGACY:
            return "a legacy cell has one configuration"
        if not fits(cell, self.only):
            return f"it is for {in_words(self.only)}"
        real = [file.source for file in self.files.values() if file.folder in OF_REAL_ENROOT or loads_pyxis(file)]
        if real and cell.runtime is not Runtime.NVIDIA:
            return f"only real enroot and Pyxis read {real[0]}"
        return "; ".join(_unknown(self.settings, cell))

    def _included(self) -> Iterator[str]:
        """Yield the text of what its slurm.conf includes."""
        for line in slurm_conf.lines_of(self.slurm_conf):
            if file := self.files.get(_at(line.include)):
                yield file.text

    def _faults(self) -> Iterator[Fault]:
        for path, file in self.files.items():
            if path == SLURM_CONF:
                yield from _faults_of_slurm_conf(file)
                yield from self._faults_beside_slurm_conf(file)
            elif file.configures_enroot:
                for number, line in enumerate(file.text.splitlines(), start=1):
                    if said := _PATHS_OF_ENROOT.match(line):
                        why = "enroot's folders lie on a volume, and the registry of a run speaks plain http"
                        yield file.fault(number, f"{said[1]} cannot be set: {why}")

    def _faults_beside_slurm_conf(self, file: ProfileFile) -> Iterator[Fault]:
        """Yield what slurm.conf includes that is missing or can't hold, and the scripts that are set twice."""
        for line in slurm_conf.lines_of(file.text):
            if line.include and (included := self.files.get(_at(line.include))):
                yield from _faults_of_slurm_conf(included)
            elif line.include:
                yield file.fault(line.number, f"it includes files{_at(line.include)}, which is missing")
            for name, key in SCRIPTS.items():
                if key.lower() in dict(line.settings) and FILES[name] in self.files:
                    yield file.fault(line.number, f"{key} is set, and the file {name} would set it as well")


def _faults_of_slurm_conf(file: ProfileFile) -> Iterator[Fault]:
    return (file.fault(line, why) for line, why in slurm_conf.faults_of(file.text))


def _folders(table: TomlTable, key: str) -> tuple[str, ...]:
    """Return folders of a node that a key lists."""
    found = table.texts(key)
    for index, folder in enumerate(found):
        if not folder.startswith("/") or folder == "/":
            table.fault(f"{key}[{index}]", f"write a folder of the node, such as /scratch, not {folder!r}")
        elif taken := taken_of(folder):
            table.fault(f"{key}[{index}]", f"{folder} cannot lie in memory: {TAKEN[taken]}")
    return found


def _description(folder: Path) -> TomlTable:
    file = folder / DESCRIPTION
    try:
        # Without a description a folder is a profile all the same: a site's own files are enough.
        return read_table(file) if file.exists() else TomlTable({}, "", Faults(path=file))
    except MatrixError as error:
        raise ProfileError(error.what, where=error.where, why=error.why) from error


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
    # slurmctld or slurmd ends where it finds one that it does not know, as CgroupPlugin=disabled before 24.05.
    for name, release in _releases()["since"].items():
        if says(settings, name) and now < Version(release):
            yield f"Slurm {cell.slurm} does not know {name}, which came with {release}"
    for name, release in _releases()["until"].items():
        if says(settings, name) and now >= Version(release):
            yield f"Slurm {cell.slurm} does not know {name} any more, since {release}"
