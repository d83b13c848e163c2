"""What the legacy suite runs on the nodes.

The file is copied to the cluster as it is and imported there under the same name, so it may need nothing but the
standard library and the SDK.
"""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import pwd
import socket
import sys
import time

from slurm import task


@task(packaging="none", time="00:05:00")
def where() -> dict[str, str]:
    """Say who runs the job, where, and with which Python."""
    return {
        "host": socket.gethostname(),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "python": sys.executable,
        "folder": str(Path.cwd()),
    }


@task(packaging="none", time="00:05:00")
def echo(value: object) -> object:
    """Return the argument."""
    return value


@task(packaging="none", time="00:05:00")
def subtract(minuend: int, subtrahend: int) -> int:
    """Return the difference: unlike a sum it notices when arguments change places."""
    return minuend - subtrahend


@task(packaging="none", time="00:05:00")
def fail(message: str) -> None:
    """Raise an error that has a cause."""
    known: dict[str, str] = {}
    try:
        sys.stdout.write(known[message])
    except KeyError as error:
        raise ValueError(f"refused: {message}") from error


@task(packaging="none", time="00:05:00")
def exit_with(status: int) -> None:
    """End the interpreter with an exit status."""
    sys.exit(status)


@task(packaging="none", time="00:05:00")
def say(out: str, err: str) -> None:
    """Write to both outputs."""
    sys.stdout.write(out + "\n")
    sys.stderr.write(err + "\n")


@task(packaging="none", time="00:05:00")
def leave(name: str, text: str) -> str:
    """Write a file under a relative name; return where that was."""
    Path(name).write_text(text, encoding="utf-8")
    return str(Path(name).resolve())


@task(packaging="none", time="00:05:00")
def environment(*names: str) -> dict[str, str | None]:
    """Return the values of environment variables."""
    return {name: os.environ.get(name) for name in names}


@task(packaging="none", time="00:05:00")
def element(index: int, *, seconds: float = 0.0, mark: str = "", after: Sequence[str] = ()) -> dict[str, object]:
    """Take part in an array: return what was handed over, what Slurm says, and from when to when it took.

    The task takes the given time, and for longer until the files ``after`` are there; at its end it makes the file
    ``mark``.
    """
    begun = time.time()
    time.sleep(seconds)
    while not all(Path(file).exists() for file in after):
        time.sleep(0.1)
    ended = time.time()
    if mark:
        Path(mark).touch()
    return {"index": index, "task": os.environ.get("SLURM_ARRAY_TASK_ID"), "begun": begun, "ended": ended}


@task(packaging="none", time="00:05:00")
def fail_if(index: int, unlucky: int) -> int:
    """Fail as one element of an array."""
    if index == unlucky:
        raise RuntimeError(f"element {index} is unlucky")
    return index * 10


@task(packaging="none", time="00:05:00")
def record(name: str, values: Mapping[str, object]) -> dict[str, object]:
    """Add a name and the time to what an earlier job returned."""
    return {**values, name: time.time()}


@task(packaging="none", time="00:05:00")
def beat(file: str, seconds: float = 120.0) -> str:
    """Write a growing file until it is stopped or the time is over."""
    end = time.monotonic() + seconds
    with Path(file).open("a", encoding="utf-8") as stream:
        while time.monotonic() < end:
            stream.write("beat\n")
            stream.flush()
            time.sleep(0.1)
    return "never stopped"
