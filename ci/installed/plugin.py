"""A pytest plugin for the repositories of others: ``pytest --cell CELL`` runs their tests against a cluster of a cell.

``pytest --cluster USER@HOST`` does so on a cluster that exists, over SSH alone (docs/your-cluster.md).

It stands alone, and imports nothing of this project: that repository may have packages called ``ci`` and ``tests``.
The program is a child process per cell (`ci/cli/holding.py`), which starts the cluster, writes the result and takes it
down; one that exists it enters and leaves. pytest's main process owns these children (`owner.py` here); the workers of
pytest-xdist are told where the clusters are. Where no cell is asked for, nothing happens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
import shlex
import threading
from typing import Any
import uuid

import pytest

from .cells import AXES, FIXTURE, KEY, HeldCell, Tests

_TESTS = "pyxis_matrix_tests"
_OPTIONS: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("--cell", "run the tests that use a cluster on this cell (repeatable)", {"action": "append", "metavar": "CELL"}),
    ("--cell-group", "run them on all cells of this group (repeatable)", {"action": "append", "metavar": "GROUP"}),
    ("--cell-profile", "a site's settings, laid over the nodes", {"metavar": "NAME|DIR"}),
    ("--cell-options", "more options of `pyxis-matrix up`, as one word", {"metavar": "OPTIONS"}),
    ("--cell-keep", "leave the clusters up, and say how to enter them", {"action": "store_true"}),
    (
        "--cluster",
        "run them on a cluster that exists, over SSH; a file also says its partition, registry, ... (repeatable)",
        {"action": "append", "metavar": "USER@HOST|FILE"},
    ),
)
_BEGIN = "pyxis-matrix: the command begins"
"""What stands before it a login shell has printed by itself."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; few words of their own: beside another plugin with a ``--profile`` pytest would not start."""
    group = parser.getgroup("pyxis-matrix", "clusters of Slurm, Pyxis and enroot (pyxis-matrix)")
    for name, text, more in _OPTIONS:
        group.addoption(name, dest=f"{FIXTURE}{name}", help=text, **more)
    parser.addini(
        "cell", "the cells for tests that use a cluster, one a line; --cell, --cell-group, --cluster win", "linelist"
    )
    parser.addini("cell_options", "options of `pyxis-matrix up` for these cells", "args")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; where cells are asked for, also what deals with them.

    :raises pytest.UsageError: for options of cells beside ``--cluster``.
    """
    for axis, name in AXES.items():
        config.addinivalue_line("markers", f'{axis}(specifier): for cells with such a {name}, as in {axis}(">=1.2")')
    config.addinivalue_line("markers", "behaviour(id, ...): for cells on which it works, by pyxis-matrix' catalogue")
    asked = {name: config.getoption(f"{FIXTURE}{name}") for name, *_ in _OPTIONS}
    given = [name for name in asked if asked[name]]
    if "--cluster" in given[1:]:
        raise pytest.UsageError(f"--cluster cannot be used with {given[0]}: a cluster that exists is not started")
    told: Mapping[str, Any] = getattr(config, "workerinput", {}).get(KEY, {})
    tests = Tests([HeldCell(name, each) for name, each in told.items()])
    if not hasattr(config, "workerinput") and (given or config.getini("cell")):
        from .owner import Owner  # noqa: PLC0415 - only where it is asked for

        config.pluginmanager.register(Owner(config, tests, asked))
    elif not told:
        return
    config.pluginmanager.register(tests, _TESTS)


# -- what tests are given ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoginNode:
    """How to enter the login node over SSH, as the job user; of a cluster that exists, by the user's own ``~/.ssh``."""

    host: str
    """Also an alias of ``~/.ssh/config``, there."""
    port: int
    """0, there: that of ``~/.ssh/config``, else 22."""
    user: str
    key: str
    """Path of the private key; empty there."""
    known_hosts: str
    """Path of a file with the host key; empty there."""


@dataclass(frozen=True)
class ShellAnswer:
    """What a command on the login node came to."""

    command: str
    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        """Return all of it, for the message of a test that fails."""
        return f"$ {self.command}\n[exit status {self.status}]\n{self.stdout}\n--- stderr\n{self.stderr}"


