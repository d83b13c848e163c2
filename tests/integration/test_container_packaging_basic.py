"""The main job: a task is built into an image, pushed, pulled and run by Pyxis, and its result comes back."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
import uuid

import pytest

from ci.environment_file import EnvironmentFile
from tests.integration import container_tasks as tasks
from tests.integration.container_support import IMAGE_MARKER, IMAGE_MARKER_TEXT, JOB_LIMIT, Node, Registry, Shell

if TYPE_CHECKING:
    from slurm import Cluster

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]

ImageContext = Callable[..., Path]
Packaging = Callable[..., dict[str, object]]


def test_basic_container_task_execution(
    *,
    sdk_on_pyxis_cluster: "Cluster",
    image_context: ImageContext,
    built_from: Packaging,
    local_registry: Registry,
    environment: EnvironmentFile,
) -> None:
    name = f"basic-{uuid.uuid4().hex[:8]}"
    context = image_context(f"RUN echo {name} > /etc/pyxis-matrix-test")
    submit: Any = sdk_on_pyxis_cluster.submit(tasks.add, packaging_config=built_from(context, name, tag="first"))
    job = submit(40, 2)
    assert job.wait(timeout=JOB_LIMIT), job.get_status()
    answer = job.get_result()
    assert answer == {"sum": 42, "host": environment.nodes[0], "image": IMAGE_MARKER_TEXT, "marker": name}
    assert local_registry.tags(f"sdk/{name}") == ["first"]


def test_container_with_dependencies(
    *,
    sdk_on_pyxis_cluster: "Cluster",
    image_context: ImageContext,
    built_from: Packaging,
    numpy_wheels: Path,
    slurm_pyxis_cluster: Shell,
    environment: EnvironmentFile,
) -> None:
    for python in (environment.subject_python, "python3"):
        # Python's own words, because an interpreter that is not there has no numpy either.
        on_node = slurm_pyxis_cluster.run_unchecked(f"{python} -c 'import numpy'")
        assert "ModuleNotFoundError: No module named 'numpy'" in on_node.stderr, str(on_node)
    context = image_context(
        "COPY wheels /wheels",
        "RUN pip install --break-system-packages --no-index --find-links /wheels numpy",
        wheels=numpy_wheels,
    )
    packaging = built_from(context, f"numpy-{uuid.uuid4().hex[:8]}")
    submit: Any = sdk_on_pyxis_cluster.submit(tasks.invert, packaging_config=packaging)
    job = submit([[2.0, 0.0], [0.0, 4.0]])
    assert job.wait(timeout=JOB_LIMIT), job.get_status()
    answer = job.get_result()
    assert answer["inverse"] == [[0.5, 0.0], [0.0, 0.25]]
    assert "site-packages" in answer["where"] or "dist-packages" in answer["where"]


def test_job_runs_inside_the_image(slurm_pyxis_cluster: Shell, pyxis_container: Node) -> None:
    assert pyxis_container.run(f"test -e {IMAGE_MARKER}").status != 0, (
        "the node itself has the marker; it proves nothing"
    )
    on_node = slurm_pyxis_cluster.srun("stat", "--format=%d:%i", "/", image="").stdout
    inside = slurm_pyxis_cluster.srun("sh", "-c", f"cat {IMAGE_MARKER} && stat --format=%d:%i /").stdout.splitlines()
    assert inside[0] == IMAGE_MARKER_TEXT
    assert inside[1] != on_node.strip(), "the job's root is the node's root"
