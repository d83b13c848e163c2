"""Progress for a person while something takes long, and the one way to start a command.

Everything goes to stderr, so that ``--json`` on stdout stays clean. There are several modes: a spinner with the elapsed
time on a terminal, timed plain lines elsewhere, folded sections in the logs of GitHub's and GitLab's CI. The
module-level functions use one shared `Console`; tests make their own, with their own stream and clock.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
import os
from pathlib import Path
import sys
import threading
import time
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleRenderable, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from ci.terminal import folding
from ci.terminal.mode import Mode
from ci.terminal.processes import Command, Completed, Stopped, last_lines, run_attached, run_logged

# A new thread starts with the defaults of both, so steps in threads side by side do not indent each other.
_DEPTH: ContextVar[int] = ContextVar("depth of the current step", default=0)
_LINES: ContextVar[TextIO | None] = ContextVar(
    "where plain lines go in place of the spinner and of sections", default=None
)


class Timings:
    """Seconds per phase; a phase that comes twice adds up. Safe to use from several threads."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, begun: Callable[[str], None] = lambda _phase: None
    ) -> None:
        """Start empty; ``begun`` is called with the name of each phase as it begins."""
        self._clock = clock
        self.begun = begun
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, phase: str, seconds: float) -> None:
        """Add ``seconds`` to a phase."""
        with self._lock:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Add the time of the block to a phase, without showing anything."""
        self.begun(phase)
        started = self._clock()
        try:
            yield
        finally:
            self.add(phase, self._clock() - started)

    def as_dict(self) -> dict[str, float]:
        """Return the seconds per phase, in the order in which the phases came."""
        with self._lock:
            return {phase: round(seconds, 3) for phase, seconds in self._seconds.items()}


@dataclass(kw_only=True, eq=False)
class TimedStep:
    """A piece of work in progress; `note` is added to its last line ("reused", "412 MB")."""

    title: str
    depth: int
    started: float
    note: str = ""
    detail: Callable[[], str] | None = field(default=None, repr=False)


class Console:
    """Steps, commands and messages on one stream."""

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        mode: Mode | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Write to ``stream`` (stderr if None) in ``mode`` (detected if None); tests pass their own clocks."""
        self._stream = stream
        self._mode = mode
        self._clock = clock
        self._now = now
        self._environ = environ
        self._active: list[TimedStep] = []
        """The steps in progress, of all threads, in the order of their beginning."""
        self._live: Live | None = None
        self._lock = threading.RLock()

    @property
    def stream(self) -> TextIO:
        """Where everything is written; looked up late because test runners replace ``sys.stderr``."""
        return _LINES.get() or self._stream or sys.stderr

    @property
    def mode(self) -> Mode:
        """How progress is shown here."""
        found = self._mode or Mode.of(self._environ, self.stream)
        return Mode.PLAIN if found is Mode.TERMINAL and _LINES.get() else found

    def say(self, message: str) -> None:
        """Show a message."""
        self._print(message)

    def warn(self, message: str) -> None:
        """Show a problem that does not end the run."""
        self._print(message, label="warning", style="yellow")

    def fail(self, problem: str | BaseException) -> None:
        """Show why the run ends; the caller leaves with the error's own exit code."""
        self._print(str(problem), label="error", style="bold red")

    @contextmanager
    def step(self, title: str, *, phase: str = "", timings: Timings | None = None) -> Iterator[TimedStep]:
        """Show that ``title`` is in progress and, at its end, how long it took.

        With ``timings`` the seconds are also recorded, under ``phase`` or else under the title. Steps may be nested and
        may run in several threads at once.
        """
        step = TimedStep(title=" ".join(title.split()), depth=_DEPTH.get(), started=self._clock())
        token = _DEPTH.set(step.depth + 1)
        self._begin(step)
        ending = "failed"
        try:
            with timings.measure(phase or title) if timings is not None else nullcontext():
                yield step
            ending = "done"
        except (KeyboardInterrupt, SystemExit, Stopped):
            ending = "interrupted"
            raise
        finally:
            _DEPTH.reset(token)
            self._end(step, ending, self._clock() - step.started)

    def call(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        split: bool = False,
        grace: float = 5.0,
    ) -> Completed:
        """Run a command and return how it ended; `Completed.check` turns a failure into an error.

        Its output is appended to ``log``, live, under a line with the command itself, and kept in `Completed.output`;
        a log has one writer at a time. ``env`` replaces the environment. ``split`` keeps stderr out of
        `Completed.output` (it still reaches the log). Its input is empty. A command that fails to start gives exit code
        127 or 126, as in a shell.

        When anything interrupts the wait (Ctrl-C, an exception out of a signal handler), the command's whole process
        group gets SIGTERM and, ``grace`` seconds later, SIGKILL, before the exception is raised again.
        """
        announced = self._announced(command, cwd=cwd, env=env, grace=grace)
        with self._last_line_shown() as watch:
            return run_logged(announced, log=log, split=split, clock=self._clock, watch=watch)

    def attach(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        grace: float = 5.0,
    ) -> Completed:
        """Run a command that reads and writes the terminal itself; its output is not kept.

        As `call`, but when the wait is interrupted the command first has ``grace`` seconds to finish after SIGINT.
        """
        announced = self._announced(command, cwd=cwd, env=env, grace=grace)
        with self._spinner_away():
            return run_attached(announced, clock=self._clock)

    def _announced(
        self, words: Sequence[str | Path], *, cwd: Path | None, env: Mapping[str, str] | None, grace: float
    ) -> Command:
        command = Command(words=tuple(str(word) for word in words), cwd=cwd, env=env, grace=grace)
        self._print(f"$ {command}", style="dim")
        return command

    # -- how it looks -----------------------------------------------------------------------------------------------

    def _begin(self, step: TimedStep) -> None:
        with self._lock, _even_if_nobody_reads():
            self._active.append(step)
            if self.mode is Mode.TERMINAL:
                self._start_live()
            elif self._has_sections() and len(self._active) == 1:  # GitHub's sections can't be nested
                self._write(folding.begin(self.mode, step.title, self._now().timestamp()))
            else:
                self._write_timed(f"{step.title} …", step.depth)

    def _end(self, step: TimedStep, ending: str, seconds: float) -> None:
        verb = "" if ending == "done" else f"{ending} after "
        tail = f"{verb}{seconds:.1f} s" + (f" ({step.note})" if step.note else "")
        with self._lock, _even_if_nobody_reads():
            self._active.remove(step)
            if self.mode is Mode.TERMINAL:
                if not self._active:
                    self._stop_live()
                # Printed with the spinner still on, if other steps are in progress: rich puts the line above it.
                sign, style = {"done": ("✓", "green"), "failed": ("✗", "red")}.get(ending, ("!", "yellow"))
                line = Text("  " * step.depth).append(f"{sign} ", style).append(step.title).append(f"  {tail}", "dim")
                # Rich would put line breaks into a long line, and whoever copies a command would get them, too.
                self._rich().print(line, soft_wrap=True)
                return
            if self._has_sections() and not self._active:
                self._write(folding.end(self.mode, step.title, self._now().timestamp()))
            # Below the section, which is closed at first: how it ended has to be seen without opening it.
            self._write_timed(f"{step.title} … {tail}", step.depth)

    def _has_sections(self) -> bool:
        return self.mode in {Mode.GITHUB, Mode.GITLAB} and not _LINES.get()

    def _print(self, message: str, *, label: str = "", style: str = "") -> None:
        text = f"{label}: {message}" if label else message
        with self._lock, _even_if_nobody_reads():
            if self.mode is Mode.TERMINAL:
                self._rich().print(Text(text, style), soft_wrap=True)
            elif self.mode is Mode.GITHUB and label:
                # GitHub repeats warnings and errors on the page of the run.
                self._write(f"::{label}::{folding.escaped(message)}")
            else:
                self._write_timed(text, _DEPTH.get())

    def _write_timed(self, text: str, depth: int) -> None:
        self._write(f"[{self._now():%H:%M:%S}] {'  ' * depth}{text}")

    def _write(self, line: str) -> None:
        self.stream.write(line + "\n")
        self.stream.flush()

    def _rich(self) -> RichConsole:
        if self._live:
            return self._live.console
        # Messages hold words of others: [brackets] are no markup, and :names: no emoji.
        return RichConsole(file=self.stream, force_terminal=True, highlight=False, markup=False, emoji=False)

    def _start_live(self) -> None:
        if self._live is None:
            live = Live(
                console=self._rich(),
                get_renderable=self._progress,
                refresh_per_second=8,
                # What stays on the terminal is the line that `_end` prints.
                transient=True,
                redirect_stdout=False,  # stdout belongs to --json
                redirect_stderr=False,
            )
            live.start()
            # Last: if start() raises, as on a terminal that was closed, there is nothing to stop later.
            self._live = live

    def _stop_live(self) -> None:
        if self._live is not None:
            # First: a stop() that raises is not tried again.
            live, self._live = self._live, None
            live.stop()

    def _progress(self) -> ConsoleRenderable:
        rows: list[ConsoleRenderable] = []
        # Rich's own thread calls this while it holds the lock of `Live`, which `_stop_live` waits for with ours held.
        # To take ours here would be a deadlock; a copy of the list is enough.
        for step in tuple(self._active):
            elapsed = f"  {self._clock() - step.started:.0f} s"
            line = Text(step.title, no_wrap=True, overflow="ellipsis").append(elapsed, "dim")
            if step.detail and (detail := step.detail()):
                line.append(f"  {detail}", "dim")
            rows.append(_Spinning("  " * step.depth, line))
        return Group(*rows)

    @contextmanager
    def _last_line_shown(self) -> Iterator[Callable[[Path], None]]:
        """Show, beside the innermost step, the last line that a command wrote."""
        # With threads side by side it may be a step of another one; it is only shown.
        step = self._active[-1] if self._active and self.mode is Mode.TERMINAL else None

        def watch(path: Path) -> None:
            if step:
                # Without its colours, which would run on into the spinner's line.
                step.detail = lambda: Text.from_ansi(next(iter(last_lines(path, 1)), "")).plain

        try:
            yield watch
        finally:
            if step:
                step.detail = None

    @contextmanager
    def _spinner_away(self) -> Iterator[None]:
        """Take the spinner off the terminal while another program writes there."""
        # The other program writes to the terminal past our buffer.
        self.stream.flush()
        with self._lock:
            self._stop_live()
        try:
            yield
        finally:
            with self._lock:
                if self._active and self.mode is Mode.TERMINAL:
                    self._start_live()


