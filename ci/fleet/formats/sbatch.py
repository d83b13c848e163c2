"""A plan as a batch script for a site's own Slurm, whose nodes have Docker or Podman."""

from collections.abc import Iterator
import shlex

from ci import paths
from ci.errors import INSTALLED, PROGRAM, SelectionError
from ci.fleet.formats import Format
from ci.fleet.model import SET_UP, FleetPlan, report

_HEAD = """\
#!/bin/bash
# The run {run} of pyxis-matrix on a cluster of your own. SCRIPT is this file:
#   bash SCRIPT submit [sbatch's options]    submits {all} and the report of all shards
#   sbatch [sbatch's options] SCRIPT         submits the shards only, as one array job
# Each node needs {program}, Python 3.11, and Docker or Podman that the user may use.
#SBATCH --job-name=pyxis-matrix
#SBATCH --array=1-{shards}
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --output=%x-%A_%a.log

set -euo pipefail
export PYXIS_MATRIX_RUN={run}
what=${{1:-shards}}
"""
_PROGRAM = f"{PROGRAM} on its PATH, this folder" if INSTALLED else "this checkout under the same path"
# What sbatch prints is ID or ID;CLUSTER. A failed job does not hold the next ones up: results say what was missing.
_SUBMIT = """
if [ "$what" = submit ]; then
    shift
{images}\
    shards=$(sbatch --parsable {after_images}"$@" "$0" shards)
    report=$(sbatch --parsable --array=1 --dependency="afterany:${{shards%%;*}}" "$@" "$0" report)
    echo "the shards are job $shards; job $report makes the report of them"
    exit
fi
"""
_IMAGES = """\
    images=$(sbatch --parsable --array=1-{images} "$@" "$0" images)
    echo "the images are job $images"
"""
_AFTER_IMAGES = '--dependency="afterany:${images%%;*}" '
# Shards that share a file system share no folder: two processes in the folder of one run are refused.
_RESULTS = """\
if [ "$what" != report ]; then
    export PYXIS_MATRIX_RESULTS=${{PYXIS_MATRIX_RESULTS:-results}}/fleet-{run}/$what-${{SLURM_ARRAY_TASK_ID:-}}
fi
"""


def script(plan: FleetPlan) -> str:
    """Return the batch script.

    :raises SelectionError: for cells of more than one architecture.
    """
    arches = list(dict.fromkeys(shard.arch for shard in plan.shards))
    if not arches:
        return f"#!/bin/bash\necho {shlex.quote(plan.nothing)}\n"
    if len(arches) > 1:
        raise SelectionError(
            f"--format sbatch plans for one architecture, and these cells are for {' and '.join(arches)}",
            why="the tasks of an array job all run on nodes of one kind",
            next_step=f"--arch {arches[0]}, and a second script with --arch {arches[1]} --run {plan.run}",
        )
    parts = f"the images ({len(plan.images)}), the shards ({len(plan.shards)})" if plan.images else "the shards"
    return "".join(
        (
            _HEAD.format(run=plan.run, shards=len(plan.shards), all=parts, program=_PROGRAM),
            _SUBMIT.format(
                images=_IMAGES.format(images=len(plan.images)) if plan.images else "",
                after_images=_AFTER_IMAGES if plan.images else "",
            ),
            f"\ncd {shlex.quote(str(paths.place_of_work()))}\n",
            _RESULTS.format(run=plan.run),
            'case "$what ${SLURM_ARRAY_TASK_ID:-}" in\n',
            *(f'"{task}") exec {SET_UP}{command} ;;\n' for task, command in _tasks(plan)),
            '*) echo "there is no task ${SLURM_ARRAY_TASK_ID:-} of $what" >&2; exit 2 ;;\nesac\n',
        )
    )


def _tasks(plan: FleetPlan) -> Iterator[tuple[str, str]]:
    for number, batch in enumerate(plan.images, start=1):
        yield f"images {number}", batch.command
    for shard in plan.shards:
        yield f"shards {shard.number}", shard.command
    yield "report 1", report(f"fleet-{plan.run}")


FORMAT = Format(name="sbatch", write=script)
