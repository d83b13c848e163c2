"""What the advanced suite runs inside images.

The file is copied into the suite's image and imported there under the same name, so it may need nothing but the
standard library and the SDK.
"""

import errno
import os
from pathlib import Path
import socket
import time
from typing import Any

from slurm import task
from slurm.decorators import workflow
from slurm.workflow import WorkflowContext


def _read(path: str) -> str | None:
    file = Path(path)
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


# A task that waits for another one gives up before the test does, so that the test can say what was missing.
_PATIENCE = 200.0


def _wait_for(file: Path) -> bool:
    begin = time.monotonic()
    while not file.exists():
        if time.monotonic() - begin > _PATIENCE:
            return False
        time.sleep(0.2)
    return True


def _attempt(path: str, text: str) -> str:
    """Write a line into a file; return "written", or the name of the error that came instead."""
    try:
        Path(path).write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "written"


@task(time="00:10:00")
def look(*paths: str) -> dict[str, object]:
    """Say where this runs, as whom, in which image, and what some files hold."""
    return {
        "host": socket.gethostname(),
        "uid": os.getuid(),
        "image": _read("/etc/pyxis-matrix-image"),
        "marker": _read("/etc/pyxis-matrix-test"),
        "files": {path: _read(path) for path in paths},
    }


@task(time="00:10:00")
def element(number: int, after: int | None) -> dict[str, object]:
    """Be one element of an array: end only when another one has ended, and say so in the array's folder."""
    in_time = after is None or _wait_for(Path(f"ended-{after}"))
    Path(f"ended-{number}").touch()
    return {
        "number": number,
        "in time": in_time,
        "index": os.environ.get("SLURM_ARRAY_TASK_ID"),
        "image": _read("/etc/pyxis-matrix-image"),
        "marker": _read("/etc/pyxis-matrix-test"),
    }


@task(time="00:10:00")
def use_mounts(readonly: str, writable: str, text: str) -> dict[str, object]:
    """Read and write in two mounted folders."""
    return {
        "marker": _read("/etc/pyxis-matrix-test"),
        "read": _read(f"{readonly}/given"),
        "write readonly": _attempt(f"{readonly}/refused", text),
        "write writable": _attempt(f"{writable}/taken", text),
    }


@task(time="00:10:00")
def linger(left: str, text: str) -> dict[str, object]:
    """Leave a file in the container's own file system, and stay until the file ``go`` is put into the job's folder."""
    written = _attempt(left, text)
    Path("ready").touch()
    return {"written": written, "seen": _wait_for(Path("go")), "marker": _read("/etc/pyxis-matrix-test")}


@task(time="00:10:00")
def double(value: int) -> dict[str, object]:
    """Double a number, and say which job did so."""
    return {"value": 2 * value, "job": os.environ["SLURM_JOB_ID"], "marker": _read("/etc/pyxis-matrix-test")}


@task(time="00:10:00")
def increase(previous: dict[str, Any], by: int) -> dict[str, object]:
    """Add to an earlier job's result."""
    return {
        "value": previous["value"] + by,
        "job": os.environ["SLURM_JOB_ID"],
        "marker": _read("/etc/pyxis-matrix-test"),
        "previous": previous,
    }


@task(time="00:10:00")
def fail(reason: str) -> None:
    """Fail two calls deep."""
    _fail_deeply(reason)


@task(time="00:10:00")
def end_by_a_signal(number: int) -> None:
    """End as a process does that the kernel kills, by itself: without a word and without a result."""
    os.kill(os.getpid(), number)


def _fail_deeply(reason: str) -> None:
    marker = _read("/etc/pyxis-matrix-test")
    message = f"{reason} in {marker}"
    raise ZeroDivisionError(message)


@workflow(time="00:20:00")
def double_all(values: list[int], ctx: WorkflowContext) -> dict[str, object]:
    """Submit one job per number from inside this job, and gather what they say."""
    children = [double(value) for value in values]
    answers: list[dict[str, Any]] = []
    for child in children:
        child.wait(timeout=_PATIENCE, poll_interval=1.0)
        answers.append(child.get_result())
    return {
        "answers": answers,
        "job": os.environ["SLURM_JOB_ID"],
        "workflow": ctx.workflow_job_id,
        "marker": _read("/etc/pyxis-matrix-test"),
    }
