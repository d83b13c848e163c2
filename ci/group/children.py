"""The processes of cells: each cell has one of its own, so that one that breaks can't hurt another.

They are started by the main thread, which lives as long as the run: a child is signalled when the thread that started
it ends (see `ci.terminal.signals.follow_parent`). Each is in a session of its own, so that Ctrl-C reaches it through
here, once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
import math
from pathlib import Path
import signal
import subprocess
import time

from ci import paths
from ci.errors import typed
from ci.terminal import console
from ci.terminal.signals import child_environment

PATIENCE = 170.0
"""Seconds that a cell has to take its environment down; a little less than the noxfile gives to this process.

On a busy machine the engine was seen to take more than a minute for the volume of a node that ran many containers.
"""

_TICK = 0.2


@dataclass(frozen=True, kw_only=True)
class ChildCommand:
    """What is started for a cell."""

    cell: str
    words: tuple[str, ...]
    """Arguments of this program."""
    output: Path


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who is told how the cells are doing; the main thread calls these."""

    began: Callable[[str], None] = lambda _cell: None
    ended: Callable[[str, int], bool] = lambda _cell, _exit_code: True
    """Told of a cell's end, and its exit code; returns whether to go on with further cells."""
    tick: Callable[[], None] = lambda: None
    """Called again and again while cells run."""
    ending: Callable[[], None] = lambda: None
    """Told that the cells at work have been asked to end."""


def start(command: ChildCommand) -> "subprocess.Popen[bytes]":
    """Start a cell's process."""
    paths.make_directory(command.output.parent)
    with command.output.open("wb") as output:
        return subprocess.Popen(
            [*paths.program(), *command.words],
            cwd=paths.REPOSITORY,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run_all(
    commands: Iterable[ChildCommand | None],
    *,
    jobs: Callable[[], int],
    watch: Watch,
) -> None:
    """Run the commands side by side, until there are no more or ``watch`` would not go on.

    Whatever ends this, a signal above all, ends the processes as well: each is asked to, and takes its environment
    down.

    :param commands: yields None as long as the next one can't start yet.
    :param jobs: tells how many there may be at a time now.
    """
    waiting = iter(commands)
    running: dict[str, subprocess.Popen[bytes]] = {}
    more = True
    try:
        while running or more:
            while more and len(running) < jobs():
                try:
                    command = next(waiting)
                except StopIteration:
                    more = False
                    break
                if command is None:
                    break
                running[command.cell] = start(command)
                watch.began(command.cell)
            time.sleep(_TICK)
            watch.tick()
            for cell in _ended(running):
                if not watch.ended(cell, running.pop(cell).returncode):
                    _end(running, signal.SIGINT, watch)
                    return
    except BaseException as stop:
        _end(running, getattr(stop, "number", signal.SIGTERM), watch)
        raise


def _ended(running: Mapping[str, "subprocess.Popen[bytes]"]) -> list[str]:
    """Return the cells whose processes have ended."""
    return [cell for cell, process in running.items() if process.poll() is not None]


def _end(left: dict[str, "subprocess.Popen[bytes]"], number: int, watch: Watch) -> None:
    """Ask the processes to end, wait until they have taken their environments down, and kill what does not."""
    for process in left.values():
        process.send_signal(number)
    watch.ending()
    end = time.monotonic() + PATIENCE
    while left:
        if time.monotonic() > end:
            for cell, process in left.items():
                process.send_signal(signal.SIGKILL)
                console.warn(
                    f"{cell} did not end within {PATIENCE:.0f} s and was killed; its reaper takes down what "
                    f"it left, which may take a while. If something stays: {typed('down RUN')}"
                )
            end = math.inf
        for cell in _ended(left):
            watch.ended(cell, left.pop(cell).returncode)
        watch.tick()
        time.sleep(_TICK)
