"""The plugin and who loads it: one for another Slurm is refused, and its own options are checked."""

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.plugins import ClientSide, changed, slurm_version
from tests.integration.conformance.support import Steps
from tests.support.expectations import not_promised, since

pytestmark = [pytest.mark.container_packaging, pytest.mark.starts_no_container]

# An option of plugstack.conf, the first release that knows it, and what older ones say.
_UNKNOWN = "unknown configuration option"
_OPTIONS = [
    ("runtime_path=/run/pyxis", "0.18", ""),
    ("execute_entrypoint=1", "0.18", ""),
    ("container_scope=job", "0.18", ""),
    ("sbatch_support=true", "0.18", ""),
    ("sbatch_support=yes", "0.21", "sbatch_support: invalid value: yes"),
    ("execute_entrypoint=n", "0.21", "execute_entrypoint: invalid value: n"),
    ("use_enroot_load=1", "0.21", f"{_UNKNOWN}: use_enroot_load=1"),
    ("importer=/bin/true", "0.21", f"{_UNKNOWN}: importer=/bin/true"),
    ("use_squashfuse=1", "0.22", f"{_UNKNOWN}: use_squashfuse=1"),
]


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


@pytest.mark.parametrize(("option", "first", "refusal"), _OPTIONS)
def test_options_of_the_plugin(
    *, steps: Steps, client: ClientSide, cell: Cell, option: str, first: str, refusal: str
) -> None:
    if option.startswith("importer="):
        not_promised(cell, "importers other than its own")
    client.use(f"required {client.installed_path} {option}")
    # sbatch reads the options on the login node, srun does not.
    done = steps.shell.run_unchecked(f"cd /tmp && SLURM_CONF={client.folder}/slurm.conf sbatch --test-only --wrap=true")
    if since(cell, pyxis=first):
        assert done.status == 0, str(done)
    else:
        assert done.status != 0, str(done)
        assert refusal in done.stderr


@pytest.mark.parametrize("option", ["nonsense=1", "container_scope=node", "sbatch_support=maybe"])
def test_wrong_options_of_the_plugin_are_refused(steps: Steps, client: ClientSide, option: str) -> None:
    client.use(f"required {client.installed_path} {option}")
    done = steps.shell.run_unchecked(f"SLURM_CONF={client.folder}/slurm.conf sbatch --test-only --wrap=true")
    assert done.status != 0, str(done)
    assert ": failed to parse configuration" in done.stderr
