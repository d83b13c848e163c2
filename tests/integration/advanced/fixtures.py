"""A pytest plugin: the fixtures of the advanced suite. It has files in two folders, so this can't be a conftest."""

from collections.abc import Callable, Iterator
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
import pytest

from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from tests.integration.advanced.image import TASKS, SdkImage, build
from tests.integration.advanced.jobs import SdkJobs
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
    base = tmp_path_factory.getbasetemp()
    common = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with FileLock(common / "sdk-image.lock"):
        if tag not in registry_client.tags(_SHARED):
            build(environment, image, tmp_path_factory.mktemp("sdk-image"))
    return image


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
