"""The soak sees on a real machine what is there, ascribes it, and makes a round that leaves nothing."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import subprocess
import sys

import docker

from ci.engine.connection import Engine
from ci.environment import launching
from tests.component.conftest import Launch
from tests.component.weather import LEGACY, REPOSITORY
from tests.soak.leaks import Kind, Lookout, left, settled
from tests.soak.rounds import ports_of


def test_a_cell_that_is_up_is_seen_and_one_that_is_down_has_left_nothing(
    engine: Engine, launch: Launch, run: str, tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    ours, others = (Lookout(engine=engine, run=it, temporary=tmp_path / "none") for it in (run, "another"))
    before = ours.look()
    with launch() as launched:
        ports = ports_of(launched.file)
        names = launched.plan.names
        found = left(before, ours.look(ports))
        assert found[Kind.CONTAINERS] == [*names.nodes]
        assert found[Kind.NETWORKS] == [names.network]
        assert found[Kind.VOLUMES] == [names.home_volume]
        assert found[Kind.KEYS] == [run]
        assert Kind.PORTS not in found  # it is that of a container, which is told already
        assert not {Kind.CONTAINERS, Kind.NETWORKS, Kind.VOLUMES, Kind.KEYS} & left(before, others.look(ports)).keys()
    nothing_left()
    assert settled(before, lambda: ours.look(ports), limit=10.0) == {}


def test_what_nobody_has_labelled_counts(engine: Engine, api: docker.DockerClient, tmp_path: Path) -> None:
    lookout = Lookout(engine=engine, run="none", temporary=tmp_path)
    before = lookout.look()
    volume = api.volumes.create()
    try:
        assert volume.name in left(before, lookout.look())[Kind.VOLUMES]
    finally:
        volume.remove()


def test_a_process_that_goes_on_counts_and_so_do_its_files(engine: Engine, tmp_path: Path) -> None:
    lookout = Lookout(engine=engine, run="none", temporary=tmp_path)
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        try:
            (tmp_path / "file").touch()
            seen = lookout.look()
        finally:
            process.kill()
    assert seen[Kind.PROCESSES] >= {f"{process.pid}: sleep 60"}
    assert seen[Kind.FILES] == {"file"}


def test_one_round_by_the_commands_leaves_nothing(run: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak", "--times", "1", "--run", run, "--results", str(tmp_path), LEGACY]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 succeeded (100.0 %)" in done.stdout
    kept = json.loads((tmp_path / run / LEGACY / "soak/soak.json").read_text(encoding="utf-8"))
    (made,) = kept["rounds"]
    assert (set(made["seconds"]), made["problem"], made["left"]) == ({"up", "job", "down"}, "", {})
    assert not launching.state_dir(f"{run}-1", LEGACY).exists()
