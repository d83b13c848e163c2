"""executorlib: srun starts a Python that takes functions over ZeroMQ; it has to be in the image, with executorlib."""

import os
import subprocess
from typing import TYPE_CHECKING, Any

from executorlib import SlurmJobExecutor

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tests.support.launchers.asking import Request

REQUIRES = ("executorlib==1.11.0",)


class Launcher:
    """By `SlurmJobExecutor`, whose ``slurm_cmd_args`` reach srun; there is no batch script."""

    def __init__(self, request: "Request") -> None:
        os.environ.update(request.environment)  # srun hands them on
        words = [f"--job-name={request.name}", *request.options]
        self._executor = SlurmJobExecutor(max_workers=2, resource_dict={"cores": 1, "slurm_cmd_args": words})

    def submit(self, commands: list[list[str]]) -> list[Any]:
        return [
            self._executor.submit(subprocess.run, command, check=True, capture_output=True, text=True)
            for command in commands
        ]

    def result(self, job: "Future[subprocess.CompletedProcess[str]]") -> str:
        return job.result().stdout

    def cancel(self, job: "Future[subprocess.CompletedProcess[str]]") -> None:
        job.cancel()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
