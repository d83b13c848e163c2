"""GPUs: how they get from the engine through Slurm into an image, and what is said where the engine has none."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
import shlex

import pytest

from ci.engine.connection import Engine
from ci.environment import cluster, launching, ssh
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.environment.service import Rights
from ci.errors import EngineError
from ci.images.building import Builder
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.options import Options
from ci.terminal.console import Timings
from tests.component.conftest import SUITE
from tests.support.cluster import JOB_LIMIT
from tests.support.enroot import enroot_form
from tests.support.markers import IMAGE_MARKER_TEXT
from tests.support.proof import open_gpu

PlanWith = Callable[[int], EnvironmentPlan]
LaunchWith = Callable[[int], AbstractContextManager[Environment]]

EMBEDDED = f"slurm22.05-embedded-debian12-{Arch.host()}"


@pytest.fixture(scope="module")
def container_cell(rows: Matrix) -> Cell:
    return rows.cell(EMBEDDED)


@pytest.fixture
def launch_with(
    *,
    engine: Engine,
    builder: Builder,
    planned: PlanWith,
    run: str,
    nothing_left: Callable[[], None],
) -> Iterator[LaunchWith]:
    """Return a function that launches the cell with GPUs; nothing of it may be left at the end of the test."""

    def launch(gpus: int) -> AbstractContextManager[Environment]:
        plan = planned(gpus)
        return launching.launch(engine, plan, builder.build(plan.images), timings=Timings())

    yield launch
    nothing_left()
    assert not launching.state_dir(run, EMBEDDED).exists()


@pytest.fixture
def planned(container_cell: Cell, rows: Matrix, run: str, tmp_path: Path) -> PlanWith:
    """Return a function that plans the cell with GPUs."""
    asked = Options(run=run, name=SUITE, results=tmp_path)
    return lambda gpus: plan_environment(container_cell, rows, replace(asked, gpus=gpus))


def test_an_engine_without_a_gpu_is_named(engine: Engine, launch_with: LaunchWith) -> None:
    if "nvidia" in engine.api.info()["Runtimes"]:
        pytest.skip(f'this engine has GPUs: nox -s "pyxis_advanced({EMBEDDED})" -- --gpus 1')
    with pytest.raises(EngineError, match="no GPU to pass on") as caught, launch_with(1):
        pytest.fail("it started")
    assert "leave --gpus out" in caught.value.next_step


def test_slurm_gives_a_device_out_and_the_job_opens_it_in_the_image(
    monkeypatch: pytest.MonkeyPatch, launch_with: LaunchWith
) -> None:
    """All is real but the device: /dev/zero under the name of a GPU, which this machine need not have."""
    real = cluster.rights

    def stand_ins(plan: EnvironmentPlan) -> Rights:
        wanted = real(plan)
        devices = (*wanted.devices, *(f"/dev/zero:/dev/nvidia{number}" for number in range(wanted.gpus)))
        return replace(wanted, devices=devices, gpus=0)

    monkeypatch.setattr(cluster, "rights", stand_ins)
    with launch_with(2) as launched, ssh.connect(launched.file.login) as shell:
        assert launched.file.gpus == 2
        words = ["srun", f"--container-image={enroot_form(str(launched.file.job_reference))}", *open_gpu()]
        done = shell.run(shlex.join(words), limit=JOB_LIMIT)
        assert done.stdout.splitlines() == [IMAGE_MARKER_TEXT, "0", "opened"], str(done)
        refused = shell.run("srun --gpus=3 true")
        assert "Requested node configuration is not available" in refused.stderr, str(refused)
