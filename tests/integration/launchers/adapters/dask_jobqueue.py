"""dask-jobqueue: a batch job is a worker; its ``python`` is a command line, so that srun can stand in front of it."""

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from dask_jobqueue import SLURMCluster
from distributed import Client, Future

if TYPE_CHECKING:
    from tests.support.launchers.asking import Request

REQUIRES = ("dask-jobqueue==0.9.0",)


class Launcher:
    """By `SLURMCluster`; workers are asked for by `scale`."""

    def __init__(self, request: "Request") -> None:
        self._cluster = SLURMCluster(
            cores=1,
            memory="1GB",
            nanny=False,
            walltime="00:10:00",
            job_name=request.name,
            log_directory=f"{request.folder}/logs",
            job_directives_skip=["--mem"],
            job_script_prologue=[f"export {name}={shlex.quote(it)}" for name, it in request.environment.items()],
            python=shlex.join(["srun", *request.options, sys.executable]),
        )
        self._client = Client(self._cluster)

    def submit(self, commands: list[list[str]]) -> list[Any]:
        self._cluster.scale(jobs=len(commands))
        how = {"check": True, "capture_output": True, "text": True, "pure": False}
        return [self._client.submit(subprocess.run, command, **how) for command in commands]

    def result(self, job: Future) -> str:
        return str(job.result().stdout)

    def cancel(self, job: Future) -> None:
        job.cancel()

    def close(self) -> None:
        self._client.close()
        self._cluster.close()
