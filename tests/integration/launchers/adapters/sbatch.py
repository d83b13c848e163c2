"""Plain sbatch: a script that starts the command with srun. What all others are measured by."""

from pathlib import Path
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.launchers.asking import Request

REQUIRES: tuple[str, ...] = ()


class Launcher:
    """By commands alone."""

    def __init__(self, request: "Request") -> None:
        self._request = request
        self._folder = Path(request.folder)

    def submit(self, commands: list[list[str]]) -> list[Any]:
        return [self._submitted(command) for command in commands]

    def _submitted(self, command: list[str]) -> str:
        variables = "".join(f"export {name}={shlex.quote(it)}\n" for name, it in self._request.environment.items())
        script = f"#!/bin/sh\n{variables}{shlex.join(['srun', *self._request.options, *command])}\n"
        options = [f"--job-name={self._request.name}", "--output=%j.out", "--error=%j.err"]
        words = ["sbatch", "--parsable", *options]
        return subprocess.run(words, input=script, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def result(self, job: str) -> str:
        # Not by sbatch --wait: after its first looks it takes half a minute to the next.
        words = ["scontrol", "--oneliner", "show", "job", job]
        while True:
            said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            facts = dict(it.split("=", 1) for it in said if "=" in it)
            if facts["JobState"] not in {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING"}:
                break
            time.sleep(1)
        if facts["JobState"] != "COMPLETED":
            status = int(facts["ExitCode"].partition(":")[0])
            raise subprocess.CalledProcessError(status, "sbatch", stderr=(self._folder / f"{job}.err").read_text())
        return (self._folder / f"{job}.out").read_text()

    def cancel(self, job: str) -> None:
        subprocess.run(["scancel", job], check=True)

    def close(self) -> None: ...
