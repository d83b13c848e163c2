"""What becomes of jobs on a node whose plugins differ from those of the login node, or do not start there.

An upgrade that reaches the nodes one after another brings this about, and a file or folder that one of them lacks.
Each test has its nodes for itself; what ran is told by what a step shows of its node and image, never by its status.
"""

import pytest

from tests.integration.advanced.spare_nodes import SpareNodes
from tests.support.behaviours import Ask
from tests.support.cluster import Shell
from tests.support.oci.tiny import TinyImage

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]

_NOT_THERE = "/nowhere/pyxis"
_TRIES = 20
"""Steps of two nodes until one has failed: each is as likely to fail as not, or more."""
_HANGS_S = "30"
"""Far longer than the step takes that does not hang: its container has not started."""


@pytest.mark.behaviour("optional-plugin-and-a-broken-container")
def test_a_container_that_can_not_start_where_the_plugin_is_optional(
    spare: SpareNodes, tiny_image: TinyImage, behaviour: Ask
) -> None:
    spare.load(f"optional {spare.plugin}")
    image = f"--container-image={tiny_image.reference}"
    inside, told = spare.step(image)
    assert inside == spare.where(tiny_image.marker), str(told)
    broken = {"failed to import": [f"{image}-none"], _NOT_THERE: [image, f"--container-mounts={_NOT_THERE}:/m"]}
    for says, options in broken.items():
        ran, done = spare.step(*options)
        script = spare.script(*options)
        assert says in done.stderr, str(done)
        assert says in script.output, str(script)
        assert (done.status, script.state, script.exit_code) == (0, "COMPLETED", "0:0"), f"{done}\n{script}"
        found = (ran, script.ran)
        behaviour("optional-plugin-and-a-broken-container").saw_by(found, {(spare.where(),) * 2: "on the host"}, done)
    assert spare.in_use()


@pytest.mark.behaviour("optional-plugin-missing-on-a-node")
def test_an_optional_plugin_that_a_node_lacks(spare: SpareNodes, tiny_image: TinyImage, behaviour: Ask) -> None:
    spare.load(f"optional {_NOT_THERE}.so")
    image = f"--container-image={tiny_image.reference}"
    ran, done = spare.step(image)
    script = spare.script(image)
    assert not [it for it in done.stderr.splitlines() if not it.startswith("srun: job ")], str(done)
    assert (done.status, script.state, script.exit_code) == (0, "COMPLETED", "0:0"), f"{done}\n{script}"
    found = (ran, script.ran)
    behaviour("optional-plugin-missing-on-a-node").saw_by(found, {(spare.where(),) * 2: "on the host"}, done)
    assert spare.in_use()


@pytest.mark.behaviour("step-whose-plugin-does-not-start")
@pytest.mark.behaviour("script-whose-plugin-does-not-start")
def test_a_container_whose_plugin_does_not_start(spare: SpareNodes, tiny_image: TinyImage, behaviour: Ask) -> None:
    """Pyxis makes its folder for a job only if that has an image, so other jobs run there and nobody notices."""
    spare.load(f"required {spare.plugin} runtime_path={_NOT_THERE}")
    image = f"--container-image={tiny_image.reference}"
    plain, done = spare.step()
    assert (done.status, plain, spare.script().ran) == (0, spare.where(), spare.where()), str(done)
    assert spare.in_use()
    _ask_of_a_step(spare, behaviour, image)
    assert spare.in_use()
    _ask_of_a_script(spare, behaviour, image)


@pytest.mark.behaviour("step-whose-plugin-does-not-start")
@pytest.mark.behaviour("script-whose-plugin-does-not-start")
@pytest.mark.behaviour("plain-jobs-whose-plugin-does-not-start")
@pytest.mark.parametrize("line", ["required {} nonsense=1", f"required {_NOT_THERE}.so"], ids=["option", "file"])
def test_a_plain_job_whose_plugin_does_not_start(spare: SpareNodes, behaviour: Ask, line: str) -> None:
    """The node has an older Pyxis than the option that was written for it, or none."""
    spare.load(line.format(spare.plugin))
    _ask_of_a_step(spare, behaviour)
    assert spare.drained_because() == "Epilog error"
    _ask_of_a_script(spare, behaviour)
    behaviour("plain-jobs-whose-plugin-does-not-start").saw("the node is drained")


def _ask_of_a_step(spare: SpareNodes, behaviour: Ask, *options: str) -> None:
    """Ask with what status a step ends that could not run."""
    _, done = spare.step(*options)
    assert not done.stdout, str(done)
    assert "task 0 launch failed: " in done.stderr, str(done)
    behaviour("step-whose-plugin-does-not-start").saw_by(done.status, {0: "0", 1: "1"}, done)


