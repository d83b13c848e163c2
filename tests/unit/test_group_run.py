"""A run of a group, with doubles for the engine and the cells' processes: what runs, what need not, what is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from docker.errors import APIError
import pytest
from requests.exceptions import RequestException

from ci import paths
from ci.errors import BuildError, DiskFullError, EngineError, NotRunError, PyxisMatrixError
from ci.group import capacity, children, fingerprint, images
from ci.matrix import loading
from ci.matrix.model import Matrix
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from tests.support.group import Machine, machine_with_doubles


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


@pytest.fixture
def machine(tmp_path: Path, rows: Matrix, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return machine_with_doubles(tmp_path, rows, monkeypatch)


def test_all_suites_run_on_all_cells(machine: Machine) -> None:
    machine.run(machine.plan(), jobs=1)
    assert machine.begun == [cell.id for cell in machine.cells]
    assert machine.jobs == 1
    assert {it.outcome for it in machine.found().values()} == {Outcome.PASSED}
    assert len(machine.found()) == 4
    assert all(it.fingerprint for it in machine.found().values())


def test_what_a_full_disk_takes_of_a_run_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = machine.cells
    machine.outcomes[first.id, "registry"] = machine.outcomes[first.id, "pyxis_conformance"] = None
    real = store.write

    def write(result: Result, path: Path) -> None:
        if result.cell_id == first.id:
            raise DiskFullError("no room")
        real(result, path)

    monkeypatch.setattr(store, "write", write)
    unwritten = machine.run(machine.plan())
    assert [it.exit_code for it in unwritten] == [DiskFullError.exit_code] * 2
    assert {it.cell_id for it in machine.found().values()} == {second.id}


def test_a_cell_without_images_does_not_keep_the_other_from_running(machine: Machine) -> None:
    first, second = machine.cells
    machine.problems[first.id] = BuildError("no compiler")
    machine.run(machine.plan())
    assert machine.begun == [second.id]
    found = machine.found()[first.id, "registry"]
    assert (found.outcome, found.exit_code, found.reason) == (Outcome.ERROR, BuildError.exit_code, "no compiler")


def test_a_cell_that_can_not_run_has_a_result_that_says_why(machine: Machine) -> None:
    first, second = machine.cells
    machine.run(machine.plan(missing=lambda cell: "no mirror" if cell == first else None))
    assert machine.begun == [second.id]
    found = machine.found()[first.id, "registry"]
    assert (found.outcome, found.exit_code, found.reason) == (Outcome.SKIPPED, NotRunError.exit_code, "no mirror")


@pytest.mark.parametrize(("strict", "outcome"), [(False, Outcome.SKIPPED), (True, Outcome.ERROR)])
def test_a_cell_whose_images_are_not_built_here_is_not_run(machine: Machine, *, strict: bool, outcome: Outcome) -> None:
    first, second = machine.cells
    machine.problems[first.id] = NotRunError("it is not compiled under emulation")
    machine.run(machine.plan(strict=strict))
    assert machine.begun == [second.id]
    found = machine.found()[first.id, "registry"]
    assert (found.outcome, found.exit_code) == (outcome, NotRunError.exit_code)


def test_a_process_that_dies_without_a_word_leaves_a_result(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = None
    machine.outcomes[first.id, "pyxis_conformance"] = None
    machine.run(machine.plan())
    found = machine.found()[first.id, "registry"]
    assert found.outcome is Outcome.ERROR
    assert paths.OUTPUT_FILE in found.reason
    assert machine.found()[machine.cells[1].id, "registry"].outcome is Outcome.PASSED


def test_an_old_result_is_not_taken_for_that_of_a_process_that_died(machine: Machine) -> None:
    first, _ = machine.cells
    machine.run(machine.plan())
    machine.outcomes[first.id, "registry"] = None
    machine.run(machine.plan())
    assert machine.found()[first.id, "registry"].outcome is Outcome.ERROR


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test handles it."""


def killed(*_: object, **__: object) -> Any:  # noqa: ANN401 - it stands for anything
    raise Killed


