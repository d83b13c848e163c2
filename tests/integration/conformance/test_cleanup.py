"""What is left behind: nothing of an unnamed container, whatever became of its step."""

import uuid

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.support import Steps
from tests.support.expectations import not_promised, since
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


def test_an_unnamed_container_is_removed(steps: Steps, plain: TinyImage, cell: Cell) -> None:
    job = steps.inside(plain, "echo $SLURM_JOB_ID")[0]
    # From 0.19 on that happens before the task ends, so nothing has to be waited for.
    if since(cell, pyxis="0.19"):
        assert not [name for name in steps.shell.run("enroot list").stdout.split() if f"_{job}." in name]
    steps.wait_until_fails(f"enroot list | grep -F _{job}.", "removal of the container")


def test_also_when_the_command_fails(steps: Steps, plain: TinyImage) -> None:
    done = steps.srun(plain.reference, "echo $SLURM_JOB_ID; exit 9")
    assert done.status == 9
    job = done.stdout.split()[-1]
    steps.wait_until_fails(f"enroot list | grep -F _{job}.", "removal of the container")


def test_also_when_the_job_is_cancelled(steps: Steps, plain: TinyImage) -> None:
    with steps.running(plain.reference, "echo ready; sleep 600") as step:
        job = steps.shell.run(f"squeue --noheader --name={step.name} --format=%i").stdout.strip()
        assert f"_{job}." in steps.shell.run("enroot list").stdout
        steps.shell.run(f"scancel {job}")
        steps.wait_until_fails(f"enroot list | grep -F _{job}.", "removal of the container")


def test_also_when_it_can_not_be_started(steps: Steps, plain: TinyImage) -> None:
    name = f"not-started-{uuid.uuid4().hex[:12]}"
    options = (f"--job-name={name}", "--container-mounts=/is/not/there:/m")
    assert steps.shell.srun_unchecked(*options, "true", image=plain.reference).status != 0
    job = steps.shell.run(f"squeue --noheader --states=all --name={name} --format=%i").stdout
    assert job.strip().isdecimal(), job
    steps.wait_until_fails(f"enroot list | grep -F _{job.strip()}.", "removal of the container")


def test_the_imported_file_is_removed(steps: Steps, tiny_image: TinyImage, cell: Cell) -> None:
    not_promised(cell, "an import passes through a file in /run/pyxis")
    job = steps.inside(tiny_image, "echo $SLURM_JOB_ID")[0]
    assert steps.shell.run(f"find /run/pyxis/$(id -u) -name '{job}.*'").stdout == ""


def test_a_named_container_outlives_its_job(steps: Steps, plain: TinyImage, container_name: str) -> None:
    steps.inside(plain, "true", f"--container-name={container_name}")
    assert f"pyxis_{container_name}" in steps.shell.run("enroot list").stdout.split()
