"""GPUs: how they get from the engine through Slurm into an image, and what is said where the engine has none."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
import shlex
from typing import Any

import pytest

from ci.artefacts.sources import Sources
from ci.engine.connection import Engine
from ci.environment import cluster, launching, ssh
from ci.environment.launching import CellImages, Environment, Options
from ci.errors import EngineError
from ci.images.building import Builder
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.terminal.console import Timings
from tests.support.cluster import JOB_LIMIT
from tests.support.enroot import enroot_form
from tests.support.markers import IMAGE_MARKER_TEXT
from tests.support.proof import open_gpu

LaunchWith = Callable[[int], AbstractContextManager[Environment]]

EMBEDDED = f"slurm22.05-embedded-{Arch.host()}"


@pytest.fixture(scope="module")
def container_cell(rows: Matrix) -> Cell:
    return rows.cell(EMBEDDED)


@pytest.fixture(scope="module")
def container_images(engine: Engine, builder: Builder, container_cell: Cell, rows: Matrix) -> CellImages:
    return launching.prepare(
        engine, builder, container_cell, what=rows.subject, checkout=None, where=Sources.from_environment()
    )


@pytest.fixture
def launch_with(
    *,
    engine: Engine,
    container_cell: Cell,
    container_images: CellImages,
    run: str,
    tmp_path: Path,
    nothing_left: Callable[[], None],
) -> Iterator[LaunchWith]:
    """Return a function that launches the cell with GPUs; nothing of it may be left at the end of the test."""

    def launch(gpus: int) -> AbstractContextManager[Environment]:
        asked = Options(run=run, suite="component", results=tmp_path, gpus=gpus)
        return launching.launch(engine, container_cell, container_images, asked, what="", timings=Timings())

    yield launch
    nothing_left()
    assert not launching.state_dir(run, EMBEDDED).exists()


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

    def stand_ins(count: int) -> dict[str, Any]:
        return {"devices": ["/dev/fuse", *(f"/dev/zero:/dev/nvidia{index}" for index in range(count))]}

    monkeypatch.setattr(cluster, "gpu_options", stand_ins)
    with launch_with(2) as launched, ssh.connect(launched.file.login) as shell:
        assert launched.file.gpus == 2
        words = ["srun", f"--container-image={enroot_form(str(launched.file.job_reference))}", *open_gpu()]
        done = shell.run(shlex.join(words), limit=JOB_LIMIT)
        assert done.stdout.splitlines() == [IMAGE_MARKER_TEXT, "0", "opened"], str(done)
        refused = shell.run("srun --gpus=3 true")
        assert "Requested node configuration is not available" in refused.stderr, str(refused)
