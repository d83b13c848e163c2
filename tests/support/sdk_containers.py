"""The containers of the SDK's jobs: it names every one, and Pyxis keeps what has a name, hundreds of megabytes each."""

import re
from typing import TYPE_CHECKING, Any

from ci.environment.wait import NotYet, wait_for
from tests.support.cluster import JOB_LIMIT, Node, Shell

if TYPE_CHECKING:
    from slurm.job import Job

# The last part of a job's folder; an array's elements share one.
_JOB_ID = re.compile(r"\d{8}_\d{6}_[0-9a-f]{8}")


def container_of(job: "Job[Any]") -> str:
    """Return the name under which the SDK asks Pyxis for a job's container."""
    return f"slurm-sdk-{job.pre_submission_id}"


def remove_containers_below(nodes: list[Node], login: Shell, folder: str) -> None:
    """Remove the containers of all jobs that have their folders below ``folder``, children of workflows too."""
    found = login.run_unchecked(f"find {folder} -mindepth 2 -type d -printf '%f\\n'").stdout.split()
    names = [f"slurm-sdk-{name}" for name in found if _JOB_ID.fullmatch(name)]
    remove_containers(nodes, login.environment.login.user, names)


def remove_containers(nodes: list[Node], user: str, names: list[str]) -> None:
    """Remove containers of a user, with those of an array's elements; one that is not there is no error."""
    if not names:
        return
    pattern = f"pyxis_({'|'.join(names)})(_[0-9]+)?"
    # With awk and not grep, which fails where it finds nothing.
    command = f"set -o pipefail; enroot list | awk '$1 ~ /^{pattern}$/ {{ print $1 }}'"
    command += " | xargs --no-run-if-empty --max-args=1 enroot remove --force"
    for node in nodes:

        def probe(node: Node = node) -> bool | NotYet:
            done = node.run_unchecked(command, user=user)
            return True if done.status == 0 else NotYet(str(done))

        # Another test may have made enroot's settings on a spare node unusable for some seconds.
        wait_for(f"the removal of containers on {node.name}", probe, limit=JOB_LIMIT, poll=1.0)
