"""slurm-sdk, on the login node: a task is imported by its name, in an image that has Python and slurm-sdk."""

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from slurm import Cluster
from slurm.decorators import task

if TYPE_CHECKING:
    from slurm.job import Job

    from tests.support.launchers.asking import Request

REQUIRES = ("slurm-sdk==0.4.6", "paramiko<5")


class Launcher:
    """By its backend ``local``, with an image that is there already; the task is a function of Python's own."""

    def __init__(self, request: "Request") -> None:
        self._cluster = Cluster(backend_type="local", job_base_dir=f"{request.folder}/jobs")
        os.environ.update(request.environment)  # sbatch and srun hand them on
        as_task = task(
            time="00:10:00",
            job_name=request.name,
            packaging="container",
            packaging_image=request.image,
            packaging_push=False,
            packaging_python_executable=sys.executable,
            packaging_mounts=request.mounts,
            packaging_workdir=request.workdir,
        )
        self._task = as_task(subprocess.run)

    def submit(self, commands: list[list[str]]) -> list[Any]:
        how = {"check": True, "stdout": subprocess.PIPE, "text": True}
        return [self._cluster.submit(self._task)(command, **how) for command in commands]

    def result(self, job: "Job[subprocess.CompletedProcess[str]]") -> str:
        return job.get_result().stdout

    def cancel(self, job: "Job[subprocess.CompletedProcess[str]]") -> None:
        job.cancel()

    def close(self) -> None: ...
