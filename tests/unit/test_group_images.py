"""The images of a group are made while cells run: what comes first, how many run beside a build, and how it ends."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
import signal
import threading
from typing import Any, cast

import pytest

from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.errors import BuildError
from ci.group import capacity, children, images, running
from ci.group.capacity import Capacity
from ci.group.children import ChildCommand
from ci.images.plan import CellImages, ImagePlan
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Runtime, SlurmSource
from ci.matrix.model import Matrix
from ci.options import Options
from ci.record.outcomes import Outcome
from ci.terminal import processes, signals
from tests.support.group import Machine, machine_with_doubles

GIB = 1024**3
LIMIT = 60.0
"""Seconds until a test that waits for what never comes fails."""
SOME = 50
"""Looks at what runs, in which one more cell would have begun."""


class FakeBuilder:
    """Stands for `ci.images.building.Builder`; a test says what happens while the images of a cell are built."""

    def __init__(self) -> None:
        """Have all builds succeed at once."""
        self.built: list[str] = []
        self.acts: dict[str, Callable[[], None]] = {}
        """By the id of the cell."""

    def build(self, planned: CellImages) -> None:
        """Build the images of a cell."""
        self.built.append(planned.cell.id)
        self.acts.get(planned.cell.id, lambda: None)()

    def ensure(self, image: ImagePlan) -> Any:  # noqa: ANN401 - what its caller looks at
        """Return an image that is there."""
        return cast("Any", replace(image, folder="built"))

    def has(self, _image: ImagePlan) -> bool:
        """Have nothing of an earlier run."""
        return False


class Program:
    """Stands for a cell's process, which writes its results and runs until it is let go, or gets a signal."""

    def __init__(self, exit_code: int) -> None:
        """Run."""
        self.returncode: int | None = None
        self._exit_code = exit_code
        self.goes_on: Callable[[], bool] = lambda: False
        self.got: list[int] = []

    def poll(self) -> int | None:
        """Return how it ended, as ``subprocess`` does."""
        if self.returncode is None and not self.goes_on():
            self.returncode = self._exit_code
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Note the signal, and heed it."""
        self.got.append(number)
        self.returncode = 128 + number


class Stage:
    """A machine whose images come from a fake builder, and whose cells are fake processes; all between is real."""

    def __init__(self, machine: Machine) -> None:
        """Have four cells, three of which need a compiler, two the same."""
        self.machine = machine
        self.builder = FakeBuilder()
        self.programs: dict[str, Program] = {}
        self.begun = threading.Event()
        self.goes_on: Callable[[str], bool] = lambda _cell: False
        """Whether a cell's process still runs."""

    def start(self, command: ChildCommand) -> Any:  # noqa: ANN401 - it stands for a process
        """Begin a cell."""
        program = self.programs[command.cell] = Program(self.machine.begin(command))
        program.goes_on = partial(self.goes_on, command.cell)
        self.begun.set()
        return program

    def running(self) -> list[str]:
        """Return the cells whose process has not ended."""
        return [cell for cell, program in self.programs.items() if program.returncode is None]


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


@pytest.fixture
def stage(tmp_path: Path, rows: Matrix, monkeypatch: pytest.MonkeyPatch) -> Stage:
    real_images, real_run_all = images.Images, children.run_all
    machine = machine_with_doubles(tmp_path, rows, monkeypatch)
    embedded = [
        it for it in rows.cells("full", Arch.host()) if it.runtime is Runtime.EMBEDDED and it.arch is Arch.host()
    ]
    packages = [it for it in embedded if it.slurm.source is SlurmSource.PACKAGES]
    compiled = [it for it in embedded if it.slurm.source is SlurmSource.ARCHIVE]
    machine.cells = [*compiled[:3], packages[0]]
    found = Stage(machine)
    monkeypatch.setattr(running, "Builder", lambda *_words, **_more: found.builder)
    monkeypatch.setattr(images, "Images", real_images)
    monkeypatch.setattr("ci.group.fingerprint.images_of", lambda plan, _builder: plan.cell.id)
    monkeypatch.setattr(children, "run_all", real_run_all)
    monkeypatch.setattr(children, "start", found.start)
    monkeypatch.setattr(children, "_TICK", 0.001)
    return found


def plans(rows: Matrix, *cells: str) -> list[EnvironmentPlan]:
    return [plan_environment(rows.cell(it, Arch.AMD64), rows, Options(run="run")) for it in cells]


# -- what comes first -----------------------------------------------------------------------------------------------

ALONE = "slurm23.02.8-embedded-debian12-amd64"
SHARED = ("slurm24.05.8-enroot3.4.1-pyxis0.19.0-debian12-amd64", "slurm24.05.8-embedded-debian12-amd64")
ELSEWHERE = "slurm24.05.8-embedded-debian13-amd64"
PACKAGED = "slurm22.05-embedded-debian12-amd64"


def order(rows: Matrix, has: Callable[[ImagePlan], bool], *cells: str) -> list[str]:
    return [it.cell.id for it in images.in_order(plans(rows, *cells), has)]


def test_what_needs_no_compiler_comes_first_and_then_the_compile_that_most_cells_wait_for(rows: Matrix) -> None:
    found = order(rows, lambda _image: False, ALONE, ELSEWHERE, SHARED[0], PACKAGED, SHARED[1])
    assert found == [PACKAGED, *SHARED, ALONE, ELSEWHERE]


