"""False green: an option that nobody honours lets the command run on the host, with success.

It happens where the plugin is loaded on one side only (NVIDIA/pyxis#84). The suites have to notice, so it is brought
about here: once where srun has no plugin, and once where srun has one that the node does not know. An option of Slurm's
that is called like Pyxis' does the same.
"""

import pytest

from tests.integration.conformance.plugins import ClientSide, changed
from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.cluster import Node
from tests.support.oci.tiny import TinyImage
from tests.support.proof import without_marker

pytestmark = pytest.mark.container_packaging

_SLURMS_OWN = pytest.mark.parametrize(
    ("options", "variables"),
    [(("--container=docker://alpine",), {}), ((), {"SLURM_CONTAINER": "docker://alpine"})],
    ids=["option", "variable"],
)


@pytest.fixture
def client(steps: Steps, folder: str) -> ClientSide:
    """Return a configuration for this test's own commands."""
    return ClientSide(shell=steps.shell, folder=folder)


def test_no_node_has_the_marker(login_node: Node) -> None:
    without_marker(login_node)


@pytest.mark.parametrize("plugstack", ["# nothing", "optional /nowhere/spank_none.so"], ids=["none", "missing"])
def test_without_the_plugin_srun_does_not_know_the_option(
    steps: Steps, plain: TinyImage, client: ClientSide, plugstack: str
) -> None:
    client.use(plugstack)
    steps.refused(plain.reference, "unrecognized option '--container-image", variables=client.variables)


@pytest.mark.behaviour("node-without-the-plugin")
def test_an_option_that_the_node_ignores_is_noticed(
    steps: Steps, plain: TinyImage, client: ClientSide, behaviour: Ask
) -> None:
    # srun files its options under the plugin's name. One of another name takes --container-image just as well, and what
    # it sends to the node finds no taker there.
    installed = client.installed()
    client.use(f"required {client.place(changed(installed, 'plugin_name', b'other'))}")
    words = f"SLURM_CONF={client.folder}/slurm.conf srun --container-image={plain.reference} cat /etc/os-release"
    unnoticed = steps.shell.run(words)
    assert "pyxis-matrix-tiny" not in unnoticed.stdout, "it ran in the image; this test shows nothing"
    with pytest.raises(AssertionError):
        steps.inside(plain, "true", variables=client.variables)
    with pytest.raises(AssertionError):
        steps.failing(plain, "false", variables=client.variables)
    behaviour("node-without-the-plugin").saw("on the host", unnoticed)


@pytest.mark.starts_no_container
@pytest.mark.behaviour("slurms-own-container-option")
@_SLURMS_OWN
def test_slurms_own_option_for_containers(
    steps: Steps, behaviour: Ask, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    show = ". /etc/os-release; echo $ID"
    assert steps.on_the_host(show, *options, variables=variables) == steps.on_the_host(show)
    behaviour("slurms-own-container-option").saw("on the host")


@_SLURMS_OWN
def test_the_image_wins_over_slurms_own_option(
    steps: Steps, plain: TinyImage, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    assert steps.inside(plain, "echo it-ran", *options, variables=variables) == ["it-ran"]
