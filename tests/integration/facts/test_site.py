"""What a site's own settings change of plain Slurm: each test sees both sides, a plain cell's and a profile's."""

import uuid

import pytest

from ci.environment.wait import NotYet, wait_for
from ci.environment_file import EnvironmentFile
from ci.errors import suite_session
from ci.matrix.cells import Cell
from tests.support.behaviours import Ask
from tests.support.cluster import JOB_LIMIT, Shell

pytestmark = [pytest.mark.integration_test, pytest.mark.starts_no_container]


@pytest.mark.behaviour("tmp-of-another-job")
def test_the_tmp_of_another_job(cluster_shell: Shell, behaviour: Ask) -> None:
    file = f"/tmp/facts-{uuid.uuid4().hex[:12]}"
    cluster_shell.srun("touch", file, image="")
    script = f"if test -e {file}; then echo there; else echo absent; fi"
    found = cluster_shell.srun("sh", "-c", script, image="").stdout.strip()
    cluster_shell.run(f"rm -f {file}")
    behaviour("tmp-of-another-job").saw_by(found, {"there": "its files", "absent": "nothing"})


def test_the_steps_of_a_job_share_its_tmp(cluster_shell: Shell) -> None:
    file = f"facts-{uuid.uuid4().hex[:12]}"
    script = f"""#!/bin/sh
srun sh -c 'echo of-a-step > /tmp/{file}; echo of-a-step > /dev/shm/{file}'
srun sh -c 'cat /tmp/{file} /dev/shm/{file}'
cat /tmp/{file} /dev/shm/{file}
rm /tmp/{file} /dev/shm/{file}"""
    assert cluster_shell.sbatch(script, "--chdir=/").splitlines()[1:] == ["of-a-step"] * 4


def test_prolog_and_epilog_of_a_job(cluster_shell: Shell, cell: Cell) -> None:
    """Both run as root, and are given none of the variables that scripts count on."""
    if cell.profile != "strict":
        pytest.skip(f"it needs a prolog that tells: {suite_session('slurm_facts', cell.matrix_id, '--profile strict')}")
    job, uid = cluster_shell.srun("sh", "-c", "echo $SLURM_JOB_ID; id -u", image="").stdout.split()[-2:]

    def probe() -> list[str] | NotYet:
        found = cluster_shell.run(f"grep ' of job {job} ' /var/log/slurm/prolog.log").stdout.splitlines()
        return found if len(found) == len(("prolog", "epilog")) else NotYet(str(found))

    assert wait_for("the lines of prolog and epilog", probe, limit=JOB_LIMIT, poll=0.5) == [
        f"prolog of job {job} for uid {uid}, with 0 of HOME, PATH, USER",
        f"epilog of job {job} for uid {uid}",
    ]


@pytest.mark.behaviour("configuration-of-a-compute-node")
def test_where_a_compute_node_has_its_configuration(
    environment: EnvironmentFile, cluster_shell: Shell, behaviour: Ask
) -> None:
    if len(environment.nodes) == 1:
        command = suite_session("slurm_facts", environment.cell, "--nodes 2")
        pytest.skip(f"it needs 2 nodes and there is one: {command}")
    files = ("/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf")
    # A node whose commands find no configuration at all fails here, with the words of squeue.
    look = f"for file in {' '.join(files)}; do if test -e $file; then echo $file; fi; done"
    script = f"squeue --noheader > /dev/null || exit; {look}"
    done = cluster_shell.run(f"srun --nodelist={environment.nodes[1]} sh -c '{script}'")
    seen = {files[0]: "a file of its own", files[1]: "the controller"}
    behaviour("configuration-of-a-compute-node").saw_by(done.stdout.strip(), seen, done)