@dataclass(frozen=True)
class ClusterShell:
    """The login node as the job user sees it: sbatch, srun, enroot. Each command has a connection of its own."""

    login: LoginNode
    before: str = ""
    """Shell text in front of every command: on a cluster that exists, what its jobs have to have, and their folder."""

    def run(self, command: str, *, limit: float = 300, stdin: str = "") -> ShellAnswer:
        """Run a command line, and fail the test with all that it wrote if its exit status is not 0."""
        answer = self.run_unchecked(command, limit=limit, stdin=stdin)
        if answer.status:
            pytest.fail(str(answer))
        return answer

    def run_unchecked(self, command: str, *, limit: float = 300, stdin: str = "") -> ShellAnswer:
        """Run a command line, whatever comes of it; ``TimeoutError`` after ``limit`` seconds."""
        import asyncio  # noqa: PLC0415 - all of this takes half a second to import
        from concurrent.futures import Future  # noqa: PLC0415

        future: Future[ShellAnswer] = Future()

        def work() -> None:
            try:
                future.set_result(asyncio.run(self._run(command, limit, stdin)))
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                future.set_exception(error)

        # The test itself may run in an event loop; and no executor, which Ctrl-C would have wait for the command's end.
        threading.Thread(target=work, daemon=True).start()
        return future.result()

    async def _run(self, command: str, limit: float, stdin: str) -> ShellAnswer:
        import asyncio  # noqa: PLC0415

        import asyncssh  # noqa: PLC0415

        to = self.login
        # Without the user's own ~/.ssh/config, where there is a key of the cell's.
        means: dict[str, Any] = {"client_keys": [to.key], "known_hosts": to.known_hosts, "agent_path": None}
        means = {**means, "config": None} if to.key else {"keepalive_interval": 30}
        feed: dict[str, Any] = {"input": stdin} if stdin else {"stdin": asyncssh.DEVNULL}
        # As in `ci.environment.ssh`: ~/.bashrc may print.
        script = f"echo '{_BEGIN}'\n{self.before}{command}"
        async with asyncssh.connect(to.host, port=to.port or (), username=to.user, **means) as connection:
            done = await asyncio.wait_for(connection.run(script, check=False, **feed), limit)
        stdout = str(done.stdout).split(f"{_BEGIN}\n", 1)[-1]
        return ShellAnswer(command, 255 if done.returncode is None else done.returncode, stdout, str(done.stderr))


@pytest.fixture(scope="session")
def pyxis_matrix_cell(request: pytest.FixtureRequest) -> HeldCell:
    """Return the cell that the test runs on; each test that has this fixture, by whatever other one, uses a cluster."""
    tests: Tests | None = request.config.pluginmanager.get_plugin(_TESTS)
    if tests is None:
        how = "pytest --cell CELL, or cell = CELL in its settings; or --cluster USER@HOST"
        pytest.skip(f"it needs a cluster, and no cell was asked for: {how}")
    if len(tests.cells) > 1 and not hasattr(request, "param"):
        pytest.fail("with several cells, a test has to have the fixtures of its cluster as arguments", pytrace=False)
    return next(cell for cell in tests.cells if cell.id == getattr(request, "param", cell.id))


@pytest.fixture(scope="session")
def login_node(pyxis_matrix_cell: HeldCell) -> LoginNode:
    """Return how to enter the login node: host, port, user, key, known_hosts."""
    login = pyxis_matrix_cell.environment["login"]
    return LoginNode(login["host"], login["port"], login["user"], login["private_key"], login["known_hosts"])


@pytest.fixture(scope="session")
def cluster_shell(pyxis_matrix_cell: HeldCell, login_node: LoginNode) -> ClusterShell:
    """Run commands on the login node as the job user: ``cluster_shell.run("srun hostname").stdout``."""
    if not pyxis_matrix_cell.site:
        return ClusterShell(login_node)
    # There it is in the one folder that goes at the end, with what jobs write and with the jobs that are in it.
    file = pyxis_matrix_cell.environment
    return ClusterShell(login_node, f"{file['login']['prelude']}cd {shlex.quote(file['folder'])} || exit 255\n")


