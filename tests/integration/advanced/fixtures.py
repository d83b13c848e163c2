"""A pytest plugin: the fixtures of the advanced suite. It has files in two folders, so this can't be a conftest."""

from collections.abc import Callable, Iterator
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
import pytest

from ci.environment_file import EnvironmentFile
from ci.errors import suite_session
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from tests.integration.advanced.image import TASKS, SdkImage, build
from tests.integration.advanced.jobs import SdkJobs
from tests.integration.advanced.spare_nodes import SpareNodes, spare_nodes
from tests.support.cluster import Node, Shell
from tests.support.expectations import not_promised
from tests.support.oci.tiny import TinyImage
from tests.support.registry_client import RegistryClient

if TYPE_CHECKING:
    from slurm import Cluster

_SHARED = "sdk/shared"

Packaging = Callable[..., dict[str, object]]


@pytest.fixture(scope="session")
def sdk_image(
    environment: EnvironmentFile, registry_client: RegistryClient, tmp_path_factory: pytest.TempPathFactory
) -> SdkImage:
    """Build and push the shared image once per environment, whichever process comes first."""
    tag = hashlib.sha256(TASKS.read_bytes() + str(environment.job_image).encode()).hexdigest()[:16]
    reference = f"{registry_client.address}/{_SHARED}:{tag}"
    image = SdkImage(reference=reference, marker=f"shared-{environment.run}-{tag}")
    with _one_process(tmp_path_factory, "sdk-image"):
        if tag not in registry_client.tags(_SHARED):
            build(environment, image, tmp_path_factory.mktemp("sdk-image"))
    return image


def _one_process(folders: pytest.TempPathFactory, what: str) -> FileLock:
    """Return a lock that all processes of this pytest have in common."""
    base = folders.getbasetemp()
    return FileLock((base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / f"{what}.lock")


@pytest.fixture
def sdk_jobs(slurm_pyxis_cluster: "Cluster", environment: EnvironmentFile) -> Iterator[SdkJobs]:
    """Return what submits the SDK's jobs, within the cluster's context."""
    with slurm_pyxis_cluster as cluster:
        jobs = SdkJobs(cluster=cluster, node=environment.nodes[0])
        yield jobs
        jobs.end()


@pytest.fixture(scope="session")
def built_from(environment: EnvironmentFile, local_registry: str) -> Packaging:
    """Return a function that makes the SDK's packaging configuration: build this context, push it under this name."""

    def configure(context: Path, name: str, **more: object) -> dict[str, object]:
        return {
            "type": "container",
            "dockerfile": str(context / "Containerfile"),
            "context": str(context),
            "registry": f"{local_registry}/sdk",
            "name": name,
            "platform": Arch(environment.arch).platform,
            "tls_verify": False,
            **more,
        }

    return configure


# -- several nodes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def three_nodes(environment: EnvironmentFile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Return the names of the nodes; of the tests that need the others than the first, one runs at a time."""
    nodes = environment.nodes
    if len(nodes) < 3:
        command = suite_session("pyxis_advanced", environment.cell, "--nodes 3")
        pytest.skip(f"it needs 3 nodes and there is {len(nodes)}: {command}")
    with _one_process(tmp_path_factory, "other-nodes"):
        yield nodes


@pytest.fixture
def spare(
    *,
    request: pytest.FixtureRequest,
    three_nodes: tuple[str, ...],
    cell: Cell,
    every_node: list[Node],
    cluster_shell: Shell,
    tiny_image: TinyImage,
) -> Iterator[SpareNodes]:
    """Return the last node, or as many of the last as the test's parameter says, for what would break others' jobs."""
    not_promised(cell, "what becomes of jobs on a node whose plugin is missing or does not start")
    if cell.profile:
        pytest.skip("the profile may have the settings that this changes: run it without the profile")
    count = getattr(request, "param", 1)
    with spare_nodes(cluster_shell, every_node, three_nodes[-count:], tiny_image) as taken:
        yield taken
