"""submitit: srun runs a pickled function in a batch job; Python has to be in the image, with submitit."""

import shlex
from typing import TYPE_CHECKING, Any

import submitit
from submitit.helpers import CommandFunction

if TYPE_CHECKING:
    from tests.support.launchers.asking import Request

REQUIRES = ("submitit==1.5.4",)


class Launcher:
    """By `SlurmExecutor`, whose ``srun_args`` reach the srun of the function."""

    def __init__(self, request: "Request") -> None:
        self._executor = submitit.SlurmExecutor(folder=f"{request.folder}/submitit")
        setup = [f"export {name}={shlex.quote(it)}" for name, it in request.environment.items()]
        self._executor.update_parameters(time=10, job_name=request.name, srun_args=request.options, setup=setup)

    def submit(self, commands: list[list[str]]) -> list[Any]:
        functions = [CommandFunction(it, verbose=False) for it in commands]
        if len(functions) == 1:
            return [self._executor.submit(functions[0])]
        with self._executor.batch():
            return [self._executor.submit(it) for it in functions]

    def result(self, job: "submitit.Job[str]") -> str:
        return str(job.result())

    def cancel(self, job: "submitit.Job[str]") -> None:
        job.cancel()

    def close(self) -> None: ...
