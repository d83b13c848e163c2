"""One job with a proof: what shows that an environment is of use."""

import shlex

from ci.environment.ssh import Connection, RemoteAnswer
from ci.environment_file import EnvironmentFile
from ci.errors import LaunchError
from tests.support.enroot import enroot_form
from tests.support.markers import IMAGE_MARKER, IMAGE_MARKER_TEXT

_MADE_BY = "Slurm"


def words(environment: EnvironmentFile) -> list[str]:
    """Return the command on the login node: in the job image where the cell has one, else a plain step."""
    here = f"--nodelist={environment.nodes[0]}"
    if environment.job_reference is None:
        # Only a step has this variable.
        return ["srun", here, "sh", "-c", f'test -n "$SLURM_STEP_ID" && echo {_MADE_BY}']
    return ["srun", here, f"--container-image={enroot_form(environment.job_reference)}", "cat", IMAGE_MARKER]


def command(environment: EnvironmentFile) -> str:
    """Return the same as a line for a shell."""
    return shlex.join(words(environment))


def problem(environment: EnvironmentFile, answer: RemoteAnswer) -> str:
    """Return what is wrong with the job's answer; empty if it ran where it had to."""
    wanted = _MADE_BY if environment.job_reference is None else IMAGE_MARKER_TEXT
    if answer.status == 0 and wanted in answer.stdout.splitlines():
        return ""
    return f"the job did not answer {wanted!r}: {answer}"


def run(environment: EnvironmentFile, connection: Connection) -> None:
    """Run it; ``LaunchError`` says what is wrong with its answer."""
    if wrong := problem(environment, connection.run(command(environment))):
        raise LaunchError(wrong)
