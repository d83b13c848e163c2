"""Starting commands and, above all, ending them.

Other modules use `ci.terminal.console.Console.call`; this is the part that touches processes. A command writes straight
into a file: there are no pipes that could fill up, and a daemon that it leaves behind does not block the caller.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
import os
from pathlib import Path
import shlex
import signal
import subprocess
import tempfile
import textwrap
import threading
import time
from typing import IO, Self

from ci.errors import DiskFullError, PyxisMatrixError, disk_is_full

# The spinner reads the last line eight times a second, of logs of any size.
_TAIL_BYTES = 16 * 1024
# As shells have them.
_CANNOT_EXECUTE = 126
_NOT_FOUND = 127
# How often a command in a thread looks whether it is to end. In the main thread, which has no `STOP`, a signal
# interrupts the wait itself.
_LOOK_SECONDS = 0.2

STOP: ContextVar[threading.Event | None] = ContextVar("ends the commands of a thread", default=None)
"""Only the main thread gets signals; in another thread, setting this ends its command and lets it start no other."""


class Stopped(BaseException):
    """The thread is to end. Derived from BaseException, so that no ``except Exception`` swallows it."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program to start, and how it is ended."""

    words: tuple[str, ...]
    cwd: Path | None = None
    env: Mapping[str, str] | None = None
    """Replaces the environment."""
    grace: float = 5.0
    """Seconds between asking it to end and killing it."""

    def __str__(self) -> str:
        """Return it as it would be typed into a shell."""
        return shlex.join(self.words)


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command that has ended."""

    command: tuple[str, ...]
    exit_code: int
    """As in a shell: 0 to 255, or minus the number of the signal that ended it."""
    output: str = field(repr=False)
    """All that it wrote."""
    errors: str = field(default="", repr=False)
    """What it wrote to stderr, where that was kept apart (``split``)."""
    seconds: float = 0.0
    log: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.exit_code == 0

    def tail(self, lines: int = 15) -> str:
        """Return the last lines that are not empty, for an error's text."""
        kept = [line for line in (self.output + "\n" + self.errors).splitlines() if line.strip()]
        return "\n".join(kept[-lines:])

    def check(
        self,
        error_class: type[PyxisMatrixError] = PyxisMatrixError,
        what: str = "",
        *,
        where: str = "",
        next_step: str = "",
    ) -> Self:
        """Return itself if the command succeeded, raise ``error_class`` otherwise.

        What the caller leaves out is filled in: the command, the log file, the last lines of the output. A full disk
        is reported as `DiskFullError`, whatever the command failed at, because making room is the remedy.
        """
        if self.ok:
            return self
        what = what or f"{self.command[0]} failed"
        where = where or (f"{self.log}" if self.log else shlex.join(self.command))
        said = (
            f"exit code {self.exit_code}; its last lines:\n{textwrap.indent(self.tail(), '    ')}"
            if self.tail()
            else ""
        )
        why = said or f"exit code {self.exit_code}, no output"
        if disk_is_full(self.output) or disk_is_full(self.errors):
            remedy = "make room (`docker system df` shows what images and build caches take), then try again"
            raise DiskFullError(f"{what}: the disk is full", where=where, why=why, next_step=remedy)
        raise error_class(what, where=where, why=why, next_step=next_step)


