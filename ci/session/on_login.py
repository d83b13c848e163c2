"""A suite on the login node, as the job user: for tools that call sbatch and srun themselves, as most do.

The suite's project is copied into the user's home, which all nodes share; its packages come from wheels that were made
on this machine; its results and the files that it wrote in its folder are copied back.
"""

from collections.abc import Iterator, Sequence
import io
from pathlib import Path, PurePosixPath
import shlex
import sys
import tarfile
import time
from typing import IO, cast

from ci.engine.connection import Container, Engine, InsideFile
from ci.engine.refusals import asking
from ci.environment import ssh
from ci.environment.cluster import WHEELS
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan
from ci.errors import PyxisMatrixError, SubjectError
from ci.images.subject import Wheelhouse
from ci.images.subject_checkout import files_of
from ci.options.inputs import OwnSuite
from ci.record import reportlog, store
from ci.session.handover import login_facts
from ci.terminal import console, signals

_INSTALL_SECONDS = 600.0
# The largest file that is copied back from beside the results: logs are smaller, core dumps are larger.
_MOST_BYTES = 10 * 1024**2
# Limits for one folder. Jobs can write more than this machine's disk can hold, also in a sparse file, whose holes are
# zeros in the archive; so what is read has a limit as well as what is kept.
_MOST_FILES = 10_000
_MOST_KEPT = 1024**3
_MOST_READ = 4 * 1024**3
_READ_AT_ONCE = 1 << 20
"""Bytes. With tarfile's own 10 KiB, the rest of each chunk (2 MiB) would be copied two hundred times."""
_SHOWN = 5
_CACHES = {"__pycache__", ".pytest_cache"}


class LoginRun:
    """A suite on the login node of an environment that is up."""

    def __init__(self, engine: Engine, launched: Environment, suite: OwnSuite) -> None:
        """Choose the folders on the node; nothing is copied yet."""
        self._engine = engine
        self._launched = launched
        self._suite = suite
        self._login = launched.file.login
        self._home = PurePosixPath("/home") / self._login.user
        # In a folder of its own, so that no name of a project is that of one of the folders below.
        self._folder = self._home / "suite" / suite.project.name
        self._venv = self._home / ".suite-venv"
        self._environment = self._home / ".suite-environment"
        self._plugins = self._home / ".suite-plugins" / "pytest"
        self._owner = (0, 0)
        self.results = self._home / ".suite-results"
        """The folder for pytest's reports, and for files that the suite wants to keep."""

    @property
    def _container(self) -> Container:
        return self._launched.cluster.login.container

    def prepare(self, house: Wheelhouse) -> None:
        """Copy the suite to the node and install its packages there.

        :raises SubjectError: if pip does not install the wheels.
        """
        project, wanted = self._suite.project, shlex.join(_requirements(self._launched.plan, house))
        with ssh.connect(self._login) as shell:
            with console.step("copying the suite to the login node"):
                uid, gid = (int(number) for number in shell.run("id -u; id -g").stdout.split())
                self._owner = (uid, gid)
                plugins = [file.name for file in reportlog.PLUGIN_FOLDER.glob("*.py")]
                for source, names, target in (
                    (project, files_of(project), self._folder),
                    (reportlog.PLUGIN_FOLDER, plugins, self._plugins),
                ):
                    self._container.put_archive("/", _archive(source, names, target, self._owner))
                shell.run(f"mkdir -p {self.results}")
            with console.step("installing its packages there"):
                # Without compiling: it takes pip half of its time for all modules of seventy packages, few of which are
                # imported.
                pip = f"{self._venv}/bin/python -m pip install --quiet --disable-pip-version-check"
                install = f"{pip} --no-index --no-compile --find-links {WHEELS} {wanted}"
                answer = shell.run(f"python3 -m venv {self._venv} && {install}", limit=_INSTALL_SECONDS)
            if answer.status:
                raise SubjectError(
                    "the suite's packages were not installed on the login node",
                    where=self._launched.file.cell,
                    why=str(answer),
                    next_step="the wheels were resolved together; does a --with PACKAGE need another program?",
                )

    def run(self, words: Sequence[str], results: Path) -> int:
        """Run a command in the suite's folder, show its output, and copy the suite's files back.

        :raises LaunchError: if the user's session ended before the command did.
        """
        started = time.time()
        uid, gid = self._owner
        file = InsideFile(content=self._exports().encode(), mode=0o600, uid=uid, gid=gid)
        self._engine.copy_into(self._container, {str(self._environment): file})
        try:
            with ssh.connect(self._login) as shell:
                console.say(f"{self._login.user}@{self._launched.file.nodes[0]}:{self._folder}$ {shlex.join(words)}")
                return shell.attach(self._command(words), _show)
        finally:
            with signals.shielded():
                self._fetch(results, started)

    def _exports(self) -> str:
        """Return the text of a file that sets the suite's variables.

        A file and no command line, because every user sees command lines, and one variable is a password.
        """
        facts = login_facts(self._launched, self.results)
        variables = self._launched.plan.suite_environment.render(facts)
        if self._launched.plan.options.pytest:
            variables |= reportlog.variables({}, self._plugins)
        if sys.stdout.isatty():
            # On the node the output is no terminal, and what shows it here is one.
            variables["PY_COLORS"] = "1"
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        return f"export VIRTUAL_ENV={self._venv} PATH={self._venv}/bin:$PATH\n{exports}"

    def _command(self, words: Sequence[str]) -> str:
        # exec, so that no shell stands between the command and the status of a signal that ends it.
        return f"cd {shlex.quote(str(self._folder))} && . {self._environment} && exec {shlex.join(words)}"

    def _fetch(self, results: Path, started: float) -> None:
        """Copy back the results, and what the suite wrote in its folder; works for a node that has ended, too."""
        kept = results / store.LOGS_FOLDER / "suite"
        # Results first: what is copied of the folder has limits, and may fail.
        for source, target, since in ((self.results, results, 0.0), (self._folder, kept, started)):
            try:
                with asking(f"copying {source}"):
                    chunks, _ = self._container.get_archive(str(source))
                    left_out = _unpack(chunks, target, since)
                if left_out:
                    console.warn(f"{source} was only partly copied back from the login node: {left_out}")
            except (PyxisMatrixError, OSError, tarfile.TarError) as error:
                why = error.why if isinstance(error, PyxisMatrixError) else error
                console.warn(f"{source} was not copied back from the login node: {why}")


