"""How the legacy suite waits for jobs and looks at what they left."""

from collections.abc import Callable
import time
from typing import TypeVar

from slurm import Cluster, Job, SlurmTask

T = TypeVar("T")

# What the fixture `on_nodes` is: a task and its options in, the task made ready for the nodes out.
Prepare = Callable[..., SlurmTask]

# An idle cluster starts a job within a second; this leaves room for a loaded machine, not for a stuck queue.
LIMIT = 90.0
_POLL = 0.2


def state_at_end(job: Job[T], limit: float = LIMIT) -> str:
    """Wait until a job has ended in whatever way; return Slurm's word for it. Fails with the job's status otherwise."""
    job.wait(timeout=limit, poll_interval=_POLL)
    status = job.get_status()
    assert job.is_completed(), f"job {job.id} has not ended after {limit:g} s: {status}"
    return str(status["JobState"])


def result(job: Job[T]) -> T:
    """Wait for a job and return what its task returned; the SDK's own error, with both outputs, if it failed."""
    state_at_end(job)
    return job.get_result(timeout=LIMIT)


def eventually(what: str, condition: Callable[[], bool], limit: float = LIMIT) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"after {limit:g} s still not so: {what}"
        time.sleep(_POLL)


def beats(cluster: Cluster, trace: str) -> int:
    """Return how often the task ``beat`` has written to its file; 0 where there is none."""
    try:
        return cluster.backend.read_file(trace).count("beat\n")
    except FileNotFoundError:
        return 0
