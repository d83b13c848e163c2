"""The reaper: a small process that outlives a killed run and removes its objects, by the label of its session.

A process can't handle SIGKILL, and ``nox -j`` sends it two seconds after SIGTERM. So every environment has a reaper. It
reads from a pipe that only the run holds open: "done" means that the run took everything down itself; a pipe that
closes without "done" means that the run is dead.
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
        # No child of the run inherits the other end (PEP 446): one that outlives the run would keep the pipe open.
        stdin=subprocess.PIPE,
        # The run's terminal may be gone when there is something to say.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal must not reach it
        cwd=paths.REPOSITORY,  # where -m finds the package `ci`
        env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        yield
    finally:
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            process.communicate(_DONE, timeout=10)
        # It hangs, and nothing is left for it to do: what could be taken down is.
        if process.poll() is None:
            process.kill()
            process.wait()


def main(session: str, state: str) -> None:
    """Wait until the run writes "done" or is dead; remove the objects of a dead run."""
    # It has to outlive what ends the run: a closed terminal, a service that signals all processes of a job.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raised()  # loads docker-py now: the virtual environment may be removed right after the run is killed
    if sys.stdin.buffer.read() == _DONE:
        return
    objects = OwnObjects(api=client(os.environ))
    # Twice: the engine may still be creating an object for the last request of the run.
    for _ in range(2):
        objects.reap({LABEL_SESSION: session})
    remove(Path(state))


def remove(state: Path) -> None:
    """Remove the folder with an environment's keys, and the empty folders of runs, such as killed ones leave."""
    shutil.rmtree(state, ignore_errors=True)
    with suppress(OSError):
        for run in state.parent.parent.iterdir():
            with suppress(OSError):  # not empty, or another process has removed it
                run.rmdir()


if __name__ == "__main__":
    main(*sys.argv[1:])
