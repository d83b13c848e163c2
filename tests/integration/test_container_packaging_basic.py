"""The main job: a task is built into an image, pushed, pulled and run by Pyxis, and its result comes back."""

import hashlib
import json
from pathlib import Path
import shlex
from typing import TYPE_CHECKING

import pytest
import slurm
from slurm import task

from ci.environment_file import EnvironmentFile
from ci.images import subject
from ci.images.plan import job_os
from ci.images.wheels import Target
from ci.matrix.arch import Arch
from tests.support.cluster import JOB_LIMIT, Node, Shell
from tests.support.markers import IMAGE_MARKER, IMAGE_MARKER_TEXT
from tests.support.proof import behind, without_marker
from tests.support.registry_client import RegistryClient
from tests.support.sdk_project import Project

if TYPE_CHECKING:
    from slurm import Cluster


@pytest.fixture(scope="session")
def numpy_wheels(environment: EnvironmentFile) -> Path:
    """Return a folder with the wheels that numpy needs in the job image, made on the host."""
    target = Target(python=environment.job_python, arch=Arch(environment.arch), glibc=job_os().glibc)
    return subject.wheelhouse(["numpy"], target=target).path


@pytest.mark.container_packaging
@pytest.mark.integration_test
@pytest.mark.slow_integration_test
def test_basic_container_task_execution(
    *,
    slurm_pyxis_cluster: "Cluster",
    local_registry: str,
    project: Project,
    registry_client: RegistryClient,
    environment: EnvironmentFile,
) -> None:
    """Test that a task runs successfully in a container via Pyxis."""

    @task(
        time="00:10:00",
        mem="1G",
        packaging="container",
        packaging_dockerfile=project.dockerfile(),
        packaging_registry=f"{local_registry}/test/",
        packaging_name=f"hello-{project.marker}",
        packaging_tag="first",
        packaging_platform=project.platform,
        packaging_tls_verify=False,
    )
    def hello_container() -> str:
        from pathlib import Path
        import socket

        markers = [Path(f"/etc/pyxis-matrix-{it}").read_text(encoding="utf-8").strip() for it in ("image", "test")]
        return f"Hello from {socket.gethostname()}, {markers[0]}, {markers[1]}"

    with slurm_pyxis_cluster:
        job = hello_container()
        assert job.wait(timeout=JOB_LIMIT), job.get_stderr()
        result = job.get_result()
    where, *markers = result.removeprefix("Hello from ").split(", ")
    assert markers == [IMAGE_MARKER_TEXT, project.marker]
    assert environment.site or where == environment.nodes[0]
    assert registry_client.tags(f"{registry_client.folder}test/hello-{project.marker}") == ["first"]


@pytest.mark.container_packaging
@pytest.mark.integration_test
@pytest.mark.slow_integration_test
def test_container_with_dependencies(
    *,
    slurm_pyxis_cluster: "Cluster",
    local_registry: str,
    project: Project,
    numpy_wheels: Path,
    cluster_shell: Shell,
    environment: EnvironmentFile,
) -> None:
    """Test container task with Python dependencies: numpy is in the image, and nowhere else."""
    # A site's own Python may have numpy; the marker that the task reads is in this image only.
    for python in () if environment.site else (environment.subject_python, "python3"):
        # Python's own words, because an interpreter that is not there has no numpy either.
        on_node = cluster_shell.run_unchecked(f"{python} -c 'import numpy'")
        assert "ModuleNotFoundError: No module named 'numpy'" in on_node.stderr, str(on_node)
    install = "RUN pip install --break-system-packages --no-index --find-links /wheels numpy"
    project.dockerfile(install, wheels=numpy_wheels)

    @task(
        time="00:10:00",
        mem="1G",
        packaging="container",
        packaging_dockerfile="test_container.Dockerfile",
        packaging_registry=f"{local_registry}/test/",
        packaging_platform=project.platform,
        packaging_tls_verify=False,
    )
    def numpy_task() -> tuple[int, str]:
        from pathlib import Path

        import numpy as np  # type: ignore[import-not-found]  # it is nowhere but in the image

        # A plain number: numpy's own could not be read where there is no numpy.
        return int(np.array([1, 2, 3]).sum()), Path("/etc/pyxis-matrix-test").read_text(encoding="utf-8").strip()

    with slurm_pyxis_cluster:
        job = numpy_task()
        assert job.wait(timeout=JOB_LIMIT), job.get_stderr()
        result = job.get_result()
    assert result == (6, project.marker)


@pytest.mark.container_packaging
@pytest.mark.slow_integration_test
def test_job_runs_inside_the_image(cluster_shell: Shell, login_node: Node) -> None:
    without_marker(login_node)
    show = "stat --format=%d:%i /"
    on_node = behind(cluster_shell.srun("sh", "-c", f"echo here && {show}", image=""), "here")
    inside = behind(cluster_shell.srun("sh", "-c", f"cat {IMAGE_MARKER} && {show}"), IMAGE_MARKER_TEXT)
    assert len(on_node) == len(inside) == 1
    assert inside != on_node, "the job's root is the node's root"


@pytest.mark.container_packaging
@pytest.mark.slow_integration_test
def test_the_subject_is_the_same_everywhere(cluster_shell: Shell, environment: EnvironmentFile) -> None:
    """What is imported in the job image, and on the node, is what this process imports, file by file."""
    show = (
        "import hashlib, json, pathlib, slurm; below = pathlib.Path(slurm.__file__).parent; "
        "print(json.dumps({str(it.relative_to(below)): hashlib.sha256(it.read_bytes()).hexdigest()[:12] "
        "for it in below.rglob('*.py')}))"
    )
    here = Path(slurm.__file__).parent
    ours = {str(it.relative_to(here)): hashlib.sha256(it.read_bytes()).hexdigest()[:12] for it in here.rglob("*.py")}
    answers = {"in the job image": cluster_shell.srun("python", "-c", show)}
    if not environment.site:  # there it is in the image only
        answers["on the node"] = cluster_shell.run(shlex.join([environment.subject_python, "-c", show]))
    for where, answer in answers.items():
        theirs = json.loads(answer.stdout.splitlines()[-1])
        assert "__init__.py" in theirs, f"{where}: {answer}"
        # A package that was built may leave files of a checkout out; none is another one.
        assert {name for name in theirs if theirs[name] != ours.get(name)} == set(), f"another subject {where}"
