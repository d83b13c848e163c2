"""Fixtures of the container suites; loaded by their sessions with ``-p``, never by the legacy suite.

The environment was started by ``python -m ci run``; everything here only connects to it. Where nobody has started one
(plain ``pytest FILE``), this plugin starts exactly one in pytest's main process, also under ``pytest -n``.
"""

from collections.abc import Iterator
from contextlib import ExitStack
import http
from importlib import metadata
import os
from pathlib import Path, PurePosixPath
import re
import shlex
import socket
from typing import TYPE_CHECKING, Any
import uuid

import pytest

from ci import environment_file, paths
from ci.artefacts import sources
from ci.environment.plan import plan_environment
from ci.environment.ssh import SSH_PORT
from ci.environment_file import EnvironmentFile
from ci.errors import PyxisMatrixError, SelectionError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.options import Options
from ci.session import running
from ci.session.handover import additions, sdk_settings
from ci.session.record import Record
from ci.terminal import signals
from tests.support.cluster import JOB_LIMIT, Node, Shell
from tests.support.enroot import enroot_form
from tests.support.not_asked import needs
from tests.support.oci.images import push
from tests.support.oci.tiny import TinyImage, busybox_image, new_marker
from tests.support.registry_client import RegistryClient
from tests.support.sdk_containers import remove_containers_below
from tests.support.sdk_project import Project

if TYPE_CHECKING:
    from slurm import Cluster

pytest_plugins = [
    "tests.support.connected",
    "tests.support.behaviours",  # before who imports it, so that pytest rewrites its asserts
    "tests.support.known_failures",
    "tests.support.emulation",
    "tests.integration.advanced.fixtures",
]

_STARTED = pytest.StashKey[ExitStack]()


# -- the environment: connected to, or started once -----------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Keep the subject's own untidiness (pipes that it leaves to the garbage collector) from failing its tests."""
    config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")
    signals.follow_parent()  # on a site a suite ends with who started it


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist starts its workers, which inherit what is set here
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start an environment where there is none; the workers of pytest-xdist find it started."""
    config = session.config
    if hasattr(config, "workerinput") or config.option.collectonly or os.environ.get(environment_file.VARIABLE):
        return
    stack = ExitStack()
    config.stash[_STARTED] = stack
    try:
        rows = loading.load()
        cell = _cell_to_start(rows, config.getoption("cell"))
        plan = plan_environment(cell, rows, Options(run=paths.new_run_id(), name="pytest"))
        stack.enter_context(signals.handled())
        launched = stack.enter_context(running.environment_of(Record(plan=plan)))
        wanted = additions(launched, os.environ)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in wanted.items():
            patch.setenv(name, value)
    except PyxisMatrixError as error:
        stack.close()
        pytest.exit(str(error), returncode=error.exit_code)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take down what was started here."""
    if stack := session.config.stash.get(_STARTED, None):
        stack.close()


def pytest_report_header() -> list[str]:
    """Name the cell and the versions seen inside it."""
    if not os.environ.get(environment_file.VARIABLE):
        return []
    file = environment_file.current()
    return [f"cell: {file.cell}", "observed: " + ", ".join(f"{name} {value}" for name, value in file.observed.items())]


def _cell_to_start(rows: Matrix, name: str | None) -> Cell:
    """Return the cell asked for, else one of the default group whose files are there: a real one before an embedded."""
    if name:
        return rows.cell(name, Arch.host())
    where = sources.Sources.from_environment()
    real_first = sorted(rows.cells(None, Arch.host()), key=lambda cell: cell.runtime is not Runtime.NVIDIA)
    found = next((cell for cell in real_first if sources.missing(cell, where) is None), None)
    if found is None:
        raise SelectionError(
            "no cell of the default group can run here: releases are missing", next_step="name one with --cell CELL"
        )
    return found


# -- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def local_registry(environment: EnvironmentFile) -> str:
    """Return the registry's address, "localhost:PORT": the same on the host and on every node.

    On a cluster that exists it is what its file says: HOST[:PORT][/FOLDER].
    """
    if environment.site and not environment.registry:
        needs("a registry")
    assert environment.registry, "a legacy environment has no registry"
    return environment.registry


