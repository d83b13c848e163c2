"""The last resort against leftovers: a tiny process that outlives a killed run and clears what carries its label.

SIGKILL can't be handled, and under ``nox -j`` it comes two seconds after SIGTERM. So every environment is watched from
outside: the reaper reads from a pipe that only the run holds open. "done" means that nothing is left to do; a pipe that
closes without a word means that the run is dead.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import docker

from ci import paths
from ci.engine.connection import LABEL_CELL, LABEL_RUN, reap

_DONE = b"done\n"


@contextmanager
def watching(*, environment: Mapping[str, str], run: str, cell_id: str, state: Path) -> Iterator[None]:
    """Have the objects of ``run`` and ``cell_id``, and the folder ``state``, cleared should this process be killed."""
    command = [sys.executable, "-m", "ci.environment.reaper", run, cell_id, str(state)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal is not meant for it
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


def main(run: str, cell_id: str, state: str) -> None:
    """Wait for the run to say "done" or to die, and clear up after a dead one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == _DONE:
        return
    api = docker.from_env(timeout=120)
    # Twice: a request that the run had sent before it died may still bring something up.
    for _ in range(2):
        reap(api, {LABEL_RUN: run, LABEL_CELL: cell_id})
    shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
