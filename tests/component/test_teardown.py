"""Taking down what an engine does not want to give up: never a good end, and the message says what is left."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
import shutil
import tempfile

import docker
import pytest

from ci.engine.connection import Engine
from ci.environment import launching
from ci.errors import TeardownError
from ci.images.building import BuiltCell
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from tests.component.weather import LEGACY, Process, left_behind
from tests.support.engine_proxy import EngineProxy, before

Refusing = Callable[[str], EngineProxy]
Through = Callable[..., Process]


@pytest.fixture
def refusing(engine: Engine, stack: ExitStack) -> Refusing:
    """Return a function that makes a proxy, which refuses to remove objects of a kind (``containers``)."""

    def start(kind: str) -> EngineProxy:
        # A socket's path has at most 107 characters.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyxis-matrix-")))
        return stack.enter_context(
            before(engine.found.url, folder, lambda method, path: method == "DELETE" and f"/{kind}/" in path)
        )

    return start


@pytest.fixture
def through(run: str, tmp_path: Path, images: BuiltCell) -> Through:
    """Return a function that runs a command against the legacy cell, with a proxy in the engine's place."""
    assert images.node

    def started(proxy: EngineProxy, *command: str) -> Process:
        return Process.ci(
            *("run", LEGACY, "--run", run, "--results", str(tmp_path), "--", *command), DOCKER_HOST=proxy.url
        )

    return started


@pytest.fixture
def result(run: str, tmp_path: Path) -> Callable[[], Result]:
    """Return a function that reads the result."""
    return lambda: store.load(tmp_path / run / LEGACY / "command" / store.RESULT_FILE)


@pytest.mark.parametrize("forgotten", [False, True], ids=["its folder is there", "its folder is gone"])
@pytest.mark.parametrize("kind", ["containers", "networks", "volumes"])
def test_what_the_engine_refuses_to_remove_is_an_error_and_goes_by_the_runs_id(  # noqa: PLR0913 - fixtures
    *,
    refusing: Refusing,
    through: Through,
    result: Callable[[], Result],
    run: str,
    api: docker.DockerClient,
    nothing_left: Callable[[], None],
    kind: str,
    forgotten: bool,
) -> None:
    proxy = refusing(kind)
    process = through(proxy, "true")
    assert process.end() == TeardownError.exit_code, process.output
    assert proxy.refused
    left = left_behind(api, run)
    assert left
    for said in (process.output, result().reason):
        assert all(name in said for name in left)
        assert f"ci -- down {run}" in said
        assert "--all" not in said
    assert (result().outcome, result().exit_code) == (Outcome.ERROR, TeardownError.exit_code)

    if forgotten:
        shutil.rmtree(launching.state_dir(run, LEGACY).parent, ignore_errors=True)
    again = Process.ci("down", run, DOCKER_HOST=proxy.url)
    assert again.end() == TeardownError.exit_code, again.output
    assert all(name in again.output for name in left)
    down = Process.ci("down", run)
    assert down.end() == 0, down.output
    nothing_left()


def test_what_an_engine_keeps_that_is_gone_goes_by_the_runs_id_when_it_is_back(
    *, refusing: Refusing, through: Through, result: Callable[[], Result], run: str, nothing_left: Callable[[], None]
) -> None:
    proxy = refusing("nothing")
    go = Path(proxy.url.removeprefix("unix://")).with_name("go")
    process = through(proxy, "/bin/sh", "-c", f"echo AT WORK; until test -e {go}; do sleep 0.1; done")
    process.wait_for_output("AT WORK\n")
    proxy.close()
    go.touch()
    assert process.end() == TeardownError.exit_code, process.output
    assert "Traceback" not in process.output
    for said in (process.output, result().reason):
        assert f"pyxis-matrix-{run}" in said
        assert f"ci -- down {run}" in said
    assert result().outcome is Outcome.ERROR
    down = Process.ci("down", run)
    assert down.end() == 0, down.output
    nothing_left()


def test_what_failed_stays_failed_and_says_what_is_left(
    refusing: Refusing, through: Through, result: Callable[[], Result], run: str, api: docker.DockerClient
) -> None:
    process = through(refusing("networks"), "false")
    assert process.end() == 1, process.output
    assert all(name in process.output for name in left_behind(api, run))
    assert f"ci -- down {run}" in process.output
    assert (result().outcome, result().exit_code) == (Outcome.FAILED, 1)
    assert Process.ci("down", run).end() == 0