def run_logged(
    command: Command,
    *,
    log: Path | None = None,
    split: bool = False,
    clock: Callable[[], float] = time.monotonic,
    watch: Callable[[Path], None] = lambda _file: None,
) -> Completed:
    """Run a command in its own session with its output in a file; see `ci.terminal.console.Console.call`.

    ``watch`` is called before the start, with the file that the command will write to.
    """
    started = clock()
    with tempfile.TemporaryDirectory(prefix="pyxis-matrix-") as folder:
        path = log or Path(folder) / "output"
        path.parent.mkdir(parents=True, exist_ok=True)
        # To append: the command has a descriptor of its own for this file, and neither may overwrite the other.
        with path.open("ab") as sink, (Path(folder) / "stdout").open("w+b") as apart:
            sink.write(f"$ {command}\n".encode())
            # Before the command starts: it writes past our buffer.
            sink.flush()
            begin = sink.tell()
            watch(path)
            problem = ""
            try:
                exit_code = _run(command, stdout=apart if split else sink, stderr=sink)
            except OSError as error:
                exit_code, problem = _not_started(command, error)
                sink.write(problem.encode())
            wrote = _read_from(path, begin)
            if split and not problem:
                apart.seek(0)
                out = apart.read()
                # At the end of the log only, behind what came on stderr meanwhile: the two have no common order.
                sink.write(out)
                output, errors = out.decode(errors="replace"), wrote
            else:
                output, errors = wrote or problem, ""
    return Completed(
        command=command.words, exit_code=exit_code, output=output, errors=errors, seconds=clock() - started, log=log
    )


def run_attached(command: Command, *, clock: Callable[[], float]) -> Completed:
    """Run a command on the caller's own terminal and in its process group, so that Ctrl-C reaches it, too."""
    started = clock()
    output = ""
    try:
        exit_code = _run(command, attached=True)
    except OSError as error:
        exit_code, output = _not_started(command, error)
    return Completed(command=command.words, exit_code=exit_code, output=output, seconds=clock() - started)


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a file that are not empty, at most ``count``; none if reading it fails."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def _run(
    command: Command, *, stdout: IO[bytes] | None = None, stderr: IO[bytes] | None = None, attached: bool = False
) -> int:
    stop = STOP.get()
    _raise_if_set(stop)
    process = subprocess.Popen(
        command.words,
        cwd=command.cwd,
        env=command.env,
        # A program that asks something gets the end of a file at once; otherwise it would wait for ever, unseen.
        stdin=None if attached else subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        # A process group of its own: no Ctrl-C reaches it, and `_end` can signal it with all its children.
        start_new_session=not attached,
    )
    try:
        while stop:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_SECONDS)
            _raise_if_set(stop)
        return process.wait()
    except BaseException as interruption:
        if attached:
            _let_finish(process, grace=command.grace, signalled=type(interruption) is KeyboardInterrupt)
        _end(process, grace=command.grace, group=not attached)
        raise


def _raise_if_set(stop: threading.Event | None) -> None:
    if stop and stop.is_set():
        raise Stopped


def _not_started(command: Command, error: OSError) -> tuple[int, str]:
    """Return the exit code and output of a command that the system did not start, as a shell reports them."""
    # The system may mean ``cwd``, and not the program: error.filename is the one that it means.
    exit_code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_EXECUTE
    return exit_code, f"failed to start {command.words[0]}: {error.strerror}: {error.filename}\n"


def _let_finish(process: subprocess.Popen[bytes], *, grace: float, signalled: bool) -> None:
    """Let a command on the terminal finish by itself, so that pytest still writes its report.

    :param signalled: whether the command got the signal, too. The terminal sends Ctrl-C to its whole process group, and
        a second SIGINT would interrupt pytest's tear-down.
    """
    if not signalled:
        process.send_signal(signal.SIGINT)
    # A second Ctrl-C ends the patience.
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(grace)


def _end(process: subprocess.Popen[bytes], *, grace: float, group: bool) -> None:
    """End a process (with its group): SIGTERM, then SIGKILL; a second Ctrl-C goes straight to SIGKILL."""

    def send(number: signal.Signals) -> None:
        # It has ended meanwhile.
        with suppress(ProcessLookupError):
            if group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)

    try:
        send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    finally:
        # Also when the leader has ended: its children may have ignored the first signal. The system does not reuse the
        # group's number while one of them lives, and the error of killing an empty group is suppressed.
        send(signal.SIGKILL)
        process.wait()


def _read_from(path: Path, begin: int) -> str:
    with path.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")
