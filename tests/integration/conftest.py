"""Fixtures of the legacy suite: plain Slurm over SSH, through the SDK, with neither containers nor a registry.

The cluster is started by whoever runs pytest (see `python -m ci run`); the fixtures only connect to it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
import uuid

import pytest

from ci import environment_file
from ci.environment_file import EnvironmentFile
from ci.errors import PyxisMatrixError

if TYPE_CHECKING:
    # At run time it is imported by the fixture that needs it: this file is also loaded for subjects other than the SDK.
    from slurm import Cluster, SlurmTask

_TASKS = Path(__file__).with_name("legacy_tasks.py")


@pytest.fixture(scope="session")
def legacy_environment() -> EnvironmentFile:
    """Return the started environment; without one each test says how to get it."""
    try:
        return environment_file.current()
    except PyxisMatrixError as error:
        message = str(error)
    pytest.fail(f"{message}\n  this suite: nox -s legacy_integration", pytrace=False)


@pytest.fixture(scope="session")
def legacy_folder(legacy_environment: EnvironmentFile) -> str:
    """Name a folder on the cluster that no other worker and no other run uses."""
    return f"/home/{legacy_environment.login.user}/legacy-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def slurm_cluster(legacy_environment: EnvironmentFile, legacy_folder: str) -> Iterator["Cluster"]:
    """Connect the SDK to the login node; calling a task then submits it."""
    from slurm import Cluster  # noqa: PLC0415 - see above

    login = legacy_environment.login
    with pytest.MonkeyPatch.context() as patch:
        # The SDK knows only the user's own known_hosts, and must not meet a host key that it does not know.
        patch.setenv("HOME", login.home)
        with Cluster(
            backend_type="ssh",
            hostname=login.host,
            port=login.port,
            username=login.user,
            key_filename=login.private_key,
            allow_agent=False,
            look_for_keys=False,
            host_key_policy="reject",
            job_base_dir=f"{legacy_folder}/jobs",
            default_packaging="none",
        ) as cluster:
            cluster.backend.upload_file(str(_TASKS), f"{legacy_folder}/tests/integration/{_TASKS.name}")
            yield cluster


@pytest.fixture(scope="session")
def on_nodes(
    legacy_environment: EnvironmentFile, legacy_folder: str, slurm_cluster: "Cluster"
) -> Callable[..., "SlurmTask"]:
    """Prepare a task for the nodes: the interpreter that has the SDK, the folder that has the task, and sbatch options.

    Without packaging the SDK takes the interpreter from PY_EXEC and leaves PYTHONPATH in place.
    """
    assert slurm_cluster.backend.is_remote()
    exported = f"ALL,PY_EXEC={legacy_environment.subject_python},PYTHONPATH={legacy_folder}"

    def prepare(task: "SlurmTask", *, variables: str = "", **options: object) -> "SlurmTask":
        export = f"{exported},{variables}" if variables else exported
        return task.with_options(export=export, **options)

    return prepare
