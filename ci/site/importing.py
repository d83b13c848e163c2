"""A profile, made of the files of a site: what can't be used in a cell or is private is left out, and said.

What can't be used is asked of the profile itself (`ci.matrix.profiles`), again and again until it has no fault.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
import re
import shutil
import tempfile

from ci.errors import ProfileError, ResultsError
from ci.matrix import slurm_conf
from ci.matrix.profile_files import DESCRIPTION, ENDS, FILES, SCRIPTS, Reading, taken_of
from ci.matrix.profiles import PASSED_OVER, Profile
from ci.matrix.slurm_conf import NODES_ARE_OTHERS, Statement
from ci.site import private
from ci.site.collecting import DEEP, PROGRAMS, Collected

_PROGRAM_IS_MISSING = "it names a program that is missing there, not readable, or left out: Slurm would fail to run it"
_NOT_INCLUDED = "the file is missing there, or not readable"
_NODES = ("nodename", "nodeset", "downnodes")
# Keys in small letters that a check lets through: somebody may have what they need in a profile by hand.
_NOT_OF_A_CELL = {
    "cells have no such machines, switches or meters": (
        *("topologyplugin", "topologyparam", "switchtype", "switchparameters", "gpufreqdef", "nodefeaturesplugins"),
        *("burstbuffertype", "powerparameters", "powerplugin", "acctgatherenergytype", "acctgatherfilesystemtype"),
        *("acctgatherinterconnecttype", "acctgatherprofiletype", "acctgathernodefreq", "federationparameters"),
    ),
    "it needs code or a service of the site's, which is not read": (
        *("jobsubmitplugins", "clifilterplugins", "sitefactorplugin", "jobcomptype", "jobcomploc", "jobcompparams"),
        *("mailprog", "maildomain", "healthcheckprogram", "healthcheckinterval", "healthchecknodestate"),
        *("unkillablestepprogram", "prepplugins", "slurmctldsyslogdebug", "slurmdsyslogdebug"),
    ),
    "a cell has no accounts, limits and QOS of the site": ("accountingstorageenforce",),
    "it is about ports of the site": ("srunportrange",),
}
_WHY_NOT = {key: why for why, keys in _NOT_OF_A_CELL.items() for key in keys}
_OF_A_PARTITION = re.compile(r"(?:allow|deny)(?:accounts|groups|qos)|qos|alternate", re.IGNORECASE)
_WHO_MAY = "a cell has no accounts, groups and QOS of the site"
# Those that enroot brings: a cell has those of its own version.
_OF_ENROOT = {
    *("hooks.d/10-aptfix.sh", "hooks.d/10-cgroups.sh", "hooks.d/10-devices.sh", "hooks.d/10-home.sh"),
    *("hooks.d/10-localtime.sh", "hooks.d/10-shadow.sh", "hooks.d/98-nvidia.sh", "hooks.d/99-mellanox.sh"),
    *("mounts.d/10-system.fstab", "mounts.d/20-config.fstab", "environ.d/10-terminal.env"),
}
_IS_ENROOTS = "enroot brings one of this name, and a cell has that of its own version"
_PLUGIN = re.compile(r"(?:required|optional)\s+(\S+)(.*)")
_EVERYWHERE = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp")  # noqa: S108 - what each node has
_OF_THE_SYSTEM = ("usr", "bin", "sbin", "lib", "lib64", "etc", "var", "boot", "root", "home")


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What of a site is not in the profile. It says no value."""

    where: str
    """File and line there."""
    what: str = ""
    """The key, where there is one."""
    why: str

    def __str__(self) -> str:
        """Return where it stood, and what it is."""
        return f"{self.where} {self.what}".rstrip()

    @property
    def place(self) -> tuple[str, int]:
        """The file, and the line as a number."""
        path, _, line = self.where.rpartition(":")
        return (path, int(line)) if line.isdigit() else (self.where, 0)


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A line of the profile, and where it stood."""

    text: str
    where: str
    what: str = ""


@dataclass(kw_only=True)
class Imported:
    """A profile in the making."""

    lines: dict[str, list[_Line]] = field(default_factory=dict)
    """By the file in the profile's folder."""
    whole: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Scripts likewise: their path there, and their content."""
    left_out: list[LeftOut] = field(default_factory=list)
    tmpfs: set[str] = field(default_factory=set)
    """Folders that mounts need; a cell has them in memory."""
    slurm: str = ""

    def drop(self, source: str, line: int, why: str) -> bool:
        """Leave out what a fault is about; tell whether it is one of a file."""
        if line and source in self.lines and line <= len(self.lines[source]):
            # Each entry is one line of the file that was written, so a fault's line is its place here.
            gone = self.lines[source].pop(line - 1)
            # "MailProg cannot be set: …": what is left out is named beside the reason.
            reason = re.sub(r"^\S+ cannot be set(?: so)?: ", "", why)
            self.left_out.append(LeftOut(where=gone.where, what=gone.what, why=reason))
        elif not line and source in self.lines:
            self.left_out.append(LeftOut(where=source, why=why))
            del self.lines[source]
        elif source in self.whole:
            self.left_out.append(LeftOut(where=self.whole.pop(source)[0], why=why))
        else:
            return False
        return True

    def write(self, folder: Path) -> None:
        """Write the files into a folder, in place of what is there."""
        shutil.rmtree(folder, ignore_errors=True)
        texts = {
            name: "".join(f"{line.text}\n" for line in lines).encode() for name, lines in self.lines.items() if lines
        }
        for name, content in {**texts, **{name: file[1] for name, file in self.whole.items()}}.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            # Slurm and enroot run only what may be executed.
            file.chmod(0o755 if name in self.whole else 0o644)
        folder.mkdir(parents=True, exist_ok=True)
        summary = f"The settings of a site with Slurm {self.slurm}, read on {datetime.now(UTC):%Y-%m-%d}."
        tmpfs = ", ".join(f'"{folder}"' for folder in sorted(self.tmpfs))
        text = f'summary = "{summary}"\n'
        if tmpfs:
            text += f"# Empty folders, for what stood in mounts.d.\ntmpfs = [{tmpfs}]\n"
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")
        (folder / "README.md").write_text("\n".join([f"# {folder.name}", "", summary, "", *self.said(), ""]), "utf-8")

    def said(self) -> list[str]:
        """Return what was left out, by reason, as lines."""
        found: dict[str, list[str]] = {}
        for left in sorted(self.left_out, key=lambda left: left.place):
            found.setdefault(left.why, []).append(str(left))
        if not found:
            return ["Nothing was left out."]
        return ["Left out:", "", *(f"- {', '.join(those)}: {why}" for why, those in found.items())]


@dataclass(frozen=True, kw_only=True)
class _Taking:
    """The files of a site, on their way into a profile."""

    site: Collected
    made: Imported = field(default_factory=Imported)

    def all(self) -> Imported:
        """Take what each file says that a cell can have."""
        site, made = self.site, self.made
        made.slurm = site.slurm
        for path in site.refused:
            self._out(path, why="it is not readable for this user, or is too large for a file of settings")
        self._slurm_conf(f"{site.folder}/slurm.conf")
        for name in ("cgroup.conf", "job_container.conf"):
            self._keys(f"{site.folder}/{name}", name)
        self._plugins(site.plugstack)
        for path, content in site.files.items():
            folder, name = PurePosixPath(path).parent.name, PurePosixPath(path).name
            if not path.startswith(f"{site.enroot}/"):
                continue
            if folder == "hooks.d":
                self._script(path, f"{folder}/{name}", content)
            else:
                self._lines(path, f"{folder}/{name}" if folder in ENDS else name, content)
        return made

    def _out(self, where: str, what: str = "", *, why: str) -> None:
        self.made.left_out.append(LeftOut(where=where, what=what, why=why))

    def _keep(self, source: str, line: _Line) -> None:
        """Take a line, if it is not private."""
        if why := private.of_line(line.text, self.site.names):
            self._out(line.where, line.what, why=why)
        else:
            self.made.lines.setdefault(source, []).append(line)

    def _slurm_conf(self, path: str, depth: int = 0) -> None:
        """Take the settings of a file, with those of what it includes."""
        for statement in slurm_conf.statements_of(self._text(path)):
            where = f"{path}:{statement.number}"
            if statement.include:
                found = self.site.matching(statement.value) if depth < DEEP else []
                for each in found:
                    self._slurm_conf(each, depth + 1)
                if not found:
                    self._out(where, f"Include {statement.value}", why=_NOT_INCLUDED)
            elif why := self._unusable(statement):
                self._out(where, statement.key, why=why)
            elif statement.words:
                self._partition(statement, where)
            elif statement.key.lower() in PROGRAMS:
                self._program(statement, where)
            else:
                self._keep("slurm.conf", _Line(text=statement.text, where=where, what=statement.key))

    def _unusable(self, statement: Statement) -> str:
        if not statement.key:
            return "it is not KEY=VALUE"
        key = statement.key.lower()
        return NODES_ARE_OTHERS if key in _NODES else slurm_conf.REFUSED.get(key) or _WHY_NOT.get(key, "")

    def _partition(self, statement: Statement, where: str) -> None:
        kept = [word for word in statement.words if not _OF_A_PARTITION.fullmatch(word.partition("=")[0])]
        for word in statement.words:
            if word not in kept:
                self._out(where, f"{statement.key} {word.partition('=')[0]}", why=_WHO_MAY)
        self._keep("slurm.conf", _Line(text=" ".join(kept), where=where, what=statement.key))

    def _program(self, statement: Statement, where: str) -> None:
        """Take a program that Slurm runs, at its own path: it may be seen in containers."""
        paths = self.site.matching(statement.value) if statement.value.startswith("/") else []
        # A cell has something of its own at these paths, which no profile may replace.
        taken = [path for path in paths if path != FILES.get(statement.key.lower()) and taken_of(path)]
        sources = {path: self._place(statement.key, path) for path in paths}
        fit = [path for path, source in sources.items() if self._script(path, source, self.site.files[path])]
        if taken or not fit:
            for path in fit:
                del self.made.whole[sources[path]]
            self._out(where, statement.key, why=_PROGRAM_IS_MISSING)
        # For the others the profile itself has the key written.
        elif sources[fit[0]].startswith("files/"):
            self._keep("slurm.conf", _Line(text=statement.text, where=where, what=statement.key))

    @staticmethod
    def _place(key: str, path: str) -> str:
        """Return where a program lies in the profile; slurm.conf gets the keys of some by themselves."""
        own = next((name for name, said in SCRIPTS.items() if said.lower() == key.lower()), "")
        return own if own and FILES[own] == path else f"files{path}"

    def _script(self, path: str, source: str, content: bytes) -> bool:
        """Take a script whole, or not at all; tell which."""
        why = private.of_script(content.decode(errors="replace"), self.site.names)
        if source in _OF_ENROOT:
            why = _IS_ENROOTS
        elif b"\0" in content:
            why = "it is no script"
        if why:
            self._out(path, why=why)
        else:
            self.made.whole[source] = (path, content)
        return not why

    def _keys(self, path: str, source: str) -> None:
        for statement in slurm_conf.statements_of(self._text(path)):
            line = _Line(text=statement.text, where=f"{path}:{statement.number}", what=statement.key)
            if why := self._unusable(statement) or (_NOT_INCLUDED if statement.include else ""):
                self._out(line.where, line.what, why=why)
            else:
                self._keep(source, line)

    def _plugins(self, path: str, depth: int = 0) -> None:
        """Take what loads Pyxis with options: a cell has no other plugin, and loads Pyxis by itself."""
        for number, text in _lines_of(self.site.files.get(path, b"")):
            where, found, words = f"{path}:{number}", _PLUGIN.fullmatch(text), text.split()
            if words[0].lower() == "include" and depth < DEEP:
                for each in self.site.matching(words[-1]):
                    self._plugins(each, depth + 1)
            elif found and found[1].endswith("spank_pyxis.so") and found[2].strip():
                self._keep("plugstack.conf.d/pyxis.conf", _Line(text=text, where=where, what="Pyxis"))
            elif found and not found[1].endswith("spank_pyxis.so"):
                self._out(where, PurePosixPath(found[1]).name, why="cells have no other plugin than Pyxis")

    def _lines(self, path: str, source: str, content: bytes) -> None:
        """Take a file of enroot's line by line."""
        if source in _OF_ENROOT:
            self._out(path, why=_IS_ENROOTS)
            return
        dropped = 0 if content.endswith(b"\n") or not source.endswith(".conf") else content.count(b"\n") + 1
        for number, text in _lines_of(content):
            line = _Line(text=text, where=f"{path}:{number}", what="" if source.endswith(".fstab") else _key(text))
            if source.endswith(".fstab") and (why := self._no_source(text.split()[0])):
                self._out(line.where, why=why)
            elif number == dropped:  # written, it would get an end, and hold in the cell
                self._out(line.where, line.what, why=f"{PASSED_OVER}: the line has no end")
            else:
                self._keep(source, line)

    def _no_source(self, path: str) -> str:
        """Return why a cell has no such source of a mount; empty where it has, or gets, one."""
        below = path.startswith("/") and not any(path == other or path.startswith(f"{other}/") for other in _EVERYWHERE)
        if not below or path == "/home" or f"files{path}" in self.made.whole or path in FILES.values():
            return ""
        if path in self.site.folders and path.split("/")[1] not in _OF_THE_SYSTEM:
            self.made.tmpfs.add(path.rstrip("/"))
            return ""
        return "a cell's nodes do not have the source of this mount"

    def _text(self, path: str) -> str:
        return self.site.files.get(path, b"").decode(errors="replace")


