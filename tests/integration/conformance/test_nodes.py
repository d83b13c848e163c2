"""Steps of two nodes, and of two parts: where they run, and what becomes of one when the other can't start."""

from collections.abc import Iterator
import shlex

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.environment_file import EnvironmentFile
from ci.errors import suite_session
from ci.matrix.cells import Cell
from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import PATIENCE, Steps
from tests.support.behaviours import Ask
from tests.support.expectations import not_promised
from tests.support.markers import IMAGE_MARKER
from tests.support.not_asked import needs
from tests.support.oci.layers import File
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging

_ON_THE_HOST = "on the host"
_SHOW = f"if test -e {IMAGE_MARKER}; then cat {IMAGE_MARKER}; else echo {_ON_THE_HOST}; fi"
_WAIT_S = 15
"""Longer than one node takes to start a container after the other failed to, on a machine that others use as well."""


@pytest.fixture
def two_nodes(environment: EnvironmentFile, steps: Steps) -> Steps:
    """Return what starts steps, where there are two nodes for them."""
    if len(environment.nodes) == 1 and environment.site:
        needs("two nodes")
    if len(environment.nodes) == 1:
        command = suite_session("pyxis_conformance", environment.cell, "--nodes 2")
        pytest.skip(f"it needs 2 nodes and there is one: {command}")
    return steps


# -- two nodes ------------------------------------------------------------------------------------------------------


def _both(steps: Steps) -> list[str]:
    """Return the words of a step on the first two nodes, whatever others there are."""
    return ["srun", f"--nodelist={','.join(steps.shell.environment.nodes[:2])}", "--nodes=2", "--ntasks=2"]


@pytest.fixture
def only_here(two_nodes: Steps) -> Iterator[str]:
    """Return a folder that only the first of two nodes has: a container with a mount of it starts there alone.

    It is not in /tmp, which a job may have of its own.
    """
    path = two_nodes.shell.on_the_node("mktemp --directory /var/tmp/conformance-XXXXXXXXXX").stdout.strip()
    yield path
    two_nodes.shell.on_the_node(f"rmdir {path}")


def _where_one_fails(steps: Steps, image: TinyImage, folder: str, script: str, *options: str) -> RemoteAnswer:
    """Run a script on two nodes, of which one can't start its container."""
    container = [f"--container-image={image.reference}", f"--container-mounts={folder}:/m"]
    command = ["sh", "-c", f"cat {IMAGE_MARKER} && {script}"]
    words = shlex.join([*_both(steps), *options, *container, *command])
    done = steps.shell.run_unchecked(words, limit=PATIENCE)
    assert done.status != 0, str(done)
    assert done.stdout.count(image.marker) <= 1, f"both have started: {done}"
    return done


@pytest.mark.behaviour("container-of-one-node-fails")
def test_the_other_node_goes_on(two_nodes: Steps, plain: TinyImage, only_here: str, behaviour: Ask) -> None:
    done = _where_one_fails(two_nodes, plain, only_here, "sleep 3; echo at-its-end")
    words, ended = done.stdout.splitlines(), "Terminating StepId=" in done.stderr
    seen = {
        ((plain.marker, "at-its-end"), False): "the others run to their end",
        # It may be ended before it has started its own container.
        ((plain.marker,), True): "they are ended",
        ((), True): "they are ended",
    }
    behaviour("container-of-one-node-fails").saw_by((tuple(words), ended), seen, done)


def test_the_other_node_is_ended_on_request(two_nodes: Steps, plain: TinyImage, only_here: str) -> None:
    """It may be ended before it has started its own container."""
    done = _where_one_fails(two_nodes, plain, only_here, "exec sleep 600", "--kill-on-bad-exit=1")
    assert "Terminating StepId=" in done.stderr, str(done)


def test_the_other_node_is_ended_after_a_while_on_request(
    two_nodes: Steps, cell: Cell, plain: TinyImage, only_here: str
) -> None:
    """The status is that of the task which is killed, if that is one process.

    Without cgroups the shell of a script may live on for a moment after its program is killed, and end well; so 0 was
    reported of one release.
    """
    if cell.says("killonbadexit=1"):
        pytest.skip("the profile has KillOnBadExit, which ends it at once: run it without the profile")
    done = _where_one_fails(two_nodes, plain, only_here, "exec sleep 600", f"--wait={_WAIT_S}")
    assert f"First task exited {_WAIT_S}s ago" in done.stderr, str(done)
    assert (done.status, done.stdout) == (137, f"{plain.marker}\n")


