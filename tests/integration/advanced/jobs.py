"""Jobs of the SDK, and clusters as other users see them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
import uuid

import pytest

from ci.environment_file import EnvironmentFile
from tests.integration.advanced.image import SdkImage
from tests.support.cluster import JOB_LIMIT

if TYPE_CHECKING:
    from slurm import Cluster
    from slurm.job import Job


def result_of(job: "Job[Any]") -> Any:  # noqa: ANN401 - a task returns what it likes
    """Wait for a job and return its result; the test fails with the job's own words if it failed."""
    assert job.wait(timeout=JOB_LIMIT, poll_interval=1.0), f"{job.get_status()}\n{job.get_stderr()}"
    return job.get_result()


@dataclass(frozen=True, kw_only=True)
class SdkJobs:
    """Submits tasks to the first node (a container's name is known only on its node) and remembers the jobs."""

    cluster: "Cluster"
    node: str
    submitted: list["Job[Any]"] = field(default_factory=list)

    def submit(self, task: Any, packaging: Mapping[str, object], *arguments: object, **options: object) -> "Job[Any]":  # noqa: ANN401 - slurm's tasks are untyped
        """Submit a task with its arguments; ``options`` are sbatch's."""
        chosen: dict[str, Any] = {"nodelist": self.node, **options}
        submit: Any = self.cluster.submit(task, packaging_config=dict(packaging), **chosen)
        job: Job[Any] = submit(*arguments)
        self.submitted.append(job)
        return job

    def call(self, task: Any, image: SdkImage, *arguments: object) -> "Job[Any]":  # noqa: ANN401 - as above
        """Call a task as a user's script does; other jobs among its arguments become dependencies."""
        job: Job[Any] = image.holding(task, nodelist=self.node)(*arguments)
        self.submitted.append(job)
        return job

    def run(self, task: Any, packaging: Mapping[str, object], *arguments: object, **options: object) -> Any:  # noqa: ANN401 - as above
        """Submit a task and return its result."""
        return result_of(self.submit(task, packaging, *arguments, **options))

    def end(self) -> None:
        """Cancel what a failed test has left running."""
        for job in self.submitted:
            if not job.is_completed():
                job.cancel()
                job.wait(timeout=JOB_LIMIT, poll_interval=0.5)


@contextmanager
def sdk_cluster(environment: EnvironmentFile, user: str, **more: object) -> Iterator["Cluster"]:
    """Connect the SDK to the login node as another user."""
    from slurm import Cluster  # noqa: PLC0415 - the subject may be another package, which has no such module

    login = environment.login
    settings: dict[str, Any] = {
        "backend_type": "ssh",
        "hostname": login.host,
        "port": login.port,
        "username": user,
        "key_filename": login.private_key,
        "allow_agent": False,
        "look_for_keys": False,
        "host_key_policy": "reject",
        "job_base_dir": f"/home/{user}/sdk-{uuid.uuid4().hex[:12]}",
        **more,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", login.home)
        with Cluster(**settings) as cluster:
            yield cluster
