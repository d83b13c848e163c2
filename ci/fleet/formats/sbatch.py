"""A plan as a batch script for a site's own Slurm, whose nodes have Docker or Podman."""

from pathlib import Path
import shlex

from ci import paths, templates
from ci.errors import INSTALLED, PROGRAM, SelectionError
from ci.fleet.formats import Format
from ci.fleet.model import SET_UP, FleetPlan, report

_PROGRAM = f"{PROGRAM} on its PATH, this folder" if INSTALLED else "this checkout under the same path"


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
    return (
        templates.environment(Path(__file__).parent)
        .get_template("sbatch.sh.j2")
        .render(
            plan=plan,
            program=_PROGRAM,
            folder=str(paths.place_of_work()),
            set_up=SET_UP,
            report=report(f"fleet-{plan.run}"),
        )
    )


FORMAT = Format(name="sbatch", write=script)
