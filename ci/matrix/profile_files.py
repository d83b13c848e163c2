"""What lies where in a profile's folder: which files there can be, where they go on a node, which places are taken."""

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
import re

from ci import paths
from ci.errors import ProfileError
from ci.matrix.tables import did_you_mean
from ci.terminal.quantities import count

DESCRIPTION = "profile.toml"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
"""What a profile may be called: it stands in the names of containers and folders."""

SLURM_CONF, CGROUP_CONF, ENROOT_CONF = "/etc/slurm/slurm.conf", "/etc/slurm/cgroup.conf", "/etc/enroot/enroot.conf"
JOB_CONTAINER_CONF = "/etc/slurm/job_container.conf"
FILES = {
    "slurm.conf": SLURM_CONF,
    "cgroup.conf": CGROUP_CONF,
    "job_container.conf": JOB_CONTAINER_CONF,
    "enroot.conf": ENROOT_CONF,
    "prolog": "/etc/slurm/prolog",
    "epilog": "/etc/slurm/epilog",
    "taskprolog": "/etc/slurm/taskprolog",
}
"""Where the files of a profile go on a node."""
FOLDERS = {
    "plugstack.conf.d": "/etc/slurm/plugstack.conf.d",
    "enroot.conf.d": "/etc/enroot/enroot.conf.d",
    "hooks.d": "/etc/enroot/hooks.d",
    "mounts.d": "/etc/enroot/mounts.d",
    "environ.d": "/etc/enroot/environ.d",
    "files": "/",
}
"""Where what is in its folders goes."""
SCRIPTS = {"prolog": "Prolog", "epilog": "Epilog", "taskprolog": "TaskProlog"}
"""Files that a key of slurm.conf names; it is added where the file is there."""
# As `common::runparts` of enroot asks for them, and for plugstack.conf.d the line `include … *.conf` of the nodes.
ENDS = {
    "plugstack.conf.d": ".conf",
    "enroot.conf.d": ".conf",
    "hooks.d": ".sh",
    "mounts.d": ".fstab",
    "environ.d": ".env",
}
"""How the names of files end that Slurm or enroot reads in a folder; they pass over others without a word."""
OF_REAL_ENROOT = ("hooks.d", "mounts.d", "environ.d")
BESIDE = (DESCRIPTION, "README.md")
"""What lies in a profile's folder and is put nowhere."""
_KNOWN = (*FILES, *FOLDERS, *BESIDE)
TAKEN = {
    SLURM_CONF: "it is made from the profile's slurm.conf",
    "/etc/slurm/plugstack.conf": "it includes what is in plugstack.conf.d",
    "/etc/munge": "each run makes its own key",
    "/etc/ssh": "each run makes its own keys",
    "/etc/enroot/enroot.conf.d/50-node.conf": "it has the folders of the nodes",
    "/usr/local/sbin/node-entrypoint": "it starts the daemons",
    **dict.fromkeys(("/home", "/run", "/proc", "/sys", "/dev"), "the node mounts something over it"),
    "/var/lib/enroot-data": "the node mounts something over it",
}
"""Paths on a node that a profile may not have, nor what is below them; and why."""
_PYXIS = b"/usr/lib/slurm/spank_pyxis.so"
"""Where the nodes have it, wherever a site does."""
_PYXIS_LINE = re.compile(rb"^([ \t]*(?:required|optional)[ \t]+)\S*spank_pyxis\.so", re.MULTILINE)
_PYXIS_CONF = "/etc/slurm/plugstack.conf.d/pyxis.conf"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What can't be used of a profile, or is read by nothing, and why."""

    source: str
    """The file in the profile's folder; empty where it is the folder itself."""
    line: int = 0
    """0: all of the file."""
    why: str

    def __str__(self) -> str:
        """Return it as one line; what is said of all of a file names the file itself."""
        return f"{self.source}:{self.line}: {self.why}" if self.line else self.why


@dataclass(frozen=True, kw_only=True)
class ProfileFile:
    """A file of a profile."""

    path: str
    """Where it goes on a node. What it means depends on that alone."""
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
        """The folder of a profile for what is in this place, whether the file is in that one or below ``files``."""
        return _folder_of(self.path)

    @property
    def configures_enroot(self) -> bool:
        """Whether it is enroot.conf, or one of the files that enroot reads beside it."""
        return self.path == ENROOT_CONF or self.folder == "enroot.conf.d"

    def fault(self, line: int, why: str) -> Fault:
        """Return what is wrong with a line of it."""
        return Fault(source=self.source, line=line, why=why)


def shipped() -> list[str]:
    """Return the names of the profiles that come with this project."""
    return sorted(folder.name for folder in paths.PROFILES.iterdir() if folder.is_dir())


def _folder_of(path: str) -> str:
    return next((name for name, top in FOLDERS.items() if top != "/" and path.startswith(f"{top}/")), "")