class _Spinning:
    """One line with a spinner; the spinner is shared, so that it keeps turning between two refreshes."""

    _spinner = Spinner("dots")

    def __init__(self, indent: str, line: Text) -> None:
        self._indent = indent
        self._line = line

    def __rich_console__(self, console: RichConsole, options: object) -> Iterator[Text]:
        frame = self._spinner.render(console.get_time())
        sign = frame.plain if isinstance(frame, Text) else "-"
        line = Text(self._indent, no_wrap=True, overflow="ellipsis")
        yield line.append(f"{sign} ", "cyan").append_text(self._line)


@contextmanager
def plain_lines(stream: TextIO) -> Iterator[None]:
    """Write timed lines to ``stream`` in this context, without spinner and sections.

    For a thread beside others, and while something else draws on the terminal.
    """
    token = _LINES.set(stream)
    try:
        yield
    finally:
        _LINES.reset(token)


def _even_if_nobody_reads() -> AbstractContextManager[None]:
    """Ignore a pipe or terminal that was closed: work in progress, above all a tear-down, must not end with it."""
    return suppress(OSError)


_SHARED = Console()

say = _SHARED.say
warn = _SHARED.warn
fail = _SHARED.fail
step = _SHARED.step
call = _SHARED.call
attach = _SHARED.attach