@pytest.fixture(scope="session")
def pyxis_container(environment: EnvironmentFile) -> dict[str, Any]:
    """Return the login node: its container's name, how to enter it over SSH, and the folder for jobs on it."""
    login = environment.login
    return {
        "name": Node.of(environment).name,
        "hostname": login.host,
        "port": login.port or SSH_PORT,
        "username": login.user,
        # Of this process alone: what the jobs of others do is not ours to clean up.
        "job_base_dir": f"{environment.work}/sdk-{uuid.uuid4().hex[:12]}",
    }


@pytest.fixture(scope="session")
def sdk_on_pyxis_cluster(environment: EnvironmentFile, cluster_shell: Shell) -> PurePosixPath:
    """Return where the SDK is on the cluster: a checkout's own path, else the folder of its package.

    The launcher installs it into the node's image; a checkout (``--subject PATH``) editable.
    """
    if environment.site:
        needs("the subject on the nodes")
    words = [environment.subject_python, "-c", "import os, slurm; print(os.path.dirname(slurm.__file__))"]
    package = PurePosixPath(cluster_shell.run(shlex.join(words)).stdout.strip())
    checkout = Path(environment.subject).expanduser().resolve()
    if not checkout.is_dir():
        return package
    assert package.is_relative_to(checkout), f"the nodes have the SDK from {package}, and not from {checkout}"
    return PurePosixPath(checkout)


@pytest.fixture(scope="session")
def slurm_pyxis_cluster_config(
    pyxis_container: dict[str, Any],
    local_registry: str,  # noqa: ARG001 - images are pushed there
    environment: EnvironmentFile,
) -> Iterator[dict[str, Any]]:
    """Return what slurm-sdk's ``Cluster`` is made from, and let it find host key and build client meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        # The SDK knows only the user's own known_hosts, and must not meet a host key that it does not know.
        patch.setenv("HOME", environment.login.home)
        # It builds with the `docker` or `podman` that comes first on PATH.
        patch.setenv("PATH", str(Path(environment.engine_client).parent), prepend=os.pathsep)
        for name, value in environment.engine_environment.items():
            patch.setenv(name, value)
        yield {**sdk_settings(environment), "job_base_dir": pyxis_container["job_base_dir"]}


@pytest.fixture
def slurm_pyxis_cluster(
    request: pytest.FixtureRequest,
    slurm_pyxis_cluster_config: dict[str, Any],
    environment: EnvironmentFile,
    cluster_shell: Shell,
    every_node: list[Node],
) -> Iterator["Cluster"]:
    """Connect the SDK to the login node: ``with slurm_pyxis_cluster: job = task()``."""
    from slurm import Cluster  # noqa: PLC0415 - the subject may be another package, which has no such module

    if environment.beyond_the_sdk:
        needs(f"jobs of slurm-sdk with {environment.beyond_the_sdk}")
    if not environment.site:  # the nodes have to have the SDK; where it is does not matter here
        request.getfixturevalue("sdk_on_pyxis_cluster")
    cluster = Cluster(**slurm_pyxis_cluster_config)
    yield cluster
    cluster.backend.close()
    remove_containers_below(every_node, cluster_shell, slurm_pyxis_cluster_config["job_base_dir"])


@pytest.fixture
def project(
    request: pytest.FixtureRequest, tmp_path: Path, environment: EnvironmentFile, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """Return a folder for the Dockerfile of a test's tasks, as the working directory."""
    if environment.site and not environment.job_image:
        needs("a registry")
    assert environment.job_image
    monkeypatch.chdir(tmp_path)
    return Project(
        folder=tmp_path,
        job_image=environment.job_image,
        module=request.module.__name__,
        source=Path(request.module.__file__).read_text(encoding="utf-8"),
        marker=uuid.uuid4().hex,
        platform=Arch(environment.arch).platform,
    )


# -- fixtures beyond the design's -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry_client(local_registry: str, environment: EnvironmentFile) -> RegistryClient:
    """Return what pushes to the registry and asks it what it holds, without an engine."""
    return RegistryClient.of_site(local_registry) if environment.site else RegistryClient(local_registry)