def test_pmi2_over_two_nodes(two_nodes: Steps, plain: TinyImage) -> None:
    """Both tasks are of one job, and each speaks with Slurm over the descriptor that it is given."""
    script = (
        'eval "exec 3<&$PMI_FD 4>&$PMI_FD"; echo "cmd=init pmi_version=2 pmi_subversion=0" >&4; read -r said <&3; '
        f'echo "$(cat {IMAGE_MARKER}) $PMI_RANK/$PMI_SIZE $said"'
    )
    step = [*_both(two_nodes), "--mpi=pmi2", f"--container-image={plain.reference}", "sh", "-c", script]
    done = two_nodes.shell.run(shlex.join(step), limit=PATIENCE)
    said = "cmd=response_to_init rc=0 pmi_version=2 pmi_subversion=0"
    assert sorted(done.stdout.splitlines()) == [f"{plain.marker} {rank}/2 {said}" for rank in (0, 1)], str(done)


def test_a_launcher_in_the_image_runs_in_each_task_and_reaches_no_other(
    two_nodes: Steps, make_image: MakeImage, unpacked: Unpack
) -> None:
    """An mpirun starts the processes of other nodes by srun or ssh, and an image has neither (NVIDIA/pyxis#164)."""
    content = b"#!/bin/sh\ncat /etc/pyxis-matrix-image; command -v srun ssh || echo alone\n"
    image = unpacked(make_image({"/usr/bin/mpirun": File(content=content, mode=0o755)}))
    step = [*_both(two_nodes), f"--container-image={image.reference}", "mpirun"]
    done = two_nodes.shell.run(shlex.join(step), limit=PATIENCE)
    assert sorted(done.stdout.splitlines()) == sorted([image.marker, "alone"] * 2), str(done)


# -- two parts (each takes a node) ----------------------------------------------------------------------------------


def _of_parts(*options: list[str]) -> str:
    """Return srun's words for a step whose parts show where they run."""
    parts = [shlex.join([*part, "sh", "-c", _SHOW]) for part in options]
    return f"srun {' : '.join(parts)}"


@pytest.mark.behaviour("image-of-one-part")
@pytest.mark.parametrize("first", [True, False], ids=["the first", "the second"])
def test_an_image_of_one_part(
    *, two_nodes: Steps, plain: TinyImage, folder: str, cell: Cell, behaviour: Ask, first: bool
) -> None:
    """All parts of a heterogeneous step have one srun, and it has one set of a plugin's options."""
    not_promised(cell, "an image of one part of a heterogeneous step")
    options = [f"--container-image={plain.reference}", f"--container-mounts={folder}:/m"]
    parts = [options, []] if first else [[], options]
    there = [f"--nodelist={node}" for node in two_nodes.shell.environment.nodes[:2]]
    done = two_nodes.shell.run(_of_parts(*([it, *part] for it, part in zip(there, parts, strict=True))), limit=PATIENCE)
    behaviour("image-of-one-part").saw_by(tuple(done.stdout.splitlines()), {(plain.marker,) * 2: "that image"}, done)


def test_two_images_of_one_step_are_refused(steps: Steps, plain: TinyImage, tiny_image: TinyImage) -> None:
    parts = [[f"--container-image={image.reference}"] for image in (plain, tiny_image)]
    done = steps.shell.run_unchecked(_of_parts(*parts), limit=PATIENCE)
    assert done.status != 0, str(done)
    assert not done.stdout, str(done)
    assert "--container-image specified multiple times" in done.stderr, str(done)


def test_an_srun_for_each_part_has_an_image_of_its_own(
    two_nodes: Steps, plain: TinyImage, make_image: MakeImage, unpacked: Unpack
) -> None:
    other = unpacked(make_image())
    option = "--container-image="
    steps = [
        ["--het-group=0", option + plain.reference],
        ["--het-group=1", option + other.reference],
        ["--het-group=1"],
    ]
    script = "\n".join(_of_parts(it) for it in steps)
    second = f"--nodelist={two_nodes.shell.environment.nodes[1]}"
    words = shlex.join(["salloc", two_nodes.shell.here, "--ntasks=1", ":", second, "--ntasks=1", "sh", "-ec", script])
    done = two_nodes.shell.run(words, limit=PATIENCE)
    assert done.stdout.splitlines() == [plain.marker, other.marker, _ON_THE_HOST], str(done)
