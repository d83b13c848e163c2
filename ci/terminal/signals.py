"""Ctrl-C, SIGTERM and SIGHUP: all end a run the same way, once, and never in the middle of taking things down.

One that the process was started to ignore stays ignored: `nohup` and a shell's `&` are asked for.
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
"""Environment variable with the process id of a parent whose end is to end its child as well."""

_PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end; ``exit_code`` is what a shell reports for it."""

    def __init__(self, number: int) -> None:
        """Remember the signal, and when it came."""
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number
        self.at = time.time()

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


def child_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a process of ours that ends with this one, and writes into a file of its own.

    So it is told nothing of a CI service, into whose log it would write folds and annotations.
    """
    inherited = {name: value for name, value in environ.items() if name not in {"GITHUB_ACTIONS", "GITLAB_CI"}}
    return {**inherited, "PYTHONUNBUFFERED": "1", PARENT_VARIABLE: str(os.getpid())}


@contextmanager
def handled() -> Iterator[None]:
    """Raise ``Interrupted`` in the main thread on the first signal and ignore all that follow.

    Taking an environment down takes a few bounded seconds; a second Ctrl-C in that time must not leave half of it.
    """

    def first(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    with _handled_by(first):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have signals handled during the block, where they come: in the main thread."""
    comes = threading.current_thread() is threading.main_thread()
    heeded = [number for number in _SIGNALS if comes and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def follow_parent(environ: Mapping[str, str] = os.environ) -> None:
    """Have this process sent SIGTERM when its parent ends, if the parent asked for it (Linux only).

    nox does not pass SIGTERM on: without this, a suite would go on behind a nox that has gone. Nobody else's parent
    counts, so that whoever starts a command with nohup and leaves is not taken for one that has died.
    """
    parent = environ.get(PARENT_VARIABLE)
    if sys.platform == "linux" and parent == str(os.getppid()):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if parent != str(os.getppid()):  # it ended just now
            raise Interrupted(signal.SIGTERM)


def pass_on_termination() -> None:
    """On SIGTERM, hand it on to the child processes and go on as after Ctrl-C (Linux only).

    For nox, which by itself ends at once, while the environment is still being taken down and the result is not yet
    written. After Ctrl-C it waits for both. In the end this process dies of SIGTERM, as it would have otherwise.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return

    def first(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        for child in _children():
            with suppress(ProcessLookupError):
                os.kill(child, number)
        atexit.register(_die_of, number)
        raise Interrupted(number)

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, first)


def _children() -> list[int]:
    return [int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]


def _die_of(number: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(signal.Signals(number))


@contextmanager
def shielded() -> Iterator[None]:
    """Hold signals back during the block; the first one that came is raised at its end."""
    came: list[int] = []
    with _handled_by(lambda number, _frame: came.append(number)):
        yield
    if came:
        signal.raise_signal(came[0])