def _requirements(plan: EnvironmentPlan, house: Wheelhouse) -> list[str]:
    wheels = plan.images.node_wheels
    if wheels is None:
        raise LookupError("a suite on the login node has wheels planned")
    subject = f"{WHEELS}/{house.editable.relative_to(house.path)}" if house.editable else wheels.subject.requirement
    return [subject, *wheels.beside]


def _archive(project: Path, files: Sequence[str], target: PurePosixPath, owner: tuple[int, int]) -> bytes:
    """Return a tar archive of a project's files, below ``target``, belonging to ``owner`` (ids of user and group)."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        (entry.uid, entry.gid), entry.uname, entry.gname = owner, "", ""
        return entry

    # git also lists files that have been deleted and are not committed.
    names = [name for name in files if (project / name).is_file()]
    # The home exists; every folder below it needs an entry, or the engine would make it for root.
    folders = {target.parent, target} | {target / parent for name in names for parent in PurePosixPath(name).parents}
    buffer = io.BytesIO()
    # Content in place of links, whose targets are not on the node.
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        for folder in sorted(folders):
            entry = tarfile.TarInfo(str(folder).lstrip("/"))
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
            archive.addfile(owned(entry))
        for name in names:
            archive.add(project / name, str(target / name).lstrip("/"), recursive=False, filter=owned)
    return buffer.getvalue()


class _Stream:
    """An archive for tarfile that is read while it arrives, without storing it, and up to a limit."""

    def __init__(self, chunks: Iterator[bytes], most: int) -> None:
        self._chunks, self._rest, self._left = chunks, b"", most

    def read(self, size: int) -> bytes:
        """Return that many bytes, or fewer at the end.

        :raises _TooMuchError: beyond the limit.
        """
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
            self._left -= len(chunk)
            if self._left < 0:
                raise _TooMuchError
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


class _TooMuchError(Exception):
    """An archive is larger than the limit."""


def _unpack(chunks: Iterator[bytes], target: Path, since: float) -> str:
    """Unpack the regular files of an archive that are newer than ``since``, without the archive's top folder.

    :return: what was left out because it is too large, as a sentence; empty for nothing.
    """
    kept = size = 0
    too_large: list[str] = []
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", _Stream(chunks, _MOST_READ)), mode="r|", bufsize=_READ_AT_ONCE
        ) as archive:
            for entry in archive:
                # An engine puts all of it below the folder's own name: ".suite-results/report.jsonl".
                inside = PurePosixPath(*PurePosixPath(entry.name).parts[1:])
                # An archive may tell whole seconds only.
                if not entry.isfile() or entry.mtime < int(since) or _CACHES & set(inside.parts):
                    continue
                if kept >= _MOST_FILES:
                    return f"more than {_MOST_FILES} files; {inside} and what follows is left out"
                if (since and entry.size > _MOST_BYTES) or size + entry.size > _MOST_KEPT:
                    too_large.append(f"{inside} ({entry.size / 1024**2:.0f} MB)")
                    continue
                kept, size = kept + 1, size + entry.size
                entry.name = str(inside)
                # Whatever ran on the node made these files; the filter refuses names that lead elsewhere (PEP 706).
                archive.extract(entry, target, filter="data")
    except _TooMuchError:
        return f"it is more than {_MOST_READ / 1024**3:g} GiB, and the rest is left out"
    more = f" and {len(too_large) - _SHOWN} more" if len(too_large) > _SHOWN else ""
    return f"{', '.join(too_large[:_SHOWN])}{more} left out as too large" if too_large else ""


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
