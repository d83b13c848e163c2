"""Ctrl-C, SIGTERM and SIGHUP: all end a run the same way, once, and never in the middle of taking an environment down.

A signal that the process was started to ignore stays ignored: somebody chose `nohup`, or a shell's `&`.
"""

import atexit
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
import ctypes
import os
from pathlib import Path
import signal
import sys
import threading
import time
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

PARENT_VARIABLE = "PYXIS_MATRIX_PARENT"
"""Environment variable with a process id: when that parent ends, this process is to end as well."""

_PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
# Long enough for the finalizer to end, and too short for a person to notice.
_MOMENT_S = 0.05


class Interrupted(KeyboardInterrupt):
    """A signal ends the run; ``exit_code`` is what a shell reports for it."""

    def __init__(self, number: int) -> None:
        """Keep the signal, and the time at which it arrived."""
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number
        self.at = time.time()

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as in shells: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


def child_environment() -> dict[str, str]:
    """Return the environment of a child process that ends with this one, and writes into a file of its own.

    The variables of CI services are left out: their folds and annotations belong into the service's log only.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in {"GITHUB_ACTIONS", "GITLAB_CI"}}
    # Unbuffered: the parent shows the last line of that file while the child runs.
    return {**inherited, "PYTHONUNBUFFERED": "1", PARENT_VARIABLE: str(os.getpid())}


@contextmanager
def handled() -> Iterator[None]:
    """Raise ``Interrupted`` in the main thread on the first signal and ignore all that follow.

    Taking an environment down takes a few seconds, and has a limit. A second Ctrl-C in that time must not leave half of
    it up.
    """

    def first(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    def again(lost: "sys.UnraisableHookArgs") -> None:
        """Have the signal come once more if it came while Python ran a finalizer (``__del__``), which drops exceptions.

        A moment later, from another thread: raised here, it would be dropped as well.
        """
        if not isinstance(lost.exc_value, Interrupted):
            before(lost)
            return
        number = lost.exc_value.number
        # It is ignored since `first` was called.
        signal.signal(number, first)
        threading.Timer(_MOMENT_S, os.kill, (os.getpid(), number)).start()

    before = sys.unraisablehook
    with _handled_by(first):
        sys.unraisablehook = again
        try:
            yield
        finally:
            sys.unraisablehook = before


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals during the block. Python calls handlers in the main thread only; other threads change nothing."""
    is_main = threading.current_thread() is threading.main_thread()
    heeded = [number for number in _SIGNALS if is_main and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def follow_parent(environ: Mapping[str, str] = os.environ) -> None:
    """Have the kernel send SIGTERM to this process when its parent ends, if the parent wants that (Linux only).

    nox does not pass SIGTERM on: without this, a suite would run on after its nox has ended. Only a parent that named
    itself in `PARENT_VARIABLE` counts: a shell that started a command with nohup may end without ending the command.
    """
    parent = environ.get(PARENT_VARIABLE)
    if sys.platform == "linux" and parent == str(os.getppid()):
        # For the kernel the parent is the thread that started this process: it may not end before us (prctl(2)).
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have ended before the call; then the kernel sends nothing any more.
        if parent != str(os.getppid()):
            raise Interrupted(signal.SIGTERM)


def pass_on_termination() -> None:
    """On SIGTERM, pass it on to the child processes and continue as after Ctrl-C (Linux only).

    For nox: by itself it ends at once on SIGTERM, while its child is still taking the environment down and writing the
    result. After Ctrl-C it waits for that. At its end this process still dies of SIGTERM, as its parent expects.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return

    def first(number: int, _frame: FrameType | None) -> None:
        # Once: nox waits for its child after the interrupt, and a second one would break that off.
        signal.signal(number, signal.SIG_IGN)
        for child in _children():
            with suppress(ProcessLookupError):
                os.kill(child, number)
        # At exit: whatever nox makes of the interrupt, its parent sees a death by the signal.
        atexit.register(_die_of, number)
        raise Interrupted(number)

    # A handler that is there already, as of a program that runs nox within itself, stays.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, first)


def _children() -> list[int]:
    # The kernel lists a child under the thread that started it.
    return [int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]


def _die_of(number: int) -> None:
    # A process that dies of a signal does not write out what Python still holds.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(signal.Signals(number))


@contextmanager
def shielded() -> Iterator[None]:
    """Hold signals back during the block; the first one that arrived is raised at its end."""
    arrived: list[int] = []
    with _handled_by(lambda number, _frame: arrived.append(number)):
        yield
    if arrived:
        # Now by the handler that was there before the block.
        signal.raise_signal(arrived[0])
