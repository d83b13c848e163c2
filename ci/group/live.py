"""The display of a run in progress: a live table on a terminal, timed lines elsewhere, sections in CI."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
import io
import os
from pathlib import Path
import sys
import time
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions
from rich.live import Live
from rich.text import Text

from ci import paths
from ci.group import watching
from ci.group.watching import CellState, Failure, News, Watcher
from ci.terminal import console, folding
from ci.terminal.mode import Mode

_EVERY_SECONDS = 60.0
"""How often plain lines list the running cells, so that nobody takes silence for a hang."""
_FAILURES_SHOWN = 6
# Columns: an id has some 50, and beside it are suite, number of tests and times.
_WIDE = 110


@dataclass(kw_only=True)
class Shown:
    """The facts of a run for its display."""

    total: int
    """The number of cells, without those that turn out to need no run."""
    images: Callable[[], str] = lambda: ""
    """Returns the cell whose images are being built; empty for none."""
    folder: Path
    quiet: bool = False
    """Whether to show failures only."""


class Lines:
    """Timed lines, one per event."""

    def __init__(self, shown: Shown, watcher: Watcher) -> None:
        """Show the events that ``watcher`` finds."""
        self._shown = shown
        self._watcher = watcher
        self._said = time.monotonic()

    @property
    def stream(self) -> TextIO:
        """The stream for other messages while this is shown."""
        return sys.stderr

    def begin(self, cell: str) -> None:
        """Show that a cell begins."""
        self._say(f"{cell}: started")

    def news(self, cell: str, news: News) -> None:
        """Show the new events of a cell."""
        for phase, suite in news.phases:
            self._say(f"{cell}: {suite or phase}")
        for failure in news.failures:
            self.fail(cell, failure)
        for suite, outcome in news.ended:
            self._say(f"{cell}: {suite} {outcome}", bad=outcome not in watching.GOOD)

    def fail(self, cell: str, failure: Failure) -> None:
        """Show a test that has just failed."""
        self._say(f"{cell}: {failure.suite} failed: {failure.test}: {failure.message}", bad=True)

    def end(self, state: CellState, exit_code: int) -> None:
        """Show that a cell has ended."""
        done = sum(1 for other in self._watcher.states.values() if other.ended)
        self._say(
            f"{state.id}: {_summary(state) or f'ended with {exit_code}'}, {_clock(state.seconds)} "
            f"({done} of {self._shown.total} cells)",
            bad=exit_code != 0,
        )

    def ending(self) -> None:
        """Show that the running cells are being ended early."""
        if at_work := _at_work(self._watcher):
            self._say(f"ending; taken down first: {', '.join(state.id for state in at_work)}", bad=True)

    def tick(self) -> None:
        """Once a minute, list the running cells."""
        if time.monotonic() - self._said > _EVERY_SECONDS:
            for state in _at_work(self._watcher):
                self._say(f"{state.id}: {_doing(state)}, {_times(state)}")
            if cell := self._shown.images():
                self._say(f"{cell}: images")

    def shown(self) -> AbstractContextManager[None]:
        """Show the display during the block."""
        return nullcontext()

    def _say(self, text: str, *, bad: bool = False) -> None:
        if bad or not self._shown.quiet:
            self._said = time.monotonic()
            console.say(text)


class Sections(Lines):
    """Lines in the log of a CI service; after a cell's end, its output follows in a folded section."""

    def __init__(self, shown: Shown, watcher: Watcher, service: Mode) -> None:
        """Write for ``service``."""
        super().__init__(shown, watcher)
        self._service = service

    def fail(self, cell: str, failure: Failure) -> None:
        """Annotate the line of the test if the service can."""
        if self._service is not Mode.GITHUB:
            super().fail(cell, failure)
            return
        text = f"{failure.test}: {failure.message}"
        title = f"{failure.suite} on {cell}"
        self._write(folding.annotation(text, title=title, file=failure.file, line=failure.line))

    def end(self, state: CellState, exit_code: int) -> None:
        """Show the output of a cell in a section."""
        super().end(state, exit_code)
        if self._shown.quiet and exit_code == 0:
            return
        title = f"{state.id}: what it wrote"
        with suppress(OSError):
            # Bytes that are not UTF-8 are replaced: a test's program may print anything.
            written = (self._shown.folder / state.id / paths.OUTPUT_FILE).read_text(encoding="utf-8", errors="replace")
            self._write(folding.begin(self._service, title, time.time()))
            self._write(folding.quoted(self._service, written.rstrip("\n")))
            self._write(folding.end(self._service, title, time.time()))

    def _write(self, text: str) -> None:
        with suppress(OSError):
            self.stream.write(text + "\n")
            self.stream.flush()


