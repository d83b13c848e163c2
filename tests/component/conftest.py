"""Component tests use the real thing: subprocesses, sockets, and the container engine.

Those that need an engine fail where none answers, with the engine's own message: `ci/bootstrap` sets one up, and a skip
would let a broken set-up pass unseen. They build the legacy cell's images once, under its content hash, so a second run
builds nothing. Each uses a run id of its own and looks at nothing else, so they can run beside anybody's environments.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import date
import gzip
import hashlib
from pathlib import Path
import secrets

import docker
import pytest

from ci import paths
from ci.artefacts import download
from ci.artefacts.pins import Pin
from ci.artefacts.sources import Sources
from ci.engine.connection import Engine, connect
from ci.engine.labels import LABEL_RUN
from ci.environment import launching, registry
from ci.environment.launching import Environment
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.environment.service import Place
from ci.images import plan
from ci.images.building import Builder, BuiltCell
from ci.matrix import loading
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.options import Options
from ci.terminal.console import Timings
from tests.component.github_stand_in import CAPS, DEB, ENROOT, PYXIS, TAR, GitHub, github
from tests.component.weather import LEGACY, left_behind
from tests.support.heeding import signals_are_heeded
from tests.support.tag_archives import COMMIT

__all__ = ["signals_are_heeded"]
Launch = Callable[..., AbstractContextManager[Environment]]

Serve = Callable[..., registry.Registry]
"""Starts a registry; takes the port that it is to have."""

SUITE = "component"


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Return the machine's engine, or fail."""
    return connect()


@pytest.fixture(scope="session")
def api(engine: Engine) -> docker.DockerClient:
    """Return the connection to the engine."""
    return engine.api


@pytest.fixture(scope="session")
def rows() -> Matrix:
    """Return the repository's matrix."""
    return loading.load()


@pytest.fixture(scope="session")
def cell(rows: Matrix) -> Cell:
    """Return the legacy cell of this machine."""
    return rows.cell(LEGACY)


@pytest.fixture(scope="session")
def builder(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Return what builds images."""
    return Builder(engine, Sources.from_environment(), logs=tmp_path_factory.mktemp("build-logs"))


@pytest.fixture(scope="session")
def images(builder: Builder, cell: Cell, rows: Matrix) -> BuiltCell:
    """Return the images of the legacy cell."""
    return builder.build(plan_environment(cell, rows, Options()).images)


def new_run() -> str:
    """Return a run id that no other test has."""
    return f"{paths.new_run_id()}-{secrets.token_hex(2)}"


@pytest.fixture
def run(engine: Engine) -> Iterator[str]:
    """Return a run id of the test's own, and clear up behind a test that failed."""
    run_id = new_run()
    yield run_id
    engine.reap({LABEL_RUN: run_id})


@pytest.fixture(scope="session")
def launcher(engine: Engine, cell: Cell, rows: Matrix, images: BuiltCell) -> Launch:
    """Return a function that launches the legacy cell for a run, with a folder for results and more `Options`."""

    def launch(run: str, folder: Path, **options: object) -> AbstractContextManager[Environment]:
        asked = Options(run=run, name=SUITE, results=folder, **options)  # type: ignore[arg-type]
        planned = plan_environment(cell, rows, asked)
        return launching.launch(engine, planned, images, timings=Timings())

    return launch


@pytest.fixture
def launch(launcher: Launch, run: str, tmp_path: Path) -> Launch:
    """Return a function that launches the legacy cell for the test's own run."""
    return lambda **options: launcher(run, tmp_path, **options)


@pytest.fixture
def logs(run: str, tmp_path: Path) -> Path:
    """Return where the daemons' logs of the test's own run are kept."""
    return tmp_path / run / LEGACY / SUITE / "logs"


@pytest.fixture
def nothing_left(api: docker.DockerClient, run: str) -> Callable[[], None]:
    """Return a check that nothing of the test's run is left: no object of the engine, no key."""

    def check() -> None:
        assert left_behind(api, run) == []
        assert not launching.state_dir(run, LEGACY).exists()

    return check


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Return a stack that is closed at the end of the test."""
    with ExitStack() as opened:
        yield opened


# -- a registry without a cell ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry_image(builder: Builder, cell: Cell) -> str:
    """Return the name of the registry's image."""
    return builder.ensure(plan.registry(cell.arch)).tag


@pytest.fixture
def planned(cell: Cell, rows: Matrix, run: str) -> EnvironmentPlan:
    """Return the legacy cell's plan for the test's own run."""
    return plan_environment(cell, rows, Options(run=run))


@pytest.fixture
def place(planned: EnvironmentPlan, engine: Engine, stack: ExitStack) -> Place:
    """Return a place whose network is there."""
    there = Place(engine=engine, stack=stack, run=planned.options.run, cell=LEGACY, network=planned.names.network)
    there.create_network()
    return there


@pytest.fixture
def serve(place: Place, registry_image: str, planned: EnvironmentPlan) -> Serve:
    """Return a function that starts a registry."""
    return lambda port=0: registry.start(place, registry.planned(registry_image, planned.names.registry, port=port))


# -- a stand-in for GitHub ---------------------------------------------------------------------------------------------


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GitHub]:
    """Serve a real cell's files until the test ends, with nothing remembered from the test before."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    download.probe.cache_clear()
    with github(tmp_path) as served:
        monkeypatch.setenv("SSL_CERT_FILE", str(served.bundle))
        served.publish(ENROOT.path, DEB)
        served.publish(CAPS.path, DEB + b"caps")
        served.publish(PYXIS.path, gzip.compress(TAR))
        yield served


@pytest.fixture
def told() -> list[str]:
    """Collect what the person who waits is told."""
    return []


@pytest.fixture
def sources(upstream: GitHub, told: list[str], tmp_path: Path) -> Sources:
    """Return an empty cache and pins as they are committed: of the archives of tags only."""
    sha256 = hashlib.sha256(TAR).hexdigest()
    pin = Pin(path=PYXIS.path, sha256=sha256, size=len(TAR), commit=COMMIT, date=date(2026, 11, 25))
    return Sources(
        cache=tmp_path / "cache",
        upstream=upstream.address,
        pins={PYXIS.path: pin},
        first_seen=tmp_path / "config" / "first-seen.toml",
        tell=told.append,
    )
