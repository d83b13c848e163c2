"""Parsl: a batch job is a pool of workers, started by srun; Python and Parsl have to be in the image."""

from pathlib import Path
import shlex
import sys
from typing import TYPE_CHECKING, Any

import parsl
from parsl.config import Config
from parsl.dataflow.futures import AppFuture
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider

if TYPE_CHECKING:
    from tests.support.launchers.asking import Request

REQUIRES = ("parsl==2026.10.26",)


@parsl.bash_app  # type: ignore[untyped-decorator]
def _run(line: str, stdout: str, stderr: str) -> str:  # noqa: ARG001 - Parsl takes them
    return line


class Launcher:
    """By `SlurmProvider` and `SrunLauncher`, whose ``overrides`` reach srun."""

    def __init__(self, request: "Request") -> None:
        self._folder = request.folder
        variables = "".join(f"export {name}={shlex.quote(it)}\n" for name, it in request.environment.items())
        provider = SlurmProvider(
            exclusive=False,
            walltime="00:10:00",
            worker_init=variables,
            scheduler_options=f"#SBATCH --job-name={request.name}",
            launcher=SrunLauncher(overrides=shlex.join(request.options)),
        )
        executor = HighThroughputExecutor(
            label="pool",
            address="127.0.0.1",
            encrypted=False,
            max_workers_per_node=1,
            launch_cmd=f"{sys.prefix}/bin/{DEFAULT_LAUNCH_CMD}",  # an image has a PATH of its own
            provider=provider,
        )
        parsl.load(Config(executors=[executor], run_dir=f"{request.folder}/runinfo", strategy="none"))

    def submit(self, commands: list[list[str]]) -> list[Any]:
        outs = [f"{self._folder}/{number}" for number in range(len(commands))]
        pairs = zip(outs, commands, strict=True)
        return [_run(shlex.join(command), stdout=f"{out}.out", stderr=f"{out}.err") for out, command in pairs]

    def result(self, job: AppFuture) -> str:
        job.result()
        return Path(job.stdout).read_text()

    def cancel(self, job: AppFuture) -> None:
        job.cancel()

    def close(self) -> None:
        parsl.dfk().cleanup()