class LiveTable(Lines):
    """A table of the running cells, redrawn in place; the lines of cells that have ended are above it."""

    def __init__(self, shown: Shown, watcher: Watcher, terminal: RichConsole | None = None) -> None:
        """Draw on ``terminal``, stderr's if none is given."""
        super().__init__(shown, watcher)
        # No markup, because a test's name has brackets: test_mounts[debian12].
        self._terminal = terminal or RichConsole(stderr=True, highlight=False, markup=False, emoji=False)
        self._began = time.monotonic()
        self._live = Live(
            console=self._terminal,
            get_renderable=lambda: self,
            refresh_per_second=4,
            transient=True,
            # What others say comes through `stream`; rich is not to replace sys.stdout and sys.stderr for all.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @property
    def stream(self) -> TextIO:
        """A stream that writes above the table."""
        return _AboveTable(self._terminal)

    def begin(self, cell: str) -> None:
        """Do nothing: the table shows the cell."""

    def news(self, cell: str, news: News) -> None:
        """Show failures; the rest is in the table."""
        for failure in news.failures:
            self.fail(cell, failure)

    def end(self, state: CellState, exit_code: int) -> None:
        """Print a line above the table for a cell that has ended."""
        if self._shown.quiet and exit_code == 0:
            return
        sign, style = ("✓", "green") if exit_code == 0 else ("✗", "bold red")
        line = Text(f"{sign} ", style).append(f"{state.id}  ")
        self._print(line.append(f"{_summary(state) or f'ended with {exit_code}'}  {_clock(state.seconds)}", "dim"))

    def tick(self) -> None:
        """Do nothing: the table redraws itself."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw the table during the block."""
        with suppress(OSError):
            # A terminal that has gone takes its table with it, not the run.
            self._live.start()
        try:
            yield
        finally:
            with suppress(OSError):
                self._live.stop()

    def __rich_console__(self, terminal: RichConsole, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines of the table, for the width that the terminal has now."""
        states = list(self._watcher.states.values())
        yield _line(Text(self._head(states), "bold"))
        wide = options.max_width >= _WIDE
        # Left free: this head, "and N more", the cursor's line, and lines of failures above the table.
        room = max(1, (options.size.height - 3 - _FAILURES_SHOWN) // (1 if wide else 2))
        at_work = _at_work(self._watcher)
        for state in at_work[:room]:
            name = Text("  ").append(state.id, "bold red" if state.bad else "")
            if wide:
                yield _line(name.append(f"  {_doing(state)}  ").append(_times(state), "dim"))
            else:  # an id alone may fill the line
                yield _line(name)
                yield _line(Text(f"    {_doing(state)}  ").append(_times(state), "dim"))
        if len(at_work) > room:
            yield _line(Text(f"  and {len(at_work) - room} more", "dim"))

    def _head(self, states: list[CellState]) -> str:
        ended = [state for state in states if state.ended]
        counts = Counter("not passed" if state.bad else "passed" for state in ended)
        parts = [f"{len(ended)} of {self._shown.total} cells", *(f"{number} {name}" for name, number in counts.items())]
        waited = [f"images of {cell}"] if (cell := self._shown.images()) else []
        return " · ".join([*parts, *waited, _clock(time.monotonic() - self._began)])

    def _say(self, text: str, *, bad: bool = False) -> None:
        if bad or not self._shown.quiet:
            self._print(Text(text, "red" if bad else ""))

    def _print(self, text: Text) -> None:
        with suppress(OSError):
            # Not broken by rich: the terminal wraps a long line, and it is copied as one.
            self._terminal.print(text, soft_wrap=True)


class _AboveTable(io.StringIO):
    """A stream whose lines are printed above a table that is redrawn in place."""

    def __init__(self, terminal: RichConsole) -> None:
        super().__init__()
        self._terminal = terminal

    def write(self, text: str) -> int:
        self._terminal.print(Text(text), soft_wrap=True, end="")
        return len(text)


def display(shown: Shown, watcher: Watcher) -> Lines:
    """Return the display for the place where stderr goes."""
    mode = Mode.of(os.environ, sys.stderr)
    if mode is Mode.TERMINAL:
        return LiveTable(shown, watcher)
    return Lines(shown, watcher) if mode is Mode.PLAIN else Sections(shown, watcher, mode)


def _at_work(watcher: Watcher) -> list[CellState]:
    return [state for state in watcher.states.values() if not state.ended]


def _doing(state: CellState) -> str:
    """Return the current work of a cell: "registry 12 of 90 tests"."""
    if not state.suite:
        return state.phase or "starting"
    # The number may be that of an earlier run, which had fewer tests; then it is not shown.
    known = f" of {state.known}" if state.known and state.known >= len(state.tests) else ""
    failed = sum(failure.suite == state.suite for failure in state.failures)
    return f"{state.suite} {len(state.tests)}{known} tests" + (f", {failed} failed" if failed else "")


def _times(state: CellState) -> str:
    return _clock(state.seconds) + (f" of about {_clock(state.expected)}" if state.expected else "")


def _summary(state: CellState) -> str:
    """Return the outcomes of a cell's suites: "pyxis_basic passed, registry failed"."""
    return ", ".join(f"{suite} {outcome}" for suite, outcome in state.outcomes.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
