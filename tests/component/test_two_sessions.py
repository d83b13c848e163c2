"""Two sessions of one run and cell on one engine, from two caches: neither takes down what the other has made."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
import secrets
import subprocess
import sys

import docker
import pytest

from ci import paths
from ci.engine.connection import Engine
from ci.environment import base_images, ssh
from ci.environment.launching import Environment
from ci.environment.service import Place
from ci.errors import LaunchError
from ci.images.building import BuiltCell
from tests.component.conftest import Launch
from tests.component.weather import LEGACY, REPOSITORY, left_behind

Elsewhere = Callable[[], None]


@pytest.fixture
def up(launch: Launch, stack: ExitStack) -> Environment:
    """Return a cluster that somebody has up."""
    return stack.enter_context(launch())


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Elsewhere:
    """Return a function after which this process has another cache, as somebody else has."""
    return lambda: monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache-of-another"))


def still_works(up: Environment) -> bool:
    """Tell whether a cluster still runs jobs."""
    with ssh.connect(up.file.login) as shell:
        return shell.run("srun hostname").stdout.split() == ["n1"]


@pytest.mark.parametrize("asked", [True, False], ids=["later", "at the same moment"])
def test_a_session_that_is_refused_leaves_the_cluster_of_another_alone(  # noqa: PLR0913 - fixtures
    *,
    up: Environment,
    launch: Launch,
    elsewhere: Elsewhere,
    api: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
    run: str,
    asked: bool,
) -> None:
    there = left_behind(api, run)
    elsewhere()
    if not asked:  # it has asked before the other one had made anything
        monkeypatch.setattr(Engine, "left", lambda *_: [])
    with pytest.raises(LaunchError) as caught, launch():
        pytest.fail("there were two of them")
    assert left_behind(api, run) == there
    if asked:
        assert f"already up in run {run}" in str(caught.value)
        assert up.file.containers[0] in str(caught.value)
        assert f"ci -- down {run}" in str(caught.value)
    assert still_works(up)


def test_a_name_that_another_session_has_taken_is_refused_whatever_it_names(
    engine: Engine, images: BuiltCell, run: str, api: docker.DockerClient
) -> None:
    """Network and volume: the engine itself makes a second network, and hands out the volume that is there."""
    with ExitStack() as first:
        mine = Place(engine=engine, stack=first, run=run, cell=LEGACY, network=f"pyxis-matrix-{run}")
        mine.create_network()
        mine.create_volume(f"pyxis-matrix-{run}-home")
        name = f"theirs-{secrets.token_hex(4)}:1"
        base_images.name_job_image(mine, images.node.tag, (name,), None)
        there = left_behind(api, run)
        with ExitStack() as second:
            theirs = Place(engine=engine, stack=second, run=run, cell=LEGACY, network=mine.network)
            with pytest.raises(LaunchError, match=mine.network):
                theirs.create_network()
            with pytest.raises(LaunchError, match=f"{mine.network}-home"):
                theirs.create_volume(f"pyxis-matrix-{run}-home")
            base_images.name_job_image(theirs, images.node.tag, (name,), None)
            # Both built it at the same moment, and the first one's came last.
            base_images.name_job_image(mine, images.node.tag, (name,), None)
        assert left_behind(api, run) == there
        assert engine.image_exists(name)
    assert left_behind(api, run) == []
    assert not engine.image_exists(name)


def test_the_reaper_of_a_killed_session_takes_nothing_of_another(
    engine: Engine, run: str, api: docker.DockerClient, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        places = [Place(engine=engine, stack=stack, run=run, cell=LEGACY, network=f"{run}-{it}") for it in "ab"]
        for place in places:
            place.create_network()
            place.create_volume(f"{place.network}-home")
        state = tmp_path / "state"
        state.mkdir()
        subprocess.run(
            [sys.executable, "-m", "ci.environment.reaper", places[0].session, str(state)],
            stdin=subprocess.DEVNULL,  # as the pipe of a run that is dead
            check=True,
            cwd=REPOSITORY,
        )
        assert left_behind(api, run) == [f"{run}-b", f"{run}-b-home"]
        assert not state.exists()


def test_what_is_down_by_its_runs_id_is_down_whoever_made_it(
    engine: Engine, run: str, api: docker.DockerClient
) -> None:
    """`down RUN` is told by a person, and takes all of the run."""
    with ExitStack() as stack:
        for cell in (LEGACY, f"{LEGACY}-b"):
            place = Place(engine=engine, stack=stack, run=run, cell=cell, network=f"{run}-{cell}")
            place.create_network()
        other = Place(engine=engine, stack=stack, run=f"{run}-2", cell=LEGACY, network=f"{run}-2")
        other.create_network()
        done = subprocess.run(
            [sys.executable, "-m", "ci", "down", run], capture_output=True, text=True, check=False, cwd=REPOSITORY
        )
        assert done.returncode == 0, done.stderr
        assert left_behind(api, run) == []
        assert left_behind(api, f"{run}-2") == [f"{run}-2"]
        unknown = subprocess.run(
            [sys.executable, "-m", "ci", "down", run], capture_output=True, text=True, check=False, cwd=REPOSITORY
        )
        assert unknown.returncode == 11, unknown.stderr
