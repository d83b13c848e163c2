"""Fixtures of the container suites; loaded by their sessions with ``-p``, never by the legacy suite.

The environment was started by ``python -m ci run``; everything here only connects to it. Where nobody has started one
(plain ``pytest FILE``), this plugin starts exactly one in pytest's main process, also under ``pytest -n``.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
import os
from pathlib import Path
from typing import TYPE_CHECKING
import uuid

import pytest

from ci import environment_file, paths
from ci.artefacts import sources
from ci.environment.plan import plan_environment
from ci.environment_file import EnvironmentFile
from ci.errors import PyxisMatrixError, SelectionError
from ci.images import subject
from ci.images.plan import JOB_PYTHON
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import KnownFailure, Matrix
from ci.options import Options
from ci.session import running
from ci.session.handover import additions
from ci.terminal import signals
from tests.integration.advanced_support import every_node, sdk_image, sdk_jobs  # noqa: F401 - fixtures
from tests.integration.container_support import LISTING_FAILED, Node, Registry, Shell, SshConfig, shell
from tests.integration.expectations import holds
from tests.integration.oci import tiny_image  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from slurm import Cluster

_STARTED = pytest.StashKey[ExitStack]()
KNOWN = pytest.StashKey[KnownFailure]()
_TASKS = Path(__file__).with_name("container_tasks.py")


# -- the environment: connected to, or started once -----------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Keep the subject's own untidiness (pipes that it leaves to the garbage collector) from failing its tests."""
    config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")


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
        launched = stack.enter_context(running.opened(plan))
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the known failures of this cell: strictly, so that one which starts to pass turns the suite red.

    What enroot 3 does to a test in passing is no failure of the test: that one is run again.
    """
    if not os.environ.get(environment_file.VARIABLE):
        return
    rows = loading.load()
    cell = rows.cell(environment_file.current().cell)
    known = rows.known_failures(cell)
    if holds(cell, enroot="<4.0"):
        for item in items:
            item.add_marker(pytest.mark.flaky(reruns=4, only_rerun=[LISTING_FAILED]))
    for item in items:
        for failure in known:
            if failure.matches(cell, item.nodeid):
                reason = f"{failure.reason} ({failure.issue})" if failure.issue else failure.reason
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
                item.stash[KNOWN] = failure


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the last to see what pytest makes of a known failure
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a known failure red that is another failure: in a fixture, or without the words that the entry names."""
    report = yield
    failure = item.stash.get(KNOWN, None)
    if failure and report.outcome == "skipped" and call.excinfo and hasattr(report, "wasxfail"):
        said = "\n".join([str(call.excinfo.value), *(text for _, text in report.sections)])
        if report.when != "call" or failure.says not in said:
            del report.wasxfail
            report.outcome = "failed"
            report.longrepr = (
                f"this is not the known failure of {failure.where} in matrix.toml ({failure.reason}): "
                f"it has to fail in the test itself and say {failure.says!r}\n\n{call.excinfo.getrepr()}"
            )
    return report


def _cell_to_start(rows: Matrix, name: str | None) -> Cell:
    """Return the cell asked for, else one of the default group that can be had: a real one before an embedded."""
    if name:
        return rows.cell(name, Arch.host())
    where = sources.Sources.from_environment()
    real_first = sorted(rows.cells(None, Arch.host()), key=lambda cell: cell.runtime is not Runtime.NVIDIA)
    found = next((cell for cell in real_first if sources.missing(cell, where) is None), None)
    if found is None:
        raise SelectionError("no cell of the default group can be had here", next_step="name one with --cell CELL")
    return found


# -- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def environment() -> EnvironmentFile:
    """Return the environment that is up."""
    return environment_file.current()


@pytest.fixture(scope="session")
def cell(environment: EnvironmentFile) -> Cell:
    """Return the cell that is tested; expectations with version specifiers are evaluated against it."""
    return loading.load().cell(environment.cell)


