"""``--container-name``: what lives on under a name, and what the flags behind it insist on."""

from dataclasses import replace
import re

import pytest

from tests.integration.conformance.conftest import MakeImage
from tests.integration.conformance.support import PATIENCE, Steps
from tests.support.behaviours import Ask
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import push
from tests.support.oci.tiny import TinyImage
from tests.support.proof import behind
from tests.support.registry_client import RegistryClient

pytestmark = pytest.mark.container_packaging


def test_a_named_container_keeps_its_files(steps: Steps, plain: TinyImage, container_name: str) -> None:
    name = f"--container-name={container_name}"
    steps.inside(plain, "echo kept > /kept", name, "--container-writable")
    done = steps.srun("", "cat /kept", name)
    assert behind(done, plain.marker) == ["kept"]


def test_a_container_that_exists_is_not_imported_again(
    steps: Steps, tiny_image: TinyImage, container_name: str
) -> None:
    name = f"--container-name={container_name}"
    assert "imported docker image" in steps.outcome(tiny_image, "true", name)[1]
    assert "imported docker image" not in steps.outcome(tiny_image, "true", name)[1]


def test_an_unnamed_container_keeps_nothing(steps: Steps, plain: TinyImage) -> None:
    steps.inside(plain, "echo lost > /lost", "--container-writable")
    assert steps.inside(plain, "test -e /lost || echo absent") == ["absent"]


def test_names_are_global_or_those_of_their_job(steps: Steps, plain: TinyImage, container_name: str) -> None:
    job = steps.inside(plain, "echo $SLURM_JOB_ID", f"--container-name={container_name}")[0]
    own = steps.cell.says("container_scope=job")
    assert [it for it in steps.containers() if container_name in it] == [
        f"pyxis_{job}_{container_name}" if own else f"pyxis_{container_name}"
    ]


def test_a_removed_container_is_imported_anew(steps: Steps, plain: TinyImage, container_name: str) -> None:
    name = f"--container-name={container_name}"
    steps.inside(plain, "touch /mine", name, "--container-writable")
    steps.shell.run(f"enroot remove --force {steps.enroot_name(container_name)}")
    steps.refused("", "does not exist, and --container-image is not set", name)
    assert steps.inside(plain, "test -e /mine || echo absent", name) == ["absent"]


@pytest.mark.behaviour("named-container-and-image")
def test_an_existing_container_wins_over_another_image(
    *, steps: Steps, plain: TinyImage, make_image: MakeImage, container_name: str, behaviour: Ask
) -> None:
    steps.inside(plain, "true", f"--container-name={container_name}")
    done = steps.srun(make_image().reference, "true", f"--container-name={container_name}")
    last = done.stdout.splitlines()[-1]
    behaviour("named-container-and-image").saw_by(last, {plain.marker: "the container as it is"}, done)


@pytest.mark.behaviour("named-container-and-image")
def test_a_named_container_outlives_a_new_push_of_its_tag(
    *, steps: Steps, make_image: MakeImage, registry_client: RegistryClient, container_name: str, behaviour: Ask
) -> None:
    old, new = make_image(), make_image()
    name = f"--container-name={container_name}"
    steps.inside(old, "true", name)
    push(registry_client, old.pushed.repository, old.pushed.tag, new.image)
    # By its name it is still the old one, and without a name the reference is asked for anew.
    steps.inside(old, "true", name)
    steps.inside(replace(new, reference=old.reference), "true")
    behaviour("named-container-and-image").saw("the container as it is")


def test_a_running_container_is_joined(steps: Steps, plain: TinyImage, container_name: str, folder: str) -> None:
    name = f"--container-name={container_name}"
    with steps.running(plain.reference, "touch /tmp/private; echo ready; sleep 600", name):
        lines, said = steps.outcome(
            plain, "ls /tmp; test -e /m || echo no-mount", name, f"--container-mounts={folder}:/m"
        )
    # /tmp is a tmpfs of the running container's own: whoever sees the file is in its mount namespace.
    assert lines == ["private", "no-mount"]
    assert "ignoring --container-mounts when attaching to a running container" in said