def test_a_slurm_that_was_compiled_before_is_waited_for_by_nobody(rows: Matrix) -> None:
    asked: list[str] = []

    def has(image: ImagePlan) -> bool:
        asked.append(image.name)
        return "23.02.8" in image.name

    assert order(rows, has, *SHARED, ALONE, PACKAGED) == [ALONE, PACKAGED, *SHARED]
    assert sorted(asked) == ["slurm-build 23.02.8-debian12-amd64", "slurm-build 24.05.8-debian12-amd64"]


# -- cells beside builds --------------------------------------------------------------------------------------------


def test_the_first_cell_begins_before_the_last_image_is_built(stage: Stage) -> None:
    *_, last = stage.machine.cells[:3]
    seen: list[bool] = []
    stage.builder.acts[last.id] = lambda: seen.append(stage.begun.wait(LIMIT))
    stage.machine.run(stage.machine.plan())
    assert seen == [True], "all images were built before the first cell began"
    assert stage.builder.built[0] == stage.machine.cells[3].id, "it needs no compiler"
    assert {it.outcome for it in stage.machine.found().values()} == {Outcome.PASSED}
    assert len(stage.machine.found()) == 8


@pytest.mark.parametrize(("jobs", "beside"), [(1, 1), (2, 1), (3, 2)])
def test_beside_a_build_runs_one_cell_less_than_fit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, jobs: int, beside: int
) -> None:
    monkeypatch.setattr(capacity, "of_machine", lambda _engine: Capacity(cores=jobs, memory=64 * GIB))
    go, released, ticks = threading.Event(), threading.Event(), [0]
    seen: dict[bool, set[int]] = {False: set(), True: set()}
    stage.builder.acts[stage.machine.cells[2].id] = lambda: (go.wait(LIMIT), None)[1]  # the last image
    stage.goes_on = lambda _cell: not released.is_set()

    def sleep(_seconds: float) -> None:
        seen[go.is_set()].add(len(stage.running()))
        ticks[0] += len(stage.running()) == (jobs if go.is_set() else beside)
        if ticks[0] == SOME:
            go.set()
        if ticks[0] == 2 * SOME:
            released.set()

    monkeypatch.setattr("ci.group.children.time.sleep", sleep)
    stage.machine.run(stage.machine.plan())
    assert max(seen[False]) == beside
    assert max(seen[True]) == jobs
    assert len(stage.programs) == 4


def test_an_image_that_fails_costs_only_the_cells_that_need_it(stage: Stage) -> None:
    first, *others = stage.machine.cells

    def fail() -> None:
        raise BuildError("no compiler")

    stage.builder.acts[first.id] = fail
    stage.machine.run(stage.machine.plan())
    found = stage.machine.found()
    assert {(it.outcome, it.reason) for (cell, _), it in found.items() if cell == first.id} == {
        (Outcome.ERROR, "no compiler")
    }
    assert {it.outcome for (cell, _), it in found.items() if cell != first.id} == {Outcome.PASSED}
    assert sorted(stage.programs) == sorted(it.id for it in others)


# -- the end --------------------------------------------------------------------------------------------------------


def held(ended: Sequence[threading.Event] = ()) -> Callable[[], None]:
    """Return a build that lasts until it is asked to end, as a command of a thread does."""

    def build() -> None:
        stop = processes.STOP.get()
        assert stop
        assert stop.wait(LIMIT), "nobody asked the build to end"
        for each in ended:
            each.set()
        raise processes.Stopped

    return build


@pytest.mark.parametrize("how", ["signal", "fail fast"])
def test_what_ends_the_run_ends_a_build_and_the_cells(stage: Stage, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    packaged, stopped = stage.machine.cells[3], threading.Event()
    for cell in stage.machine.cells[:3]:
        stage.builder.acts[cell.id] = held([stopped])
    if how == "signal":
        stage.goes_on = lambda _cell: True

        def sleep(_seconds: float) -> None:
            if stage.running() and len(stage.builder.built) > 1 and not stage.programs[packaged.id].got:
                raise signals.Interrupted(signal.SIGTERM)

        monkeypatch.setattr("ci.group.children.time.sleep", sleep)
        with pytest.raises(signals.Interrupted):
            stage.machine.run(stage.machine.plan())
        assert stage.programs[packaged.id].got == [signal.SIGTERM]
    else:
        stage.machine.outcomes[packaged.id, "registry"] = Outcome.FAILED
        stage.goes_on = lambda _cell: len(stage.builder.built) < 2
        stage.machine.run(stage.machine.plan(), fail_fast=True)
    assert stopped.is_set()
    assert len(stage.builder.built) == 2, "no further image was begun"
    assert list(stage.programs) == [packaged.id]
    assert not any(thread.name == "images" for thread in threading.enumerate())


def test_a_fault_of_the_program_while_it_builds_is_not_hidden(stage: Stage) -> None:
    def fault() -> None:
        raise ZeroDivisionError

    stage.builder.acts[stage.machine.cells[1].id] = fault
    with pytest.raises(ZeroDivisionError):
        stage.machine.run(stage.machine.plan())