def taken_of(path: str) -> str:
    """Return which of the paths that a profile may not have this is, or lies below; empty for none."""
    return next((taken for taken in TAKEN if path == taken or path.startswith(f"{taken}/")), "")


@dataclass(kw_only=True)
class Reading:
    """What is wrong with a folder, while it is read."""

    folder: Path
    faults: list[Fault] = field(default_factory=list)
    found: dict[str, ProfileFile] = field(default_factory=dict)
    """By their path on a node."""

    def check_name(self) -> None:
        """Refuse what could not stand in the id of a cell, or stands there for another profile."""
        name = self.folder.name
        if not NAME.fullmatch(name):
            self._fault("", f"{name!r} cannot be the name of a profile: use small letters, digits and hyphens")
        elif name in shipped() and self.folder.parent != paths.PROFILES:
            self._fault("", f"{name} is the name of a profile that comes with this project; rename the folder")

    def _fault(self, source: str, why: str) -> None:
        self.faults.append(Fault(source=source, why=why))

    def files(self) -> dict[str, ProfileFile]:
        """Read all files, by their path on a node."""
        for entry in sorted(self.folder.iterdir()):
            is_folder = entry.name in FOLDERS
            # A folder under git, or one that was looked at on a Mac, has such names.
            if entry.name.startswith(".") or entry.name in BESIDE:
                continue
            if entry.name not in _KNOWN:
                where = "; any other file stands below files/, by its path on the nodes"
                self._fault(entry.name, f"unknown file {entry.name!r}{did_you_mean(entry.name, _KNOWN)}{where}")
            elif is_folder is not entry.is_dir():
                self._fault(entry.name, f"{entry.name} has to be a {'folder' if is_folder else 'file'}")
            elif is_folder:
                for file in sorted(entry.rglob("*")):
                    # rglob does not enter a folder that is a link: `_read` refuses it, lest it be left out in silence.
                    if file.is_symlink() or not file.is_dir():
                        self._read(file, f"{FOLDERS[entry.name]}/{file.relative_to(entry)}")
            else:
                self._read(entry, FILES[entry.name])
        if not self.found and not self.faults and not (self.folder / DESCRIPTION).exists():
            self._fault("", f"the folder has no file of a profile; it can have {', '.join(_KNOWN)}")
        if any(map(loads_pyxis, self.found.values())):
            # Else the plugin would be loaded twice: the image has a line of its own in this file.
            beside = ProfileFile(path=_PYXIS_CONF, source="", content=b"# see beside\n", mode=0o644)
            self.found.setdefault(_PYXIS_CONF, beside)
        return self.found

    def _read(self, file: Path, place: str) -> None:
        """Read a file that belongs at a place on the nodes."""
        # What is below files/ comes with two slashes, which a PurePosixPath would keep at the beginning.
        source, path = str(file.relative_to(self.folder)), str(PurePosixPath("/", place.lstrip("/")))
        folder, taken = _folder_of(path), taken_of(path)
        name = path.removeprefix(f"{FOLDERS.get(folder, '')}/")
        # The one of the profile's own name is not put there as it is, but laid over the cell's.
        if taken and source != "slurm.conf":
            self._fault(source, f"{source} cannot be put at {path}: {TAKEN[taken]}")
        elif folder in ENDS and ("/" in name or not name.endswith(ENDS[folder])):
            self._fault(source, f"nothing reads {source}: files lie directly in {folder}, and end in {ENDS[folder]}")
        # As enroot.conf and files/etc/enroot/enroot.conf are.
        elif path in self.found:
            self._fault(source, f"{source} and {self.found[path].source} are both put at {path}")
        elif not file.is_file():
            self._fault(source, f"{source} is not a regular file, nor a link to one")
        else:
            read = ProfileFile(path=path, source=source, content=file.read_bytes(), mode=0o644)
            # Of a file's rights git keeps only whether it can be executed.
            # enroot passes over a hook that nobody may execute, and says nothing.
            if source in SCRIPTS or read.folder == "hooks.d" or file.stat().st_mode & 0o100:
                read = replace(read, mode=0o755)
            if read.folder == "plugstack.conf.d":
                read = replace(read, content=_PYXIS_LINE.sub(rb"\1" + _PYXIS, read.content))
            self.found[path] = read

    def raise_if_any(self) -> None:
        """Refuse the profile where anything is wrong with it.

        :raises ProfileError: names every fault.
        """
        if self.faults:
            raise ProfileError(
                f"the profile {self.folder.name} has {count(len(self.faults), 'fault')}:"
                + "".join(f"\n  - {fault}" for fault in self.faults),
                where=str(self.folder),
                next_step="correct it; what can be in a profile: docs/profiles.md",
            )


def loads_pyxis(file: ProfileFile) -> bool:
    """Tell whether it is a file of plugstack.conf.d that names Pyxis' plugin."""
    return file.folder == "plugstack.conf.d" and _PYXIS_LINE.search(file.content) is not None
