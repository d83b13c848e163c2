"""What a person sees of a run while it goes: a live table on a terminal, timed lines elsewhere, sections in CI."""

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
"""How often plain lines say what is at work, so that nobody takes silence for the end."""
_FAILURES_SHOWN = 6
_WIDE = 110


@dataclass(kw_only=True)
class Shown:
    """What of a run is shown."""

    total: int
    """How many cells it has; less those that turn out to need no run."""
    images: Callable[[], str] = lambda: ""
    """Returns the cell whose images are made now; empty if none is waited for."""
    folder: Path
    quiet: bool = False
    """Only what went wrong."""


class Lines:
    """Timed lines, one for each thing that happens."""

    def __init__(self, shown: Shown, watcher: Watcher) -> None:
        """Show what ``watcher`` finds."""
        self._shown = shown
        self._watcher = watcher
        self._said = time.monotonic()

    @property
    def stream(self) -> TextIO:
        """Where others write lines while this is shown."""
        return sys.stderr

    def begin(self, cell: str) -> None:
        """Show that a cell begins."""
        self._say(f"{cell}: begun")

    def news(self, cell: str, news: News) -> None:
        """Show what is new of a cell."""
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
        """Show that the cells at work are ending before their time."""
        if at_work := _at_work(self._watcher):
            self._say(f"ending; taken down first: {', '.join(state.id for state in at_work)}", bad=True)

    def tick(self) -> None:
        """Say now and then what is at work."""
        if time.monotonic() - self._said > _EVERY_SECONDS:
            for state in _at_work(self._watcher):
                self._say(f"{state.id}: {_doing(state)}, {_times(state)}")
            if cell := self._shown.images():
                self._say(f"{cell}: images")

    def shown(self) -> AbstractContextManager[None]:
        """Show it during the block."""
        return nullcontext()

    def _say(self, text: str, *, bad: bool = False) -> None:
        if bad or not self._shown.quiet:
            self._said = time.monotonic()
            console.say(text)


class Sections(Lines):
    """Lines in the log of a CI service; what a cell wrote follows at its end, folded."""

    def __init__(self, shown: Shown, watcher: Watcher, service: Mode) -> None:
        """Write for ``service``."""
        super().__init__(shown, watcher)
        self._service = service

    def fail(self, cell: str, failure: Failure) -> None:
        """Annotate the line of the test where the service can."""
        if self._service is not Mode.GITHUB:
            super().fail(cell, failure)
            return
        text = f"{failure.test}: {failure.message}"
        title = f"{failure.suite} on {cell}"
        self._write(folding.annotation(text, title=title, file=failure.file, line=failure.line))

    def end(self, state: CellState, exit_code: int) -> None:
        """Show all that a cell wrote, in a section."""
        super().end(state, exit_code)
        if self._shown.quiet and exit_code == 0:
            return
        title = f"{state.id}: what it wrote"
        with suppress(OSError):
            written = (self._shown.folder / state.id / paths.OUTPUT_FILE).read_text(encoding="utf-8", errors="replace")
            self._write(folding.begin(self._service, title, time.time()))
            self._write(folding.quoted(self._service, written.rstrip("\n")))
            self._write(folding.end(self._service, title, time.time()))

    def _write(self, text: str) -> None:
        with suppress(OSError):
            self.stream.write(text + "\n")
            self.stream.flush()


class LiveTable(Lines):
    """A table of the cells at work, renewed in place; what has ended stands above it."""

    def __init__(self, shown: Shown, watcher: Watcher, terminal: RichConsole | None = None) -> None:
        """Draw on ``terminal``, stderr's if none is given."""
        super().__init__(shown, watcher)
        self._terminal = terminal or RichConsole(stderr=True, highlight=False, markup=False, emoji=False)
        self._began = time.monotonic()
        self._live = Live(
            console=self._terminal,
            get_renderable=lambda: self,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @property
    def stream(self) -> TextIO:
        """Above the table."""
        return _Above(self._terminal)

    def begin(self, cell: str) -> None:
        """Do nothing: its row appears by itself."""

    def news(self, cell: str, news: News) -> None:
        """Show what went wrong; the rest is in the table."""
        for failure in news.failures:
            self.fail(cell, failure)

    def end(self, state: CellState, exit_code: int) -> None:
        """Leave a line of a cell that has ended."""
        if self._shown.quiet and exit_code == 0:
            return
        sign, style = ("✓", "green") if exit_code == 0 else ("✗", "bold red")
        line = Text(f"{sign} ", style).append(f"{state.id}  ")
        self._print(line.append(f"{_summary(state) or f'ended with {exit_code}'}  {_clock(state.seconds)}", "dim"))

    def tick(self) -> None:
        """Do nothing: the table renews itself."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw it during the block."""
        with suppress(OSError):
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
        room = max(1, options.size.height - 3 - _FAILURES_SHOWN)
        at_work = _at_work(self._watcher)
        for state in at_work[:room]:
            name = Text("  ").append(state.id, "bold red" if state.bad else "")
            if options.max_width >= _WIDE:
                yield _line(name.append(f"  {_doing(state)}  ").append(_times(state), "dim"))
            else:  # an id alone may fill it
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
            self._terminal.print(text, soft_wrap=True)


class _Above(io.StringIO):
    """Lines that are printed above a table which is renewed in place."""

    def __init__(self, terminal: RichConsole) -> None:
        super().__init__()
        self._terminal = terminal

    def write(self, text: str) -> int:
        self._terminal.print(Text(text), soft_wrap=True, end="")
        return len(text)


def display(shown: Shown, watcher: Watcher) -> Lines:
    """Return what fits where stderr goes to."""
    mode = Mode.of(os.environ, sys.stderr)
    if mode is Mode.TERMINAL:
        return LiveTable(shown, watcher)
    return Lines(shown, watcher) if mode is Mode.PLAIN else Sections(shown, watcher, mode)


def _at_work(watcher: Watcher) -> list[CellState]:
    return [state for state in watcher.states.values() if not state.ended]


def _doing(state: CellState) -> str:
    """Return what a cell does now: "registry 12 of 90 tests"."""
    if not state.suite:
        return state.phase or "starting"
    # The number is that of an earlier run, which may have had fewer.
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