@pytest.fixture(scope="session")
def local_registry(environment: EnvironmentFile) -> Registry:
    """Return the registry that answers under one address on the host and on every node."""
    return Registry.of(environment)


@pytest.fixture(scope="session")
def pyxis_container(environment: EnvironmentFile) -> Node:
    """Return the login node's own container, for looking at what a user can't see."""
    return Node.of(environment)


@pytest.fixture(scope="session")
def slurm_pyxis_cluster_config(environment: EnvironmentFile) -> SshConfig:
    """Return how to enter the login node."""
    return SshConfig.of(environment)


@pytest.fixture(scope="session")
def slurm_pyxis_cluster(environment: EnvironmentFile) -> Iterator[Shell]:
    """Return a shell on the login node, as the job user: srun, sbatch, enroot."""
    with shell(environment) as opened:
        yield opened


@pytest.fixture(scope="session")
def sdk_on_pyxis_cluster(slurm_pyxis_cluster_config: SshConfig, environment: EnvironmentFile) -> Iterator["Cluster"]:
    """Connect the SDK to the login node."""
    from slurm import Cluster  # noqa: PLC0415 - the subject may be another package, which has no such module

    with pytest.MonkeyPatch.context() as patch:
        # The SDK knows only the user's own known_hosts, and must not meet a host key that it does not know.
        patch.setenv("HOME", environment.login.home)
        with Cluster(
            backend_type="ssh",
            hostname=slurm_pyxis_cluster_config.host,
            port=slurm_pyxis_cluster_config.port,
            username=slurm_pyxis_cluster_config.user,
            key_filename=slurm_pyxis_cluster_config.private_key,
            allow_agent=False,
            look_for_keys=False,
            host_key_policy="reject",
            job_base_dir=f"/home/{environment.login.user}/sdk-{uuid.uuid4().hex[:12]}",
        ) as cluster:
            yield cluster


@pytest.fixture
def image_context(tmp_path: Path, environment: EnvironmentFile) -> Callable[..., Path]:
    """Return a function that makes a build context for a test image, derived from the run's job image.

    Its arguments are further lines of the Containerfile; the tasks of this suite are always in the image.
    """

    def make(*lines: str, wheels: Path | None = None) -> Path:
        assert environment.job_image
        package = tmp_path / "tests" / "integration"
        package.mkdir(parents=True)
        (package / _TASKS.name).write_bytes(_TASKS.read_bytes())
        if wheels:
            (tmp_path / "wheels").mkdir()
            for wheel in wheels.glob("*.whl"):
                (tmp_path / "wheels" / wheel.name).write_bytes(wheel.read_bytes())
        base = [f"FROM {environment.job_image}", "COPY tests /opt/tasks/tests", "ENV PYTHONPATH=/opt/tasks"]
        (tmp_path / "Containerfile").write_text("\n".join([*base, *lines]) + "\n", encoding="utf-8")
        return tmp_path

    return make


@pytest.fixture(scope="session")
def built_from(environment: EnvironmentFile, local_registry: Registry) -> Callable[..., dict[str, object]]:
    """Return a function that makes the SDK's packaging configuration: build this context, push it under this name."""

    def configure(context: Path, name: str, **more: object) -> dict[str, object]:
        return {
            "type": "container",
            "dockerfile": str(context / "Containerfile"),
            "context": str(context),
            "registry": f"{local_registry.address}/sdk",
            "name": name,
            "platform": Arch(environment.arch).platform,
            "runtime": environment.engine_client,
            "tls_verify": False,
            **more,
        }

    return configure


@pytest.fixture(scope="session")
def numpy_wheels(environment: EnvironmentFile) -> Path:
    """Return a folder with the wheels that numpy needs in the job image, made on the host."""
    return subject.wheelhouse(["numpy"], python=JOB_PYTHON, arch=Arch(environment.arch)).path
