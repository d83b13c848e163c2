"""A run of a group on real cells, side by side: interrupted in the middle, gone on with, killed, and begun twice.

The cells are legacy ones: they are up in two seconds. What they run is a part of their own suite.
"""

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path
import signal

import docker
import pytest

from ci import paths
from ci.environment import launching
from ci.errors import SelectionError
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime
from ci.matrix.model import Matrix
from ci.record import progress, store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from tests.component.weather import Process, left_behind, until

SUITE = "legacy_integration"
# Two tests that take seconds, in one worker: enough to be in the middle of.
WORDS = ("--", "-n", "1", "-k", "test_running_job_is_cancelled or test_waiting_job_is_cancelled")


@dataclass
class Runs:
    """Starts runs of a group, and looks at what they left."""

    id: str
    results: Path
    cells: list[str]
    api: docker.DockerClient

    def start(self, *words: str, jobs: int = 2, fresh: bool = True) -> Process:
        """Start a run; a fresh one, or one that only says what to go on with."""
        cells = [*self.cells, "--suite", SUITE, "--run", self.id] if fresh else []
        return Process.ci("matrix", *cells, "--results", str(self.results), "--jobs", str(jobs), *words, *WORDS)

    def at_work(self, cell: str) -> bool:
        """Tell whether a cell's tests are running."""
        events = progress.read(self.results / self.id / cell / paths.PROGRESS_FILE)
        return bool(events) and events[-1].phase == "tests"

    def found(self) -> dict[str, Result]:
        """Return the results by cell."""
        results = map(store.load, (self.results / self.id).glob(f"*/*/{store.RESULT_FILE}"))
        return {it.cell_id: it for it in results}

    def nothing_is_left(self) -> bool:
        """Tell whether the engine has no object and this machine no key of the run."""
        return not left_behind(self.api, self.id) and not any(
            launching.state_dir(self.id, cell).exists() for cell in self.cells
        )


@pytest.fixture(scope="module")
def cells(rows: Matrix, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return two cells that have their images: otherwise the first may end while those of the second are built."""
    host = Arch.host()
    first_two = [it.id for it in rows.all_cells(host) if it.runtime is Runtime.LEGACY and it.arch is host][:2]
    images = Process.ci("images", *first_two, "--results", str(tmp_path_factory.mktemp("images")))
    assert images.end() == 0, images.output
    return first_two


@pytest.fixture
def runs(cells: list[str], run: str, tmp_path: Path, api: docker.DockerClient) -> Runs:
    return Runs(id=run, results=tmp_path, cells=cells, api=api)


SIGNALS = pytest.mark.parametrize(
    ("send", "exit_code"),
    [
        pytest.param(Process.press_ctrl_c, 128 + signal.SIGINT, id="ctrl-c"),
        pytest.param(Process.terminate, 128 + signal.SIGTERM, id="sigterm"),
    ],
)


@SIGNALS
def test_a_run_that_is_interrupted_while_an_image_is_made_ends_the_program_that_makes_it(
    runs: Runs, tmp_path: Path, send: Callable[[Process], None], exit_code: int
) -> None:
    pid, endless = tmp_path / "pid", tmp_path / "bin" / "mmdebstrap"
    endless.parent.mkdir()
    endless.write_text(f"#!/bin/sh\necho $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600\n", encoding="utf-8")
    endless.chmod(0o755)
    # From an address of its own, the base image is another one than is there; a real one is never made.
    environ = {
        "PATH": f"{endless.parent}{os.pathsep}{os.environ['PATH']}",
        "PYXIS_MATRIX_DEBIAN_MIRROR": f"http://127.0.0.1:9/{tmp_path.name}",
    }
    words = [*runs.cells, "--run", runs.id, "--results", str(runs.results), *WORDS]
    process = Process.ci("matrix", *words, **environ)
    until("the image being made", pid.exists)
    send(process)
    assert process.end() == exit_code, process.output
    until("the end of the program that made it", lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())
    assert "Traceback" not in process.output
    assert runs.nothing_is_left()


@SIGNALS
def test_a_run_that_is_interrupted_leaves_nothing_and_goes_on_later(
    runs: Runs, send: Callable[[Process], None], exit_code: int
) -> None:
    process = runs.start()
    until("both cells at work", lambda: all(map(runs.at_work, runs.cells)) or process.process.poll() is not None)
    second = runs.start()
    assert second.end() == SelectionError.exit_code, second.output
    assert f"run {runs.id} is already in progress" in second.output

    send(process)
    assert process.end() == exit_code, process.output
    assert "Traceback" not in process.output
    assert runs.nothing_is_left()
    assert {it.outcome for it in runs.found().values()} == {Outcome.INTERRUPTED}, process.output
    assert runs.found().keys() == set(runs.cells)

    on = runs.start("--resume", runs.id, fresh=False)
    assert on.end() == 0, on.output
    assert {name: it.outcome for name, it in runs.found().items()} == dict.fromkeys(runs.cells, Outcome.PARTLY)
    assert all(it.tests for it in runs.found().values())
    assert runs.nothing_is_left()


def test_what_a_broken_off_run_has_is_not_run_again(runs: Runs) -> None:
    first, second = runs.cells
    process = runs.start(jobs=1)
    until("the second cell at work", lambda: runs.at_work(second) or process.process.poll() is not None)
    process.press_ctrl_c()
    assert process.end() == 128 + signal.SIGINT, process.output
    before = runs.found()
    assert {name: it.outcome for name, it in before.items()} == {first: Outcome.PARTLY, second: Outcome.INTERRUPTED}

    on = runs.start("--resume", runs.id, fresh=False)
    assert on.end() == 0, on.output
    after = runs.found()
    assert after[first] == before[first]
    assert after[second].outcome is Outcome.PARTLY


def test_behind_a_killed_run_all_cells_are_cleared(runs: Runs) -> None:
    process = runs.start()
    until("both cells at work", lambda: all(map(runs.at_work, runs.cells)) or process.process.poll() is not None)
    process.kill()
    assert process.end() == -signal.SIGKILL
    until("clearing up behind it", runs.nothing_is_left)
    assert {it.outcome for it in runs.found().values()} == {Outcome.INTERRUPTED}
