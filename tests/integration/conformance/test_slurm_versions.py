"""What Slurm decides about a job's container: three faults that only some releases have, and MPI.

The boundaries were read in Slurm's source at each tag and measured on cells; the commits are those of SchedMD's
repository.
"""

from collections.abc import Mapping

import pytest

from ci.matrix.cells import Cell, SlurmSource
from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import PATIENCE, Steps
from tests.support.behaviours import Ask
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.layers import File
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging

_ON_THE_HOST = "on the host"
_SHOW = f"if test -e {IMAGE_MARKER}; then cat {IMAGE_MARKER}; else echo {_ON_THE_HOST}; fi"
_WHERE = f"#!/bin/sh\n{_SHOW}"


def _where(steps: Steps, image: TinyImage, *options: str, variables: Mapping[str, str] | None = None) -> str:
    """Return whether a batch script with these options ran in the image or on the host; it has to end with status 0."""
    output = steps.shell.sbatch(
        _WHERE, f"--container-image={image.reference}", *options, variables=variables, limit=PATIENCE
    )
    places = [line for line in output.splitlines() if line in {image.marker, _ON_THE_HOST}]
    assert len(places) == 1, output
    return "in the image" if places == [image.marker] else _ON_THE_HOST


@pytest.mark.behaviour("sbatch-export-none")
@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (("--export=NONE",), {}),
        (("--export=NIL",), {}),
        ((), {"SBATCH_EXPORT": "NONE"}),
    ],
    ids=["NONE", "NIL", "SBATCH_EXPORT"],
)
def test_a_script_without_the_environment(
    steps: Steps, plain: TinyImage, behaviour: Ask, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    behaviour("sbatch-export-none").saw(_where(steps, plain, *options, variables=variables))


@pytest.mark.behaviour("sbatch-export-names")
@pytest.mark.parametrize("export", ["HOME", "SOMETHING=else"])
def test_a_script_with_a_part_of_the_environment(steps: Steps, plain: TinyImage, behaviour: Ask, export: str) -> None:
    behaviour("sbatch-export-names").saw(_where(steps, plain, f"--export={export}"))


def test_a_script_with_the_whole_environment_and_more(steps: Steps, plain: TinyImage) -> None:
    assert _where(steps, plain, "--export=ALL,SOMETHING=else") == "in the image"


@pytest.mark.parametrize("export", ["NONE", "HOME", "SOMETHING=else"])
def test_a_step_without_the_whole_environment_runs_in_its_image(steps: Steps, plain: TinyImage, export: str) -> None:
    """The options of srun reach its own steps in every release; only those of sbatch get lost."""
    assert steps.inside(plain, "echo it-ran", f"--export={export}") == ["it-ran"]


@pytest.mark.behaviour("task-prolog")
def test_a_task_prolog(steps: Steps, make_image: MakeImage, unpacked: Unpack, behaviour: Ask) -> None:
    """Some releases start it by slurmstepd, whose libraries the image does not have (NVIDIA/pyxis#163).

    The prolog of ``srun --task-prolog`` is started by the same code as that of slurm.conf, which all tests of a cell
    share.
    """
    prolog = File(content=b"#!/bin/sh\necho export FROM_PROLOG=yes\n", mode=0o755)
    image = unpacked(make_image({"/prolog": prolog}))
    done = steps.srun_unchecked(image.reference, "echo prolog:$FROM_PROLOG", "--task-prolog=/prolog")
    if done.status == 0:
        assert done.stdout.splitlines() == [image.marker, "prolog:yes"]
    else:
        assert image.marker not in done.stdout, str(done)
        assert done.status == 127, str(done)
        assert "prolog failed status=127" in done.stderr, str(done)
    behaviour("task-prolog").saw("starts" if done.status == 0 else "fails", done)


def test_a_task_prolog_that_the_image_lacks(steps: Steps, plain: TinyImage) -> None:
    """A site whose slurm.conf names one has no container step that starts, unless it is mounted (NVIDIA/pyxis#135)."""
    steps.refused(plain.reference, "prolog", "--task-prolog=/no/such/prolog")


# -- MPI ------------------------------------------------------------------------------------------------------------


def test_pmi2_reaches_the_container(steps: Steps, plain: TinyImage) -> None:
    lines = steps.inside(plain, "echo rank=$PMI_RANK size=$PMI_SIZE fd=$PMI_FD", "--mpi=pmi2")
    rank, size, descriptor = lines[0].split()
    assert (rank, size) == ("rank=0", "size=1")
    assert descriptor.removeprefix("fd=").isdecimal(), lines


def test_pmix_reaches_the_container(steps: Steps, plain: TinyImage, cell: Cell) -> None:
    """A compiled Slurm has the plugin and its library; one of packages may have the plugin without the library."""
    works = steps.shell.run_unchecked(f"srun {steps.shell.here} --mpi=pmix true").status == 0
    if cell.slurm.source is SlurmSource.ARCHIVE:
        assert works
    if works:
        assert steps.inside(plain, 'echo rank=$PMIX_RANK; test -n "$PMIX_NAMESPACE"', "--mpi=pmix") == ["rank=0"]
    else:
        steps.refused(plain.reference, "mpi", "--mpi=pmix")


def test_a_kind_of_mpi_that_slurm_lacks_is_refused_before_any_import(steps: Steps, tiny_image: TinyImage) -> None:
    """It must not wait, nor import first (NVIDIA/pyxis#88, #107, #139)."""
    said = steps.refused(tiny_image.reference, "pmix_v99", "--mpi=pmix_v99")
    assert "importing docker image" not in said, said