@pytest.fixture(scope="session")
def login_node(environment: EnvironmentFile) -> Node:
    """Return the login node's own container, for looking at what a user can't see."""
    return Node.of(environment)


@pytest.fixture(scope="session")
def every_node(environment: EnvironmentFile) -> list[Node]:
    """Return all nodes' own containers; the first is the login node."""
    return [Node.of(environment, index) for index in range(len(environment.nodes))]


@pytest.fixture(scope="session")
def tiny_image(registry_client: RegistryClient, login_node: Node, environment: EnvironmentFile) -> TinyImage:
    """Return a tiny image in the environment's registry, this test process' own."""
    marker = new_marker()
    image = busybox_image(login_node, marker, Arch(environment.arch))
    pushed = push(registry_client, f"tiny/{marker}", "1", image)
    return TinyImage(reference=pushed.reference, marker=marker, pushed=pushed, image=image)


# -- whether the design's fixtures are what it says: `pytest tests/integration/conftest_container_packaging.py` -------


@pytest.mark.starts_no_container
@pytest.mark.container_packaging
@pytest.mark.integration_test
def test_local_registry(
    local_registry: str, registry_client: RegistryClient, every_node: list[Node], environment: EnvironmentFile
) -> None:
    assert environment.site or re.fullmatch(r"localhost:\d+", local_registry)
    assert registry_client.ping() == http.HTTPStatus.OK
    for node in every_node:
        ask = f"curl --silent --show-error --output /dev/null --write-out '%{{http_code}}' {registry_client.root}"
        assert node.run(f"{ask} --noproxy '*'", user=node.user).stdout == ("401" if registry_client.auth else "200")


@pytest.mark.starts_no_container
@pytest.mark.container_packaging
@pytest.mark.integration_test
def test_pyxis_container(pyxis_container: dict[str, Any], login_node: Node, cluster_shell: Shell) -> None:
    assert pyxis_container.keys() == {"name", "hostname", "port", "username", "job_base_dir"}
    assert login_node.name == pyxis_container["name"]
    assert login_node.run("hostname").stdout == cluster_shell.run("hostname").stdout
    with socket.create_connection((pyxis_container["hostname"], pyxis_container["port"]), timeout=10) as connection:
        assert connection.recv(8).startswith(b"SSH-")
    home, name = os.path.split(pyxis_container["job_base_dir"])
    mine = f"mkdir {home}/{name}.test && rmdir {home}/{name}.test && whoami"
    assert cluster_shell.run(mine).stdout.strip() == pyxis_container["username"]


@pytest.mark.starts_no_container
@pytest.mark.container_packaging
@pytest.mark.integration_test
def test_sdk_on_pyxis_cluster(
    sdk_on_pyxis_cluster: PurePosixPath, environment: EnvironmentFile, cluster_shell: Shell
) -> None:
    cluster_shell.run(f"test -d {shlex.quote(str(sdk_on_pyxis_cluster))}")
    code = "from importlib.metadata import version; print(version('slurm-sdk'))"
    there = cluster_shell.run(shlex.join([environment.subject_python, "-c", code])).stdout.strip()
    assert there == metadata.version("slurm-sdk")


@pytest.mark.container_packaging
@pytest.mark.slow_integration_test
def test_slurm_pyxis_cluster(slurm_pyxis_cluster: "Cluster", local_registry: str, project: Project) -> None:
    """It is the SDK's own, and a task that names no registry is pushed to the local one."""
    from slurm import Cluster, task  # noqa: PLC0415 - see the fixture

    @task(time="00:10:00", mem="1G", packaging_dockerfile=project.dockerfile())
    def marker() -> str:
        from pathlib import Path  # noqa: PLC0415 - a task brings its imports along

        return Path("/etc/pyxis-matrix-test").read_text(encoding="utf-8").strip()

    assert isinstance(slurm_pyxis_cluster, Cluster)
    with slurm_pyxis_cluster:
        job = marker()
        assert job.wait(timeout=JOB_LIMIT), job.get_stderr()
        assert job.get_result() == project.marker
        assert enroot_form(f"{local_registry}/test/") in job.get_script()