def _ask_of_a_script(spare: SpareNodes, behaviour: Ask, *options: str) -> None:
    """Ask how a batch job ends that could not run, and see that it has drained its node."""
    job = spare.script(*options)
    assert not job.output, str(job)
    states = {("COMPLETED", "0:0"): "COMPLETED", ("FAILED", "0:115"): "FAILED"}
    assert spare.drained_because() == "batch job complete failure"
    behaviour("script-whose-plugin-does-not-start").saw_by((job.state, job.exit_code), states, job)


@pytest.mark.behaviour("script-whose-node-has-the-plugin-twice")
@pytest.mark.behaviour("step-whose-node-has-the-plugin-twice")
def test_a_node_that_names_the_plugin_twice(spare: SpareNodes, tiny_image: TinyImage, behaviour: Ask) -> None:
    """The same file: both lines have one memory. A copy of it under another name does no harm."""
    image = f"--container-image={tiny_image.reference}"
    copy = "/var/tmp/spank_copy.so"
    spare.nodes[0].run(f"cp {spare.plugin} {copy}")
    try:
        spare.load(f"required {spare.plugin}", f"required {copy}")
        inside, told = spare.step(image)
        spare.load(f"required {spare.plugin}", f"required {spare.plugin}")
    finally:
        spare.nodes[0].run(f"rm {copy}")
    assert inside == spare.where(tiny_image.marker), str(told)
    plain, told = spare.step()
    assert (told.status, plain) == (0, spare.where()), str(told)
    ran, done = spare.step(image, limit=_HANGS_S)
    assert not ran, str(done)
    assert "Failed to invoke spank plugin stack" in done.stderr, str(done)
    behaviour("step-whose-node-has-the-plugin-twice").saw_by(done.status, {1: "1", 124: "hangs"}, done)
    script = spare.script(image)
    assert not script.ran, str(script)
    behaviour("script-whose-node-has-the-plugin-twice").saw_by(script.state, {"NODE_FAIL": "NODE_FAIL"}, script)


@pytest.mark.parametrize("spare", [2], indirect=True, ids=["two nodes"])
@pytest.mark.behaviour("runtime-path-of-several-nodes")
def test_a_runtime_path_of_several_nodes(
    spare: SpareNodes, tiny_image: TinyImage, cluster_shell: Shell, behaviour: Ask
) -> None:
    """Both import the image into the same file: the home is shared, and has the folder."""
    shared = spare.login.run("mktemp --directory /home/runtime-XXXXXXXXXX").stdout.strip()
    spare.login.run(f"chmod 755 {shared}")
    try:
        spare.load(f"required {spare.plugin} runtime_path={shared}")
        _ask_of_a_shared_folder(spare, tiny_image, cluster_shell, behaviour)
    finally:
        spare.login.run(f"rm -r {shared}")


def _ask_of_a_shared_folder(spare: SpareNodes, image: TinyImage, shell: Shell, behaviour: Ask) -> None:
    """Ask whether all steps of several nodes start; those whose image is a file do."""
    file = f"/home/{shell.environment.login.user}/{image.marker}.sqsh"
    try:
        shell.run(f"enroot import --output {file} 'docker://{image.reference}'")
        for _ in range(3):
            ran, done = spare.step(f"--container-image={file}")
            assert (done.status, ran) == (0, spare.where(image.marker)), str(done)
    finally:
        shell.run(f"rm --force {file}")
    for _ in range(_TRIES):
        ran, done = spare.step(f"--container-image={image.reference}")
        assert {*ran} <= {*spare.where(image.marker)}, str(done)
        if done.status:
            break
    assert "failed to import" in done.stderr or "failed to create container filesystem" in done.stderr, str(done)
    behaviour("runtime-path-of-several-nodes").saw("some fail", done)


@pytest.mark.behaviour("epilog-without-enroots-folders")
def test_an_epilog_that_can_not_make_enroots_folders(spare: SpareNodes, behaviour: Ask) -> None:
    """Where containers belong to their job, the epilog asks enroot for them after each job."""
    scope = "container_scope=job"

    def run(option: str) -> bool:
        spare.load(f"required {spare.plugin} {option}")
        ran, done = spare.step()
        assert (done.status, ran) == (0, spare.where()), str(done)
        return spare.in_use()

    assert run(scope)
    spare.set_enroot("ENROOT_DATA_PATH /nowhere/enroot")
    assert run("")
    behaviour("epilog-without-enroots-folders").saw_by(run(scope), {False: "drained"}, spare.states())
    assert spare.drained_because() == "Epilog error"
