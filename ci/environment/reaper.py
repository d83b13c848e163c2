"""The reaper: a small process that outlives a killed run and removes what that has made, by the label of its session.

A process can't handle SIGKILL, and under ``nox -j`` it comes two seconds after SIGTERM. So every environment has a
reaper. It reads from a pipe that only the run holds open: "done" means that the run took everything down itself; a pipe
that closes without it means that the run is dead.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

from ci import paths
from ci.engine.connection import client
from ci.engine.labels import LABEL_SESSION
from ci.engine.refusals import raised
from ci.engine.removing import OwnObjects

_DONE = b"done\n"


@contextmanager
def watching(*, environment: Mapping[str, str], session: str, state: Path) -> Iterator[None]:
    """Start a reaper that removes the objects of ``session``, and ``state``, if this process is killed."""
    command = [sys.executable, "-m", "ci.environment.reaper", session, str(state)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it must not receive a Ctrl-C in the terminal
        cwd=paths.REPOSITORY,
        env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        yield
    finally:
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            process.communicate(_DONE, timeout=10)
        if process.poll() is None:
            process.kill()
            process.wait()


def main(session: str, state: str) -> None:
    """Wait until the run says "done" or is dead; remove what a dead run left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raised()  # docker-py is loaded now: what kills the run may remove the packages next
    if sys.stdin.buffer.read() == _DONE:
        return
    objects = OwnObjects(api=client(os.environ))
    # Twice: a request that the run sent before it died may still create something.
    for _ in range(2):
        objects.reap({LABEL_SESSION: session})
    remove(Path(state))


def remove(state: Path) -> None:
    """Remove the folder with an environment's keys, and those of runs that have none, as killed ones leave them."""
    shutil.rmtree(state, ignore_errors=True)
    with suppress(OSError):
        for run in state.parent.parent.iterdir():
            with suppress(OSError):  # only an empty folder goes; or another process was here first
                run.rmdir()


if __name__ == "__main__":
    main(*sys.argv[1:])