@pytest.fixture(scope="session")
def registry(pyxis_matrix_cell: HeldCell) -> str:
    """Return the registry's address, the same on the host and on every node; in a cell "localhost:PORT"."""
    return pyxis_matrix_cell.fact("registry")


@pytest.fixture(scope="session")
def local_registry(pyxis_matrix_cell: HeldCell) -> str:
    """Return the registry's address, the same on the host and on every node; in a cell "localhost:PORT"."""
    return pyxis_matrix_cell.fact("registry")


@pytest.fixture(scope="session")
def job_image(pyxis_matrix_cell: HeldCell) -> str:
    """Return the reference of the job image, in the form that the cell's ``--container-image`` takes."""
    return pyxis_matrix_cell.fact("job-image")


@pytest.fixture(scope="session")
def pyxis_container(pyxis_matrix_cell: HeldCell) -> dict[str, Any]:
    """Return the login node: its container's name, how to enter it over SSH, and the folder for jobs on it.

    A cluster that exists has no container; the name is that of the node where jobs run.
    """
    facts, file = pyxis_matrix_cell.facts, pyxis_matrix_cell.environment
    return {
        "name": facts["container"] or file["nodes"][0],
        "hostname": facts["host"],
        "port": int(facts["port"]),
        "username": facts["user"],
        # Of this process alone: what the jobs of others do is not ours to clean up.
        "job_base_dir": f"{file.get('folder') or '/home/' + facts['user']}/sdk-{uuid.uuid4().hex[:12]}",
    }


@pytest.fixture(scope="session")
def sdk_on_pyxis_cluster(pyxis_matrix_cell: HeldCell, cluster_shell: ClusterShell) -> PurePosixPath:
    """Return where slurm-sdk is on the cluster; the test is skipped where it is not."""
    if pyxis_matrix_cell.site:
        pyxis_matrix_cell.needs("the subject on the nodes")
    file = pyxis_matrix_cell.environment
    words = [file["subject_python"], "-c", "import os, slurm; print(os.path.dirname(slurm.__file__))"]
    found = cluster_shell.run_unchecked(shlex.join(words))
    if found.status:
        pytest.skip(f"slurm-sdk is not on the nodes of {pyxis_matrix_cell.id}: their subject is {file['subject']}")
    return PurePosixPath(found.stdout.strip())


@pytest.fixture(scope="session")
def slurm_pyxis_cluster_config(
    pyxis_matrix_cell: HeldCell, pyxis_container: dict[str, Any], local_registry: str
) -> Iterator[dict[str, Any]]:
    """Return what slurm-sdk's ``Cluster`` is made from, and let it find host key and build client meanwhile."""
    facts = pyxis_matrix_cell.facts
    with pytest.MonkeyPatch.context() as patch:
        # slurm-sdk knows only the user's own known_hosts, and must not meet a host key that it does not know.
        for name, value in {**pyxis_matrix_cell.told["variables"], "HOME": facts["home"]}.items():
            patch.setenv(name, value)
        own = {name: pyxis_container[name] for name in ("hostname", "port", "username", "job_base_dir")}
        yield {**pyxis_matrix_cell.told["sdk"], **own, "default_packaging_registry": f"{local_registry}/test/"}


@pytest.fixture
def slurm_pyxis_cluster(
    request: pytest.FixtureRequest, pyxis_matrix_cell: HeldCell, slurm_pyxis_cluster_config: dict[str, Any]
) -> Iterator[Any]:
    """Connect slurm-sdk to the login node: ``with slurm_pyxis_cluster: job = task()``."""
    if not pyxis_matrix_cell.site:
        request.getfixturevalue("sdk_on_pyxis_cluster")  # the nodes have to have it; there, only its images have it
    elif beyond := pyxis_matrix_cell.environment["beyond_the_sdk"]:
        pyxis_matrix_cell.needs(f"jobs of slurm-sdk with {beyond}")
    try:
        from slurm import Cluster  # noqa: PLC0415
    except ImportError as error:
        pytest.skip(f"slurm-sdk is not installed beside pytest ({error}): pip install slurm-sdk")
    cluster = Cluster(**slurm_pyxis_cluster_config)
    yield cluster
    cluster.backend.close()
