"""The processes of cells: each cell has its own, so that one that crashes does not affect another.

The main thread starts them, because it lives as long as the run: the kernel signals a child when the thread that
started it ends (see `ci.terminal.signals.follow_parent`). Each is in a session of its own, so that a Ctrl-C reaches it
only once, from here.
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
"""Seconds for a cell to take its environment down; a little less than the noxfile gives to this process.

On a busy machine, removing the volume of a node that ran many containers was seen to take more than a minute.
"""

# Seconds; short, because progress and ends are seen only between two of them.
_TICK = 0.2


@dataclass(frozen=True, kw_only=True)
class ChildCommand:
    """The command that runs a cell."""

    cell: str
    words: tuple[str, ...]
    """Arguments of this program."""
    output: Path


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Functions that the main thread calls as cells begin and end."""

    began: Callable[[str], None] = lambda _cell: None
    ended: Callable[[str, int], bool] = lambda _cell, _exit_code: True
    """Called with a cell and its exit code; returns whether to start further cells."""
    tick: Callable[[], None] = lambda: None
    """Called several times a second while cells run."""
    ending: Callable[[], None] = lambda: None
    """Called after the running cells were signalled to end."""


def start(command: ChildCommand) -> "subprocess.Popen[bytes]":
    """Start a cell's process."""
    paths.make_directory(command.output.parent)
    with command.output.open("wb") as output:
        return subprocess.Popen(
            [*paths.program(), *command.words],
            cwd=paths.REPOSITORY,
            env=child_environment(),
            # Nobody could answer a question: several cells would ask at one terminal.
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
    """Run the commands side by side, until there are no more or ``watch.ended`` returns False.

    An exception, above all a signal, ends the processes as well: each gets a signal, and takes its environment down.

    :param commands: yields None while the next one can't start yet.
    :param jobs: returns how many may run at the same time now.
    """
    waiting = iter(commands)
    running: dict[str, subprocess.Popen[bytes]] = {}
    more = True
    try:
        while running or more:
            # `jobs` is asked every time, because it also takes note of images that are built (ci/group/running.py).
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
    # Also at an error of this program: the cells have to take their environments down, and are waited for.
    except BaseException as stop:
        # `signals.Interrupted` has the signal that came; the cells get the same one.
        _end(running, getattr(stop, "number", signal.SIGTERM), watch)
        raise


def _ended(running: Mapping[str, "subprocess.Popen[bytes]"]) -> list[str]:
    """Return the cells whose processes have ended."""
    return [cell for cell, process in running.items() if process.poll() is not None]


def _end(left: dict[str, "subprocess.Popen[bytes]"], number: int, watch: Watch) -> None:
    """Signal the processes, wait until they have taken their environments down, and kill those that do not end."""
    for process in left.values():
        process.send_signal(number)
    watch.ending()
    end = time.monotonic() + PATIENCE
    while left:
        if time.monotonic() > end:
            for cell, process in left.items():
                process.send_signal(signal.SIGKILL)
                console.warn(
                    f"{cell} did not end within {PATIENCE:.0f} s and was killed; its reaper removes its containers, "
                    f"which may take a while. If some are left: {typed('down RUN')}"
                )
            # Killed once; after that there is only the wait for the kernel.
            end = math.inf
        for cell in _ended(left):
            watch.ended(cell, left.pop(cell).returncode)
        watch.tick()
        time.sleep(_TICK)
