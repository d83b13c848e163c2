"""What a cell's images do before any container starts. It also runs where the cell's architecture is emulated."""

import pytest

from ci.environment_file import EnvironmentFile
from ci.matrix.cells import Cell
from tests.support.cluster import Shell
from tests.support.expectations import not_promised
from tests.support.markers import IMAGE_MARKER
from tests.support.not_asked import needs
from tests.support.oci.tiny import TinyImage

pytestmark = [pytest.mark.container_packaging, pytest.mark.integration_test, pytest.mark.starts_no_container]


def test_slurm_runs_steps_of_the_cells_architecture(cluster_shell: Shell, cell: Cell) -> None:
    # What a TaskProlog prints, and what sbatch itself says, comes first.
    assert cluster_shell.srun("uname", "-m", image="").stdout.splitlines()[-1] == cell.arch.uname
    assert cluster_shell.sbatch("#!/bin/sh\nuname -m").splitlines()[-1] == cell.arch.uname


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize("command", ["squeue", "sinfo"])
def test_slurm_answers_in_forms_that_programs_read(cluster_shell: Shell, command: str, form: str) -> None:
    """Every release since 22.05 does, in Debian's packages too; a Slurm that was compiled without libyaml does not."""
    starts = {"json": "{", "yaml": "%YAML 1.1"}
    assert cluster_shell.run(f"{command} --{form}").stdout.startswith(starts[form])


def test_a_node_has_no_folder_of_the_build(cluster_shell: Shell) -> None:
    """The engine makes a folder for what a build step mounts, and leaves it in the image, empty."""
    if cluster_shell.environment.site:
        needs("nodes of this project's own")
    empty = cluster_shell.run("find / -mindepth 1 -maxdepth 1 -type d ! -name root -empty").stdout.split()
    assert set(empty) <= {"/boot", "/home", "/media", "/mnt", "/opt", "/srv", "/tmp"}, "Debian makes no others"


@pytest.mark.parametrize("command", ["srun", "sbatch"])
def test_the_plugin_adds_its_options(cluster_shell: Shell, command: str) -> None:
    said = cluster_shell.run(f"{command} --help").stdout
    assert "--container-image" in said
    assert "--container-mounts" in said


def test_an_import_from_the_registry(
    cluster_shell: Shell, tiny_image: TinyImage, cell: Cell, environment: EnvironmentFile
) -> None:
    if environment.emulated:
        not_promised(
            cell,
            f"imports where {cell.arch} is emulated: they unpack in a user namespace, which takes a process with one "
            f"thread. Run a cell of enroot, or this one on {cell.arch} hardware",
        )
    done = cluster_shell.run(
        "cd $(mktemp --directory) && "
        f"enroot import --output image.sqsh 'docker://{tiny_image.reference}' >&2 && "
        f"unsquashfs -cat image.sqsh {IMAGE_MARKER.lstrip('/')}; status=$?; rm -rf $PWD; exit $status"
    )
    assert done.stdout == f"{tiny_image.marker}\n"
