"""snakemake's Slurm executor: a batch job runs snakemake on the node, that runs the shell command of a rule.

Its ``slurm_extra`` is of no use here: it puts the batch script itself into the image, in which snakemake then starts an
srun of its own. That takes an image with Slurm's configuration and the user `slurm` in it.
"""

import os
from pathlib import Path
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.launchers.asking import Request

REQUIRES = ("snakemake-executor-plugin-slurm==2.8.0", "snakemake==9.27.1")

_RULE = """
rule command:
    output: "{number}.out"
    params: line=lambda wildcards: LINES[int(wildcards.number)]
    resources: runtime=10
    shell: "{params.line} > {output}"
"""
# After each look at its jobs it waits for ten seconds more than before.
_SOON = ["--slurm-init-seconds-before-status-checks=1", "--seconds-between-status-checks=1"]


class Launcher:
    """By a workflow with a file for each command, as users run it: on the login node, until all is done."""

    def __init__(self, request: "Request") -> None:
        self._request = request
        self._folder = Path(request.folder)
        self._log = self._folder / "snakemake.log"

    def submit(self, commands: list[list[str]]) -> list[Any]:
        # Snakemake's own step has all that the job has: without --overlap this one would wait for its end.
        lines = [shlex.join(["srun", "--overlap", *self._request.options, *it]) for it in commands]
        (self._folder / "Snakefile").write_text(f"LINES = {lines!r}\n{_RULE}")
        outs = [f"{number}.out" for number in range(len(commands))]
        words = ["snakemake", "--executor=slurm", f"--jobs={len(outs)}", "--keep-going", *_SOON, "--", *outs]
        # It keeps a copy of each file of a workflow in the user's cache.
        environment = {**os.environ, "XDG_CACHE_HOME": f"{self._folder}/cache", **self._request.environment}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT)
        return [self._folder / it for it in outs]

    def result(self, job: Path) -> str:
        status = self._process.wait()
        if not job.exists():  # of a rule that failed it is removed
            raise subprocess.CalledProcessError(status, "snakemake", stderr=self._log.read_text())
        return job.read_text()

    def cancel(self, job: Path) -> None:  # noqa: ARG002 - all or nothing: a workflow is interrupted
        self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
