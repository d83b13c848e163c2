"""What the release of Slurm decides about a job's container: three faults that only some releases have, and MPI.

The boundaries were read in Slurm's source at each tag and measured on cells; the commits are those of SchedMD's
repository.
"""

from collections.abc import Mapping

import pytest

from ci.matrix.cells import Cell, SlurmSource
from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import PATIENCE, Steps
from tests.support.expectations import answer
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.layers import File
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging

_ON_THE_HOST = "on the host"
_WHERE = f"#!/bin/sh\nif test -e {IMAGE_MARKER}; then cat {IMAGE_MARKER}; else echo {_ON_THE_HOST}; fi"


def _where(steps: Steps, image: TinyImage, *options: str, variables: Mapping[str, str] | None = None) -> str:
    """Return whether a batch script with these options ran in the image or on the host; it has to end with status 0."""
    output = steps.shell.sbatch(
        _WHERE, f"--container-image={image.reference}", *options, variables=variables, limit=PATIENCE
    )
    places = [line for line in output.splitlines() if line in {image.marker, _ON_THE_HOST}]
    assert len(places) == 1, output
    return "in the image" if places == [image.marker] else _ON_THE_HOST


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
    steps: Steps, plain: TinyImage, cell: Cell, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    """Until 23.02 such a script runs on the host, and the job ends with status 0 (Slurm's 42e23f9a2d)."""
    expected = answer(cell, {("slurm", "<23.11"): _ON_THE_HOST, ("slurm", ">=23.11"): "in the image"})
    assert _where(steps, plain, *options, variables=variables) == expected


@pytest.mark.parametrize("export", ["HOME", "SOMETHING=else"])
def test_a_script_with_a_part_of_the_environment(steps: Steps, plain: TinyImage, cell: Cell, export: str) -> None:
    """Until 23.11 such a script runs on the host, and the job ends with status 0 (Slurm's f88ca22d10)."""
    expected = answer(cell, {("slurm", "<24.05"): _ON_THE_HOST, ("slurm", ">=24.05"): "in the image"})
    assert _where(steps, plain, f"--export={export}") == expected


def test_a_script_with_the_whole_environment_and_more(steps: Steps, plain: TinyImage) -> None:
    assert _where(steps, plain, "--export=ALL,SOMETHING=else") == "in the image"


@pytest.mark.parametrize("export", ["NONE", "HOME", "SOMETHING=else"])
def test_a_step_without_the_whole_environment_runs_in_its_image(steps: Steps, plain: TinyImage, export: str) -> None:
    """The options of srun reach its own steps in every release; only those of sbatch get lost."""
    assert steps.inside(plain, "echo it-ran", f"--export={export}") == ["it-ran"]


def test_a_task_prolog(steps: Steps, make_image: MakeImage, unpacked: Unpack, cell: Cell) -> None:
    """Some releases start it by slurmstepd, whose libraries the image does not have (NVIDIA/pyxis#163).

    The prolog of ``srun --task-prolog`` is started by the same code as that of slurm.conf, which all tests of a cell
    share.
    Wrong from 24.11.0 and 25.05.0 on, right again from 24.11.7 (14c50f4361) and 25.05.2 (a5a493bec8).
    """
    prolog = File(content=b"#!/bin/sh\necho export FROM_PROLOG=yes\n", mode=0o755)
    image = unpacked(make_image({"/prolog": prolog}))
    works = answer(
        cell,
        {
            ("slurm", "<24.11"): True,
            ("slurm", ">=24.11,<24.11.7"): False,
            ("slurm", ">=24.11.7,<25.05"): True,
            ("slurm", ">=25.05,<25.05.2"): False,
            ("slurm", ">=25.05.2"): True,
        },
    )
    done = steps.srun_unchecked(image.reference, "echo prolog:$FROM_PROLOG", "--task-prolog=/prolog")
    if works:
        assert done.status == 0, str(done)
        assert done.stdout.splitlines() == [image.marker, "prolog:yes"]
    else:
        assert image.marker not in done.stdout, str(done)
        assert done.status == 127, str(done)
        assert "prolog failed status=127" in done.stderr, str(done)


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
