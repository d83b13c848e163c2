"""Batch scripts: run in an image as a whole, or starting steps that are."""

from collections.abc import Mapping
import shlex

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.support import PATIENCE, Steps
from tests.support.behaviours import Ask
from tests.support.enroot import DOCKER_HUB
from tests.support.expectations import differs
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


def test_a_script_runs_inside_the_image(steps: Steps, plain: TinyImage) -> None:
    script = f"#!/bin/sh\ncat {IMAGE_MARKER}\necho $SLURM_JOB_ID.$1"
    output = steps.shell.sbatch(script, f"--container-image={plain.reference}", limit=PATIENCE)
    assert plain.marker in output.splitlines()


def test_the_image_can_be_named_in_the_script(steps: Steps, tiny_image: TinyImage) -> None:
    # In a comment for sbatch the # of a reference has to be escaped.
    reference = tiny_image.reference.replace("#", r"\#")
    script = f"#!/bin/sh\n#SBATCH --container-image {reference}\ncat {IMAGE_MARKER}"
    output = steps.shell.sbatch(script, limit=PATIENCE)
    assert tiny_image.marker in output.splitlines()


def test_a_bare_hash_in_the_script_ends_the_reference(
    steps: Steps, tiny_image: TinyImage, hub: Mapping[str, str], cell: Cell
) -> None:
    """Slurm cuts the value there, and Docker Hub is asked for an image that is called like the registry's host."""
    host, _, port = tiny_image.pushed.address.partition(":")
    script = f"#!/bin/sh\n#SBATCH --container-image={tiny_image.reference}\necho it-ran"
    proxies = ",".join(f"{name}={value}" for name, value in hub.items())
    status, output = steps.shell.sbatch_unchecked(script, f"--export=ALL,{proxies}", limit=PATIENCE)
    assert status != 0, output
    assert "it-ran" not in output
    if differs(cell, "words of a registry that refuses"):
        asked = f"docker.io/library/{host}:{port}"
    else:
        asked = f"{DOCKER_HUB}library/{host}/manifests/{port} "
    assert asked in output, output


@pytest.mark.behaviour("import-line-of-a-batch-job")
def test_the_log_tells_of_the_import(steps: Steps, tiny_image: TinyImage, behaviour: Ask) -> None:
    script = f"#!/bin/sh\ncat {IMAGE_MARKER}"
    output = steps.shell.sbatch(script, f"--container-image={tiny_image.reference}", limit=PATIENCE)
    assert f"imported docker image: {tiny_image.reference}" in output
    begun = f"importing docker image: {tiny_image.reference}" in output
    behaviour("import-line-of-a-batch-job").saw("from the start" if begun else "when it is done", output)


def test_the_scripts_exit_code_is_the_jobs(steps: Steps, plain: TinyImage) -> None:
    script = f"#!/bin/sh\ncat {IMAGE_MARKER}\nexit 7"
    status, output = steps.shell.sbatch_unchecked(script, f"--container-image={plain.reference}", limit=PATIENCE)
    assert plain.marker in output.splitlines()
    assert status == 7


def test_a_failed_import_fails_the_job(steps: Steps, tiny_image: TinyImage) -> None:
    reference = f"{tiny_image.reference}-unknown"
    status, output = steps.shell.sbatch_unchecked(
        "#!/bin/sh\necho it-ran", f"--container-image={reference}", limit=PATIENCE
    )
    assert status != 0
    assert "failed to import docker image" in output
    assert "it-ran" not in output


def _end_of(steps: Steps, script: str, *options: str) -> tuple[str, str, str]:
    """Run a script and return what Slurm says of its end: its state, its exit code, and the worst one of its steps."""
    words = shlex.join(["sbatch", "--parsable", "--wait", "--output=/dev/null", steps.shell.here, *options])
    done = steps.shell.run_unchecked(words, stdin=f"#!/bin/sh\n{script}\n", limit=PATIENCE)
    job = done.stdout.strip()
    assert job.isdecimal(), str(done)
    facts = steps.shell.facts_of_ended(job)
    return facts["JobState"], facts["ExitCode"], facts["DerivedExitCode"]


def test_the_state_of_a_script_whose_container_can_not_start(steps: Steps) -> None:
    """No step failed: there was none."""
    assert _end_of(steps, "true", "--container-image=/nowhere/none.sqsh") == ("FAILED", "1:0", "0:0")


def test_a_container_that_can_not_start_in_a_script_that_ends_well(steps: Steps) -> None:
    """It is a failed step like any other: the hazard failed-step-in-a-good-script of slurm_facts."""
    script = "srun --container-image=/nowhere/none.sqsh true\ntrue"
    # Where steps are managed on a node, slurmctld does not hear how they ended.
    managed = steps.cell.says("slurmctldparameters=enable_stepmgr")
    assert _end_of(steps, script) == ("COMPLETED", "0:0", "0:0" if managed else "1:0")


def test_a_script_whose_interpreter_the_image_lacks_fails(steps: Steps, plain: TinyImage) -> None:
    status, output = steps.shell.sbatch_unchecked(
        "#!/bin/bash\necho it-ran", f"--container-image={plain.reference}", limit=PATIENCE
    )
    assert status != 0
    assert "it-ran" not in output


def test_mounts_and_working_folder_hold_for_scripts(steps: Steps, plain: TinyImage, folder: str) -> None:
    steps.shell.run(f"echo from-host > {folder}/file")
    options = (f"--container-image={plain.reference}", f"--container-mounts={folder}:/m", "--container-workdir=/m")
    output = steps.shell.sbatch(f"#!/bin/sh\ncat {IMAGE_MARKER} file", *options, limit=PATIENCE)
    assert [plain.marker, "from-host"] == output.splitlines()[-2:]


def test_a_plain_script_starts_steps_in_images(steps: Steps, plain: TinyImage) -> None:
    script = f"#!/bin/sh\ntest -e {IMAGE_MARKER} && exit 1\nsrun --container-image={plain.reference} cat {IMAGE_MARKER}"
    output = steps.shell.sbatch(script, limit=PATIENCE)
    assert output.splitlines()[-1:] == [plain.marker]


def test_steps_of_one_job_share_a_named_container(steps: Steps, plain: TinyImage, container_name: str) -> None:
    options = f"--container-name={container_name} --container-writable"
    script = f"""#!/bin/sh -e
srun --container-image={plain.reference} {options} touch /from-the-first
srun {options} cat {IMAGE_MARKER}
srun {options} ls /from-the-first"""
    output = steps.shell.sbatch(script, limit=PATIENCE)
    # On a busy machine srun says between two steps that it waits for the first one's end.
    said = ("pyxis: ", "embedded: ", "srun: ")
    written = [line for line in output.splitlines() if not line.startswith(said)]
    assert written[-2:] == [plain.marker, "/from-the-first"]
