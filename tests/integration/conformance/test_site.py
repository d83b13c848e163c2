"""What a site's own settings change of containers: each test sees both sides, a plain cell's and a profile's."""

import shlex
import uuid

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import PATIENCE, Steps
from tests.support.behaviours import Ask
from tests.support.cluster import Node
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.layers import Directory
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


@pytest.mark.behaviour("devices-of-the-node")
def test_the_devices_of_the_node(steps: Steps, plain: TinyImage, behaviour: Ask) -> None:
    found = steps.inside(plain, "ls /dev")
    assert {"null", "zero", "urandom", "shm"} <= set(found)
    assert "fuse" in steps.inside(plain, "ls /dev", "--container-mounts=/dev/fuse")
    behaviour("devices-of-the-node").saw("all" if "fuse" in found else "a few", found)


@pytest.mark.behaviour("hook-for-pytorch")
@pytest.mark.behaviour("hook-for-pmi")
def test_hooks_that_enroot_brings_for_slurm(
    steps: Steps, tiny_image: TinyImage, make_image: MakeImage, unpacked: Unpack, behaviour: Ask
) -> None:
    image = unpacked(make_image(env={**tiny_image.image.env, "PYTORCH_VERSION": "2.0", "SLURM_SITE": "of-the-image"}))
    first, own = steps.inside(
        image, "echo ${MASTER_ADDR-none}; echo $SLURM_SITE", variables={"SLURM_SITE": "of-the-job"}
    )
    node = steps.shell.environment.nodes[0]
    behaviour("hook-for-pytorch").saw_by(first, {node: "the first node", "none": "none"})
    behaviour("hook-for-pmi").saw_by(own, {"of-the-job": "the job's", "of-the-image": "the image's"})
    # A job's own is kept where there is no hook, and where it is asked for.
    mine = {"MASTER_ADDR": "mine"}
    kept = steps.inside(image, "echo $MASTER_ADDR", variables=mine)
    assert kept == ["mine" if first == "none" else node]
    assert steps.inside(image, "echo $MASTER_ADDR", "--container-env=MASTER_ADDR", variables=mine) == ["mine"]


@pytest.mark.behaviour("start-of-a-squashfs-file")
def test_the_start_of_a_squashfs_file(steps: Steps, plain: TinyImage, behaviour: Ask) -> None:
    with steps.running(plain.reference, "echo $SLURM_JOB_ID ready; sleep 600") as step:
        job = steps.wait_for_text(step.output, "ready").split()[-2]
        unpacked = any(it.endswith(f"_{job}.0") for it in steps.containers())
        # It ends with 1 where there is none; anything above is no answer.
        file = plain.reference.rpartition("/")[2]
        programs = f"pgrep --euid $(id -u) --full 'squashfus[e].*{file}'; test $? -le 1"
        mounted = bool(steps.shell.on_the_node(programs).stdout)
    seen = {(True, False): "unpacked", (False, True): "mounted"}
    behaviour("start-of-a-squashfs-file").saw_by((unpacked, mounted), seen, steps.containers())


def test_a_mount_of_tmp_is_that_of_the_job(steps: Steps, plain: TinyImage) -> None:
    """With a /tmp of the job's own as well: a container mounts what the job's other steps have there."""
    file = f"/tmp/conformance-{uuid.uuid4().hex[:12]}"
    script = f"""#!/bin/sh
srun sh -c 'echo of-a-step > {file}'
srun --container-image={plain.reference} --container-mounts=/tmp:/m sh -c 'cat {IMAGE_MARKER} /m/{file[5:]}'
rm {file}"""
    assert steps.shell.sbatch(script, "--chdir=/tmp").splitlines()[-2:] == [plain.marker, "of-a-step"]


@pytest.mark.behaviour("save-into-tmp")
def test_a_container_that_is_saved_into_tmp(
    steps: Steps, make_image: MakeImage, unpacked: Unpack, behaviour: Ask
) -> None:
    image = unpacked(make_image({"/var/run": Directory(), "/var/lock": Directory()}))
    saved = f"/tmp/conformance-{uuid.uuid4().hex[:12]}.sqsh"
    script = f"""#!/bin/sh
srun --container-image={image.reference} --container-save={saved} true || exit
if test -e {saved}; then echo in-the-job; else echo not-in-the-job; fi"""
    found = steps.shell.sbatch(script, "--chdir=/tmp").splitlines()[-1]
    steps.shell.on_the_node(f"rm {saved}")  # it is on the node, whatever the job sees
    behaviour("save-into-tmp").saw_by(found, {"in-the-job": "in the job", "not-in-the-job": "on the node only"})


def test_a_node_without_a_daemon_and_without_files(steps: Steps, plain: TinyImage, cell: Cell) -> None:
    """As a login node may be: srun asks the controller for all that it needs, the plugin's line among it."""
    environment = steps.shell.environment
    last = Node.of(environment, len(environment.nodes) - 1)
    controller, user = environment.nodes[0], environment.login.user
    words = f"srun --chdir=/tmp --container-image={plain.reference} cat {IMAGE_MARKER}"
    # What Slurm's files and those that slurmd has fetched lie in is empty, in a mount namespace that ends with this.
    hidden = " && ".join(f"mount -t tmpfs none {it}" for it in ("/etc/slurm", "/run/slurm", "/var/lib/slurm"))
    as_user = f"SLURM_CONF_SERVER={controller} exec setpriv --reuid={user} --regid={user} --init-groups {words}"
    inner = f"mkdir -p /run/slurm && {hidden} && cd /tmp && {as_user}"
    done = last.run_unchecked(f"timeout {PATIENCE:.0f} unshare --mount sh -c {shlex.quote(inner)}")
    if cell.says("slurmctldparameters=enable_configless"):
        assert (done.status, done.stdout) == (0, f"{plain.marker}\n"), str(done)
    else:
        assert done.status != 0, str(done)
        assert "configless mode is disabled" in done.stderr.lower(), str(done)
