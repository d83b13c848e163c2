"""The soak sees on a real machine what is there, ascribes it, and makes a round that leaves nothing."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import socket
import subprocess
import sys

import docker

from ci.engine.connection import Engine
from ci.environment import launching
from tests.component.conftest import Launch
from tests.component.weather import LEGACY, REPOSITORY
from tests.soak.leaks import Lookout, listening, settled
from tests.soak.rounds import ports_of


def test_a_cell_that_is_up_is_seen_and_one_that_is_down_has_left_nothing(
    engine: Engine, launch: Launch, run: str, tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    ours, others = (Lookout(engine=engine, run=it, temporary=tmp_path / "none") for it in (run, "another"))
    with launch() as launched:
        ports, volumes = ports_of(launched.file), ours.volumes()
        names = launched.plan.names
        found = ours.left(volumes, ports)
        labelled = [*names.nodes, names.network, names.home_volume]
        assert found == {"containers, networks, volumes": sorted(labelled), "folders of keys": [run]}
        assert others.left(volumes, ports).keys() <= {"volumes without a label"}
    nothing_left()
    assert settled(lambda: ours.left(volumes, ports), limit=10.0) == {}


def test_a_volume_that_nobody_has_labelled_counts(engine: Engine, api: docker.DockerClient, tmp_path: Path) -> None:
    lookout = Lookout(engine=engine, run="none", temporary=tmp_path)
    volume = api.volumes.create()
    try:
        assert lookout.left([volume.name]) == {"volumes without a label": [volume.name]}
    finally:
        volume.remove()


def test_a_process_that_goes_on_counts_and_so_do_its_files(engine: Engine, tmp_path: Path) -> None:
    lookout = Lookout(engine=engine, run="none", temporary=tmp_path)
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        try:
            (tmp_path / "file").touch()
            left = lookout.left()
        finally:
            process.kill()
    assert left == {"processes": [f"{process.pid}: sleep 60"], "temporary files": ["file"]}


def test_a_port_that_is_listened_on_counts_though_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in listening()
    assert port not in listening()


def test_one_round_by_the_commands_leaves_nothing(run: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak", "--times", "1", "--run", run, "--results", str(tmp_path), LEGACY]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 succeeded (100.0 %)" in done.stdout
    kept = json.loads((tmp_path / run / LEGACY / "soak/soak.json").read_text(encoding="utf-8"))
    (made,) = kept["rounds"]
    assert (set(made["seconds"]), made["problem"], made["left"]) == ({"up", "job", "down"}, "", {})
    assert not launching.state_dir(f"{run}-1", LEGACY).exists()
