"""Asks a launcher one thing: run on the login node as the job user, by the interpreter that has the launcher's package.

``python asking.py ADAPTER FOLDER`` reads the request in the folder and writes there what came of it. An adapter is a
file with ``REQUIRES`` and a class `Launcher` like the one below; it imports the launcher, and nothing of this project.
"""

from collections.abc import Callable
from contextlib import suppress
import dataclasses
import importlib.util
import json
import os
from pathlib import Path
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, Protocol

REQUEST, ANSWER = "request.json", "answer.json"
_GIVEN_UP_S = 90
"""With none of its jobs left in Slurm's queue for so long, a launcher that still waits is said to bring nothing."""
_LIMIT_S = 240
"""Likewise where it has never been seen to submit one."""
_STARTED_S = 240
_ENDED_S = 40
"""More than any launcher takes that ends a job at all: what still writes then was not ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a launcher is asked to do."""

    folder: str
    """Empty, seen by all nodes and in the image; it is the working directory of who submits."""
    name: str
    """Of the job."""
    image: str
    mounts: list[str]
    """As ``SOURCE:TARGET``; the folder and the launcher's own installation are among them."""
    workdir: str
    """In the image; empty for that which the image says."""
    environment: dict[str, str]
    """What the commands have to find in theirs."""
    commands: list[list[str]]
    cancel: bool
    """Whether the command is cancelled as soon as it has begun."""

    @property
    def options(self) -> list[str]:
        """All that Pyxis is told, as words for srun."""
        workdir = [f"--container-workdir={self.workdir}"] if self.workdir else []
        return [f"--container-image={self.image}", f"--container-mounts={','.join(self.mounts)}", *workdir]


class Launcher(Protocol):
    """What an adapter has to have. ``NotImplementedError``, with the reason: the launcher has no way to do it."""

    def __init__(self, request: Request) -> None:
        """Begin; nothing is submitted yet."""

    def submit(self, commands: list[list[str]]) -> list[Any]:
        """Submit each command and return at once with a handle of each, as the launcher's users do it."""

    def result(self, job: Any) -> str:  # noqa: ANN401 - the launcher's own
        """Return what a command wrote to its output, or raise what the launcher raises for one that failed."""

    def cancel(self, job: Any) -> None:  # noqa: ANN401
        """Cancel a command that runs."""

    def close(self) -> None:
        """End, as the launcher's users do it."""


def _launcher(adapter: str, request: Request) -> Launcher:
    # By its path: an adapter is called like its launcher, and must not be found in the place of that.
    spec = importlib.util.spec_from_file_location("the_adapter", adapter)
    if not spec or not spec.loader:
        raise ImportError(adapter)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Launcher = module.Launcher(request)
    return found


def _jobs(folder: str) -> str:
    """Return the jobs in Slurm's queue that were submitted in this folder."""
    # The folder's path ends in random letters, so that no other job has it.
    words = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i %Z"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return " ".join(line.split()[0] for line in listed if line.partition(" ")[2].startswith(folder))


def outcome(fetch: Callable[[], str | None], folder: str) -> dict[str, Any]:
    """Return what a launcher says of a command: what it wrote, or how it failed, or that nothing comes."""
    came: dict[str, Any] = {}

    def ask() -> None:
        try:
            came.update(status=0, output=fetch())
        except NotImplementedError as error:
            came.update(unsupported=str(error))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the launcher says
            number = getattr(error, "returncode", getattr(error, "exitcode", None))
            said = [*traceback.format_exception(error), *(str(getattr(error, "stderr", None) or ""),)]
            came.update(status=number, failure="".join(said))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    begun, listed = time.monotonic(), 0.0
    while thread.is_alive():
        thread.join(1)
        now = time.monotonic()
        listed = now if _jobs(folder) else listed
        if (listed and now - listed > _GIVEN_UP_S) or now - begun > _LIMIT_S:
            return {"never": True}
    return came


def _ends(launcher: Launcher, job: Any, folder: Path) -> dict[str, Any]:  # noqa: ANN401
    """Cancel a command that writes to ``alive`` all the time; tell whether it goes on."""
    alive = folder / "alive"
    begun = time.monotonic()
    while not alive.exists():
        if time.monotonic() - begun > _STARTED_S:
            return {"never": True}
        time.sleep(0.5)
    came = outcome(lambda: launcher.cancel(job), str(folder))
    begun = quiet = time.monotonic()
    said = alive.read_text(encoding="utf-8")
    while time.monotonic() - begun < _ENDED_S and time.monotonic() - quiet < 10:
        time.sleep(1)
        if (now := alive.read_text(encoding="utf-8")) != said:
            said, quiet = now, time.monotonic()
    return came | {"goes_on": time.monotonic() - quiet < 10}


def main(adapter: str, folder: str) -> None:
    """Ask, and write what came of it."""
    request = Request(**json.loads(Path(folder, REQUEST).read_text(encoding="utf-8")))
    os.chdir(folder)
    answers: list[dict[str, Any]] = []
    launcher = None
    try:
        launcher = _launcher(adapter, request)
        jobs = launcher.submit(request.commands)
    except NotImplementedError as error:
        answers = [{"unsupported": str(error)}]
    else:
        if request.cancel:
            answers = [_ends(launcher, jobs[0], Path(folder))]
        else:
            answers = [outcome(lambda job=job: launcher.result(job), folder) for job in jobs]  # type: ignore[misc]
    Path(folder, ANSWER).write_text(json.dumps(answers), encoding="utf-8")
    if launcher:
        ending = threading.Thread(target=launcher.close, daemon=True)
        ending.start()
        ending.join(30)
    if left := _jobs(folder):
        subprocess.run(["scancel", *left.split()], check=False)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(0)  # a launcher that waits for ever has threads that do


if __name__ == "__main__":
    main(*sys.argv[1:])
