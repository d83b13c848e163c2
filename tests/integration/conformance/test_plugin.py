"""The plugin and who loads it: one for another Slurm is refused, and its own options are checked."""

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.matrix.cells import Cell
from tests.integration.conformance.plugins import ClientSide, changed, slurm_version
from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.expectations import not_promised

pytestmark = [pytest.mark.container_packaging, pytest.mark.starts_no_container]


@pytest.fixture
def client(steps: Steps, folder: str) -> ClientSide:
    """Return a configuration for this test's own commands."""
    return ClientSide(shell=steps.shell, folder=folder)


def test_a_plugin_for_another_slurm_is_refused(steps: Steps, client: ClientSide) -> None:
    plugin = client.place(changed(client.installed(), "plugin_version", slurm_version(20, 11, 7)))
    client.use(f"required {plugin}")
    steps.refused("", "Incompatible", variables=client.variables)


def test_the_same_plugin_unchanged_is_loaded(steps: Steps, client: ClientSide) -> None:
    # Without this the test above would also pass for a plugin that was spoilt on its way.
    client.use(f"required {client.place(client.installed())}")
    assert steps.on_the_host("echo loaded", variables=client.variables) == ["loaded"]
    assert "--container-image" in steps.shell.run(f"SLURM_CONF={client.folder}/slurm.conf srun --help").stdout


@pytest.mark.parametrize("command", ["srun echo it-ran", "salloc echo it-ran", "sbatch --test-only --wrap=true"])
def test_a_required_plugin_that_is_missing(steps: Steps, client: ClientSide, command: str) -> None:
    """On a login node it keeps everybody from running anything."""
    client.use(f"required {client.folder}/none.so")
    done = steps.shell.run_unchecked(f"cd /tmp && SLURM_CONF={client.folder}/slurm.conf {command}")
    assert (done.status, done.stdout) == (1, ""), str(done)
    assert f"Failed to load plugin {client.folder}/none.so" in done.stderr, str(done)


@pytest.mark.behaviour("optional-plugin-that-is-missing")
def test_an_optional_plugin_that_is_missing(steps: Steps, client: ClientSide, behaviour: Ask) -> None:
    client.use(f"optional {client.folder}/none.so")
    done = steps.shell.run(f"SLURM_CONF={client.folder}/slurm.conf srun {steps.shell.here} echo it-ran")
    assert done.stdout == "it-ran\n", str(done)
    told = f"{client.folder}/none.so: Dlopen of plugin file failed" in done.stderr
    behaviour("optional-plugin-that-is-missing").saw("with an error" if told else "without a word", done)


def _with_option(steps: Steps, client: ClientSide, option: str) -> RemoteAnswer:
    """Have the plugin loaded with an option in plugstack.conf: sbatch reads it on the login node, srun does not."""
    client.use(f"required {client.installed_path} {option}")
    return steps.shell.run_unchecked(f"cd /tmp && SLURM_CONF={client.folder}/slurm.conf sbatch --test-only --wrap=true")


@pytest.mark.parametrize(
    "option", ["runtime_path=/run/pyxis", "execute_entrypoint=1", "container_scope=job", "sbatch_support=true"]
)
def test_options_that_every_plugin_takes(steps: Steps, client: ClientSide, option: str) -> None:
    done = _with_option(steps, client, option)
    assert done.status == 0, str(done)


@pytest.mark.behaviour("plugstack-yes-no")
@pytest.mark.parametrize("option", ["sbatch_support=yes", "execute_entrypoint=n"])
def test_yes_and_no_for_options_of_the_plugin(steps: Steps, client: ClientSide, behaviour: Ask, option: str) -> None:
    done = _with_option(steps, client, option)
    assert done.status == 0 or f"{option.replace('=', ': invalid value: ')}" in done.stderr, str(done)
    behaviour("plugstack-yes-no").saw("taken" if done.status == 0 else "refused", done)


@pytest.mark.parametrize(
    ("option", "asked"),
    [
        pytest.param("use_enroot_load=1", "plugstack-importer", marks=pytest.mark.behaviour("plugstack-importer")),
        pytest.param("importer=/bin/true", "plugstack-importer", marks=pytest.mark.behaviour("plugstack-importer")),
        pytest.param("use_squashfuse=1", "plugstack-squashfuse", marks=pytest.mark.behaviour("plugstack-squashfuse")),
    ],
)
def test_options_of_the_plugin(
    *, steps: Steps, client: ClientSide, cell: Cell, behaviour: Ask, option: str, asked: str
) -> None:
    if option.startswith("importer="):
        not_promised(cell, "importers other than its own")
    done = _with_option(steps, client, option)
    assert done.status == 0 or f"unknown configuration option: {option}" in done.stderr, str(done)
    behaviour(asked).saw("taken" if done.status == 0 else "refused", done)


@pytest.mark.parametrize("option", ["nonsense=1", "container_scope=node", "sbatch_support=maybe"])
def test_wrong_options_of_the_plugin_are_refused(steps: Steps, client: ClientSide, option: str) -> None:
    client.use(f"required {client.installed_path} {option}")
    done = steps.shell.run_unchecked(f"SLURM_CONF={client.folder}/slurm.conf sbatch --test-only --wrap=true")
    assert done.status != 0, str(done)
    assert ": failed to parse configuration" in done.stderr