@pytest.mark.parametrize("at", ["connect", "Images", "ingredients", "of_machine", "run_all"])
def test_what_is_killed_at_any_moment_has_no_answer_of_an_earlier_attempt(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    machine.run(machine.plan())
    machine.connect = killed if at == "connect" else machine.connect
    for module, name in (
        (images, "Images"),
        (fingerprint, "ingredients"),
        (capacity, "of_machine"),
        (children, "run_all"),
    ):
        if name == at:
            monkeypatch.setattr(module, name, killed)
    with pytest.raises(Killed):
        machine.run(machine.plan())
    assert {it.outcome for it in machine.found().values()} == {Outcome.UNFINISHED}
    assert len(machine.found()) == 4


@pytest.mark.parametrize("problem", [EngineError("no engine"), APIError("gone"), RequestException("gone")])
def test_a_dead_engine_is_an_error_of_every_suite_and_no_answer_of_before(machine: Machine, problem: Exception) -> None:
    first, _ = machine.cells

    def dead() -> Any:  # noqa: ANN401 - it stands for the engine
        raise problem

    machine.run(machine.plan(), fail_fast=True)
    machine.connect = dead
    with pytest.raises(PyxisMatrixError):
        machine.run(machine.plan(missing=lambda cell: "no mirror" if cell == first else None))
    found = machine.found()
    assert {it.outcome for (cell, _), it in found.items() if cell == first.id} == {Outcome.SKIPPED}
    assert {it.outcome for (cell, _), it in found.items() if cell != first.id} == {Outcome.ERROR}
    assert len(found) == 4


def test_a_dead_engine_takes_no_answer_of_the_run_that_goes_on(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.INTERRUPTED
    machine.run(machine.plan())

    def dead() -> Any:  # noqa: ANN401 - it stands for the engine
        raise EngineError("no engine")

    machine.connect = dead
    with pytest.raises(EngineError):
        machine.run(machine.resumed())
    assert sorted(it.outcome for it in machine.found().values()) == [Outcome.ERROR, *[Outcome.PASSED] * 3]


def test_what_runs_again_when_the_run_goes_on_has_no_answer_meanwhile(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.run(machine.plan())
    machine.taste = "another image"

    def run_all(_commands: object, *, jobs: Callable[[], int], **_more: object) -> None:
        jobs()
        raise Killed

    monkeypatch.setattr(children, "run_all", run_all)
    with pytest.raises(Killed):
        machine.run(machine.resumed())
    assert {it.outcome for it in machine.found().values()} == {Outcome.UNFINISHED}


def test_fail_fast_begins_no_further_cell(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.FAILED
    machine.run(machine.plan(), fail_fast=True)
    assert machine.begun == [first.id]
    machine.run(machine.plan())
    assert len(machine.begun) == 2


# -- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (Outcome.PASSED, False),
        (Outcome.PARTLY, False),
        (Outcome.FAILED, False),
        (Outcome.ERROR, True),
        (Outcome.INTERRUPTED, True),
        (Outcome.SKIPPED, True),
    ],
)
def test_a_run_goes_on_with_what_has_no_answer_yet(machine: Machine, outcome: Outcome, *, again: bool) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = outcome
    machine.run(machine.plan())
    machine.outcomes.clear()
    machine.run(machine.resumed())
    assert machine.ran == ([(first.id, "registry")] if again else [])


def test_what_was_never_begun_runs_when_the_run_goes_on(machine: Machine) -> None:
    first, second = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.FAILED
    machine.run(machine.plan(), fail_fast=True)
    machine.run(machine.resumed())
    assert machine.begun == [second.id]


def test_what_has_changed_since_runs_again_when_the_run_goes_on(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.run(machine.plan())
    machine.taste = "another image"
    machine.run(machine.resumed())
    assert len(machine.ran) == 4
    assert "registry runs again" in capsys.readouterr().err


def test_a_broken_result_runs_again_and_is_warned_about(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = machine.cells
    machine.run(machine.plan())
    (machine.results / "run" / first.id / "registry" / store.RESULT_FILE).write_text('{"schema": 2', encoding="utf-8")
    machine.run(machine.resumed())
    assert machine.ran == [(first.id, "registry")]
    assert "a result is invalid" in capsys.readouterr().err


def test_a_cell_that_breaks_when_the_run_goes_on_loses_nothing(machine: Machine) -> None:
    first, _ = machine.cells
    machine.outcomes[first.id, "registry"] = Outcome.INTERRUPTED
    machine.run(machine.plan())
    machine.problems[first.id] = DiskFullError("no room")
    machine.run(machine.resumed())
    found = machine.found()
    assert found[first.id, "pyxis_conformance"].outcome is Outcome.PASSED
    assert found[first.id, "registry"].exit_code == DiskFullError.exit_code