def _lines_of(content: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers."""
    for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _key(text: str) -> str:
    """Return the first word of a setting of enroot's, without its value."""
    return re.split(r"[\s=]", text, maxsplit=1)[0]


def profile_of(site: Collected, folder: Path) -> Imported:
    """Write the profile that a site's files make into a folder that is not there yet, and return what it is.

    :raises ProfileError: if the folder can't be one, or what is left is still refused.
    """
    check_folder(folder)
    imported = _Taking(site=site).all()
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as temporary:
        there = Path(temporary) / folder.name
        # Again after each round: without what was dropped, something else may be a fault. It ends, for lines get fewer.
        while True:
            imported.write(there)
            profile, read = Profile.with_faults(there)
            faults = {(fault.source, fault.line): fault.why for fault in read.faults}
            # A line may be private that nobody reads: it is not repeated.
            faults |= {(fault.source, fault.line): PASSED_OVER for fault in profile.ignored() if fault.line}
            # From the end of a file, so that the numbers of lines before hold.
            dropped = [imported.drop(*where, why) for where, why in sorted(faults.items(), reverse=True)]
            if not any(dropped):
                break
        read.raise_if_any()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(there, folder)
        except OSError as error:
            raise ResultsError("the profile could not be written", where=str(folder), why=str(error)) from error
    return imported


def check_folder(folder: Path) -> None:
    """Refuse a folder that is there, or has no name of a profile.

    :raises ProfileError: says which.
    """
    if folder.exists() or folder.is_symlink():
        raise ProfileError(
            "the folder is there already, and it is left as it is",
            where=str(folder),
            next_step="name another one with --output DIR, or move it away",
        )
    reading = Reading(folder=folder)
    reading.check_name()
    reading.raise_if_any()
