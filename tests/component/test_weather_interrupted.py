"""Ctrl-C, SIGTERM and SIGKILL in each phase of a run: nothing is left, and the exit code says what happened.

Every run is a process of its own; its phase is told by what it writes, so nothing here depends on how fast it is.
"""

from collections.abc import Callable
import os
from pathlib import Path
import signal
import sys

import docker
import pytest

from ci.engine.connection import Engine
from ci.engine.labels import LABEL_RUN, labels
from ci.environment import launching
from ci.images.building import BuiltCell
from ci.options.inputs import own_suite
from ci.record import store
from ci.record.outcomes import Outcome
from tests.component.conftest import Launch
from tests.component.weather import LEGACY, Process, containers_of, left_behind, until

SIGNALS = pytest.mark.parametrize(
    ("send", "exit_code"),
    [
        pytest.param(Process.press_ctrl_c, 128 + signal.SIGINT, id="ctrl-c"),
        pytest.param(Process.terminate, 128 + signal.SIGTERM, id="sigterm"),
    ],
)
Start = Callable[..., Process]


@pytest.fixture
def start(run: str, tmp_path: Path, images: BuiltCell) -> Start:
    """Return a function that starts a command against the legacy cell, whose images are there."""
    assert images.node

    def started(*command: str, **environ: str) -> Process:
        return Process.ci("run", LEGACY, "--run", run, "--results", str(tmp_path), "--", *command, **environ)

    return started


@pytest.fixture
def interrupted(run: str, tmp_path: Path, nothing_left: Callable[[], None]) -> Callable[[Process, int], None]:
    """Return a check that a process ended as interrupted, left nothing, and said so in its result."""

    def check(process: Process, exit_code: int) -> None:
        assert process.end() == exit_code, process.output
        assert "Traceback" not in process.output
        nothing_left()
        result = store.load(tmp_path / run / LEGACY / "command" / store.RESULT_FILE)
        assert (result.outcome, result.exit_code) == (Outcome.INTERRUPTED, exit_code)

    return check


@SIGNALS
def test_while_an_image_is_made(
    start: Start,
    interrupted: Callable[[Process, int], None],
    tmp_path: Path,
    send: Callable[[Process], None],
    exit_code: int,
) -> None:
    pid = tmp_path / "pid"
    endless = tmp_path / "bin" / "mmdebstrap"
    endless.parent.mkdir()
    endless.write_text(f"#!/bin/sh\necho $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600\n", encoding="utf-8")
    endless.chmod(0o755)
    # From an address of its own, the base image is another one than is there; a real one is never made.
    process = start(
        *("sleep", "600"),
        PATH=f"{endless.parent}{os.pathsep}{os.environ['PATH']}",
        PYXIS_MATRIX_DEBIAN_MIRROR=f"http://127.0.0.1:9/{tmp_path.name}",
    )
    until("the image being made", pid.exists)
    send(process)
    interrupted(process, exit_code)
    until("the end of the program that made it", lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())


@SIGNALS
@pytest.mark.parametrize("sign", ["launching", "waiting until usable", "$ sleep 600"], ids=["launch", "ready", "tests"])
def test_while_it_is_in_a_phase(
    start: Start,
    interrupted: Callable[[Process, int], None],
    sign: str,
    send: Callable[[Process], None],
    exit_code: int,
) -> None:
    process = start("sleep", "600")
    process.wait_for_output(sign)
    send(process)
    interrupted(process, exit_code)


@SIGNALS
def test_while_it_is_taken_down(
    start: Start, interrupted: Callable[[Process, int], None], send: Callable[[Process], None], exit_code: int
) -> None:
    process = start("true")
    process.wait_for_output("taking down")
    send(process)
    interrupted(process, exit_code)


def test_impatience_does_not_leave_half_of_it(start: Start, interrupted: Callable[[Process, int], None]) -> None:
    process = start("sleep", "600")
    process.wait_for_output("$ sleep 600")
    process.press_ctrl_c()
    process.wait_for_output("taking down")
    for _ in range(3):
        process.press_ctrl_c()
        process.terminate()
    interrupted(process, 130)


@pytest.mark.parametrize("sign", ["launching", "$ sleep 600"])
def test_a_killed_run_is_cleared_and_its_id_is_free_again(
    start: Start, run: str, api: docker.DockerClient, nothing_left: Callable[[], None], sign: str
) -> None:
    process = start("sleep", "600")
    process.wait_for_output(sign)
    process.kill()
    assert process.end() == -signal.SIGKILL
    until("clearing up behind it", lambda: not left_behind(api, run) and not launching.state_dir(run, LEGACY).exists())
    again = start("true")
    assert again.end() == 0, again.output
    assert "taking down" in again.output
    nothing_left()


def test_leftovers_of_one_run_neither_hinder_another_nor_go_with_it(
    engine: Engine, run: str, launch: Launch, images: BuiltCell
) -> None:
    """What a killed run left whose reaper was killed too, for example by switching the machine off."""
    other = f"{run}-left"
    name = f"pyxis-matrix-{other}"
    engine.api.networks.create(name, labels=labels(other, LEGACY, "network"))
    engine.api.volumes.create(name, labels=labels(other, LEGACY, "volume"))
    try:
        with launch():
            engine.api.containers.create(
                images.node.tag,
                name=name,
                network=name,
                labels=labels(other, LEGACY, "controller"),
            )
        assert left_behind(engine.api, run) == []
        assert containers_of(engine.api, other) == [name]
        assert engine.reap({LABEL_RUN: other}) == [name, name, name]
        assert left_behind(engine.api, other) == []
    finally:
        engine.reap({LABEL_RUN: other})


@SIGNALS
def test_through_nox(
    *,
    run: str,
    tmp_path: Path,
    images: BuiltCell,
    api: docker.DockerClient,
    send: Callable[[Process], None],
    exit_code: int,
) -> None:
    """By default nox gives a child 0.3 s after Ctrl-C and then kills it; on SIGTERM it ends at once by itself."""
    assert images.node
    suite = tmp_path / "test_of_somebody_else.py"
    suite.write_text(
        "import time\ndef test_that_ended(): pass\n"
        "def test_that_takes_long():\n    print('AT WORK', flush=True)\n    time.sleep(600)\n",
        encoding="utf-8",
    )
    process = Process(
        # In this very environment, which has all that the session would install into its own.
        [
            *(sys.executable, "-m", "nox", "--no-venv", "--no-install", "--session", f"legacy_integration({LEGACY})"),
            *("--", "--suite", str(suite), "-s"),
        ],
        {"PYXIS_MATRIX_RUN": run, "PYXIS_MATRIX_RESULTS": str(tmp_path)},
    )
    process.wait_for_output("AT WORK")
    send(process)
    assert process.end() in (exit_code, 128 - exit_code), process.output
    # All is done by now: whoever waits for nox waits for that.
    assert not left_behind(api, run)
    assert not launching.state_dir(run, LEGACY).exists()
    loaded = store.load(tmp_path / run / LEGACY / own_suite(suite).name / store.RESULT_FILE)
    assert loaded.outcome is Outcome.INTERRUPTED
    assert [(test.name.rpartition("::")[2], test.outcome.value) for test in loaded.tests] == [
        ("test_that_ended", "passed"),
        ("test_that_takes_long", "interrupted"),
    ]
