"""What is left behind: nothing of an unnamed container, whatever became of its step."""

import uuid

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.expectations import not_promised
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


@pytest.mark.behaviour("unnamed-container-removal")
def test_an_unnamed_container_is_removed(steps: Steps, plain: TinyImage, behaviour: Ask) -> None:
    job = steps.inside(plain, "echo $SLURM_JOB_ID")[0]
    # Before, it may happen to be gone already; so the test can't tell by itself which answer it sees.
    if behaviour("unnamed-container-removal").expects("gone"):
        assert not [name for name in steps.containers() if f"_{job}." in name]
    steps.wait_for_removal(f"_{job}.")


def test_also_when_the_command_fails(steps: Steps, plain: TinyImage) -> None:
    done = steps.srun_unchecked(plain.reference, "echo $SLURM_JOB_ID; exit 9")
    assert done.status == 9
    job = done.stdout.split()[-1]
    steps.wait_for_removal(f"_{job}.")


def test_also_when_the_job_is_cancelled(steps: Steps, plain: TinyImage) -> None:
    with steps.running(plain.reference, "echo ready; sleep 600") as step:
        job = steps.shell.run(f"squeue --noheader --name={step.name} --format=%i").stdout.strip()
        # Also the proof that this is where the others have to look; an image that is mounted becomes no container.
        there = any(f"_{job}." in name for name in steps.containers())
        assert there != steps.cell.says("use_squashfuse=1")
        steps.shell.run(f"scancel {job}")
        steps.wait_for_removal(f"_{job}.")


def test_also_when_it_can_not_be_started(steps: Steps, plain: TinyImage) -> None:
    name = f"not-started-{uuid.uuid4().hex[:12]}"
    steps.refused(plain.reference, "/is/not/there", f"--job-name={name}", "--container-mounts=/is/not/there:/m")
    job = steps.shell.run(f"squeue --noheader --states=all --name={name} --format=%i").stdout
    assert job.strip().isdecimal(), job
    steps.wait_for_removal(f"_{job.strip()}.")


def test_the_imported_file_is_removed(steps: Steps, tiny_image: TinyImage, cell: Cell) -> None:
    not_promised(cell, "an import passes through a file in /run/pyxis")
    job = steps.inside(tiny_image, "echo $SLURM_JOB_ID")[0]
    assert steps.shell.run(f"find /run/pyxis/$(id -u) -ignore_readdir_race -name '{job}.*'").stdout == ""


@pytest.mark.behaviour("named-container-after-its-job")
def test_a_named_container_after_its_job(steps: Steps, plain: TinyImage, free_name: str, behaviour: Ask) -> None:
    name = f"--container-name={free_name}"
    steps.inside(plain, "touch /mine", name, "--container-writable")
    found = steps.inside(plain, "test -e /mine && echo there || echo absent", name)
    behaviour("named-container-after-its-job").saw_by(found[0], {"there": "kept", "absent": "removed"})
    if found == ["absent"]:
        steps.wait_for_removal(free_name)
    else:
        assert f"pyxis_{free_name}" in steps.containers()