@pytest.mark.behaviour("array-tasks-of-one-name")
def test_array_tasks_of_one_name_share_the_mounts_of_the_first(
    steps: Steps, plain: TinyImage, free_name: str, folder: str, behaviour: Ask
) -> None:
    """On one node the later task joins the running container, and reads what was mounted for the other one."""
    steps.shell.run(f"mkdir {folder}/0 {folder}/1; for task in 0 1; do echo data-of-$task > {folder}/$task/file; done")
    srun = f"srun --container-image={plain.reference} --container-name={free_name}"
    script = f"""#!/bin/sh
wait_for() {{ for i in $(seq 600); do test -e $1 && return; sleep 0.2; done; exit 3; }}
if [ $SLURM_ARRAY_TASK_ID = 0 ]; then
    {srun} --container-mounts={folder}/0:/m sh -c 'touch /m/ready; until test -e /m/done; do sleep 0.2; done'
else
    wait_for {folder}/0/ready
    {srun} --container-mounts={folder}/1:/m cat {IMAGE_MARKER} /m/file > {folder}/read
    status=$?
    touch {folder}/0/done
    exit $status
fi"""
    steps.shell.sbatch(script, "--array=0-1", "--chdir=/tmp", limit=2 * PATIENCE)
    read = steps.shell.run(f"cat {folder}/read").stdout.splitlines()
    seen = {(plain.marker, "data-of-0"): "those of the first", (plain.marker, "data-of-1"): "its own"}
    behaviour("array-tasks-of-one-name").saw_by(tuple(read), seen)


def test_no_exec_starts_beside_the_running_one(
    steps: Steps, plain: TinyImage, container_name: str, folder: str
) -> None:
    with steps.running(
        plain.reference, "touch /tmp/private; echo ready; sleep 600", f"--container-name={container_name}"
    ):
        options = (f"--container-name={container_name}:no_exec", f"--container-mounts={folder}:/m")
        assert steps.inside(plain, "ls /tmp; test -d /m && echo mounted", *options) == ["mounted"]


def test_exec_joins_a_running_container(steps: Steps, plain: TinyImage, container_name: str) -> None:
    name = f"--container-name={container_name}"
    with steps.running(plain.reference, "touch /tmp/private; echo ready; sleep 600", name):
        done = steps.srun("", "ls /tmp", f"{name}:exec")
    assert behind(done, plain.marker) == ["private"]


def test_exec_refuses_a_stopped_container(steps: Steps, plain: TinyImage, container_name: str) -> None:
    steps.inside(plain, "true", f"--container-name={container_name}")
    steps.refused(plain.reference, "the container is not running", f"--container-name={container_name}:exec")


def test_create_refuses_an_existing_container(steps: Steps, plain: TinyImage, container_name: str) -> None:
    name = f"--container-name={container_name}:create"
    steps.inside(plain, "true", name)
    steps.refused(plain.reference, "the container already exists", name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "--container-name: argument required"),
        (":exec", "--container-name: empty name"),
        ("name:attach", "flag must be"),
        ("/tmp/name", "Invalid argument: {pyxis}_/tmp/name"),
        ("a" * 300, f"{{pyxis}}_{'a' * 30}"),
    ],
)
def test_malformed_names_are_refused(steps: Steps, plain: TinyImage, name: str, says: str) -> None:
    # Where names are those of a job, its number is in it.
    said = steps.refused(plain.reference, says.partition("{pyxis}")[0], f"--container-name={name}")
    pyxis = r"pyxis_\d+" if steps.cell.says("container_scope=job") else "pyxis"
    assert re.search(re.escape(says).replace(r"\{pyxis\}", pyxis), said), said


def test_an_unknown_name_without_an_image_is_refused(steps: Steps, container_name: str) -> None:
    steps.refused("", "does not exist, and --container-image is not set", f"--container-name={container_name}")


def test_writable(steps: Steps, plain: TinyImage) -> None:
    assert steps.inside(plain, "echo text > /new && cat /new", "--container-writable") == ["text"]


@pytest.mark.parametrize("options", [(), ("--container-readonly",)])
def test_read_only_is_the_default(steps: Steps, plain: TinyImage, options: tuple[str, ...]) -> None:
    # It is enroot's default (ENROOT_ROOTFS_WRITABLE no), which a node has unless its profile says otherwise.
    if steps.cell.says("ENROOT_ROOTFS_WRITABLE=yes") and not options:
        assert steps.inside(plain, "touch /new && echo written") == ["written"]
        return
    _, said = steps.failing(plain, "touch /new", *options)
    assert "Read-only file system" in said


def test_read_only_on_request_where_a_variable_says_writable(steps: Steps, plain: TinyImage) -> None:
    writable = {"ENROOT_ROOTFS_WRITABLE": "y"}
    assert steps.inside(plain, "touch /new && echo written", variables=writable) == ["written"]
    _, said = steps.failing(plain, "touch /new", "--container-readonly", variables=writable)
    assert "Read-only file system" in said
