"""A group: which suites run on which cells and why not the others, and its one exit code."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from ci.engine import emulation
from ci.errors import DiskFullError, EngineError, NotRunError, PyxisMatrixError, ResultsError, SelectionError
from ci.group import ending, planning
from ci.group.capacity import Capacity
from ci.group.planning import GroupPlan, GroupRequest, plan_group
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.options import Options
from ci.record import planned, store
from ci.record.outcomes import Outcome
from ci.record.planned import PlannedCell, RunPlan
from ci.record.store import Result

GIB = 1024**3


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


@pytest.fixture(scope="module")
def here(rows: Matrix) -> dict[Runtime, list[Cell]]:
    """Return this machine's cells by runtime."""
    cells = [cell for cell in rows.all_cells(Arch.host()) if cell.arch is Arch.host()]
    return {runtime: [cell for cell in cells if cell.runtime is runtime] for runtime in Runtime}


def plan(rows: Matrix, missing: Callable[[Cell], str | None] = lambda _cell: None, **asked: object) -> GroupPlan:
    options = cast("dict[str, Any]", asked.pop("options", {}))
    return plan_group(GroupRequest(**asked), rows, Options(run="run", **options), missing)  # type: ignore[arg-type]


def suites(planned_group: GroupPlan) -> dict[str, list[str]]:
    return {cell.cell.id: [suite.name for suite in cell.suites] for cell in planned_group.cells}


# -- what runs ------------------------------------------------------------------------------------------------------


def test_a_cell_runs_the_suites_that_apply_but_not_the_long_one(rows: Matrix, here: dict[Runtime, list[Cell]]) -> None:
    cells = [here[runtime][0].id for runtime in Runtime]
    found = {cell: set(names) for cell, names in suites(plan(rows, cells=cells)).items()}
    containers = {"pyxis_basic", "pyxis_conformance", "registry", "pyxis_advanced", "slurm_facts"}
    assert found[here[Runtime.NVIDIA][0].id] >= containers
    assert found[here[Runtime.EMBEDDED][0].id] >= containers
    assert found[here[Runtime.LEGACY][0].id] & containers == {"slurm_facts"}
    assert "legacy_integration" in found[here[Runtime.LEGACY][0].id]
    assert not {"pyxis_upstream", "launchers"} & {name for names in found.values() for name in names}


def test_a_suite_that_was_asked_for_and_does_not_apply_is_told(rows: Matrix, here: dict[Runtime, list[Cell]]) -> None:
    embedded, real = here[Runtime.EMBEDDED][0].id, here[Runtime.NVIDIA][0].id
    found = plan(rows, cells=[embedded, real], suites=["pyxis_upstream", "registry"])
    first, second = found.cells
    assert [it.name for it in first.suites] == ["registry"]
    assert "nvidia cells only" in first.not_applicable["pyxis_upstream"]
    assert second.not_applicable == {}


def test_a_group_where_no_suite_applies_is_refused(rows: Matrix, here: dict[Runtime, list[Cell]]) -> None:
    with pytest.raises(SelectionError, match="pyxis_upstream applies to none of the cells"):
        plan(rows, cells=[here[Runtime.EMBEDDED][0].id], suites=["pyxis_upstream"])


def test_a_cell_without_its_files_is_not_run_and_the_others_are(rows: Matrix, here: dict[Runtime, list[Cell]]) -> None:
    real, embedded = here[Runtime.NVIDIA][0], here[Runtime.EMBEDDED][0]
    found = plan(rows, lambda it: "no mirror" if it.runtime is Runtime.NVIDIA else None, cells=[real.id, embedded.id])
    assert [cell.not_run for cell in found.cells] == ["no mirror", ""]


def test_a_group_leaves_cells_of_another_architecture_to_another_machine(rows: Matrix) -> None:
    found = plan(rows, group="full")
    assert {cell.cell.arch for cell in found.cells} == {Arch.host()}
    assert len(found.cells) + len(found.record.left_out) == len(rows.all_cells(Arch.host()))
    assert all("hardware" in why for why in found.record.left_out.values())


def test_a_cell_of_another_architecture_that_is_named_takes_an_emulator(
    rows: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(cell for cell in rows.all_cells(Arch.host()) if cell.arch is not Arch.host())
    for found, reason in ((EngineError("no", where="/proc", why="none", next_step="get one"), "hardware"), (None, "")):
        monkeypatch.setattr(emulation, "obstacle", lambda _arch, found=found: found)
        (planned,) = plan(rows, cells=[other.id]).cells
        assert reason in planned.not_run
        assert bool(planned.not_run) is (found is not None)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"group": "smok"}, "did you mean 'smoke'"),
        ({"cells": ["no-such-cell"]}, "there is no cell 'no-such-cell'"),
        ({"suites": ["registri"]}, "did you mean 'registry'"),
        ({"options": {"keep": True}}, "--keep cannot be used with a group"),
        ({"group": "full", "options": {"ssh_port": 2222}}, "--ssh-port can be given for one cell only"),
    ],
    ids=["group", "cell", "suite", "keep", "port"],
)
def test_what_can_not_be_is_refused(rows: Matrix, asked: dict[str, Any], problem: str) -> None:
    with pytest.raises(SelectionError, match=problem):
        plan(rows, **asked)


def test_cells_and_a_group_at_once_are_refused(rows: Matrix, here: dict[Runtime, list[Cell]]) -> None:
    with pytest.raises(SelectionError, match="cells and a group are both named"):
        plan(rows, cells=[here[Runtime.EMBEDDED][0].id], group="full")


def test_what_is_planned_is_written_and_read_again(
    rows: Matrix, here: dict[Runtime, list[Cell]], tmp_path: Path
) -> None:
    found = plan(rows, cells=[here[Runtime.EMBEDDED][0].id], words=["-k", "a b"], options={"nodes": 3})
    planned.begin(found.record, tmp_path)
    read = planned.load(tmp_path)
    assert read == found.record
    assert (read.options, read.words, read.run) == (("--nodes", "3"), ("-k", "a b"), "run")


def test_the_matrix_hash_is_that_of_what_it_says(rows: Matrix) -> None:
    assert planning.matrix_hash(rows) == planning.matrix_hash(replace(loading.load(), path=Path("/elsewhere")))
    assert planning.matrix_hash(rows) != planning.matrix_hash(replace(rows, failures=rows.failures[1:]))
    assert planning.matrix_hash(rows) != planning.matrix_hash(replace(rows, enroot=rows.enroot[1:]))


# -- going on -------------------------------------------------------------------------------------------------------


def again(rows: Matrix, found: GroupPlan, asked: GroupRequest | None = None, **options: Any) -> GroupPlan:  # noqa: ANN401
    given = Options(run="run", **options)
    return planning.resumed(found.record, asked or GroupRequest(), rows, given, lambda _cell: None)


def test_a_run_goes_on_with_its_own_cells_and_suites(rows: Matrix, here: dict[Runtime, list[Cell]]) -> None:
    found = plan(rows, cells=[here[Runtime.EMBEDDED][0].id, here[Runtime.LEGACY][0].id])
    on = again(rows, found)
    assert suites(on) == suites(found)
    assert on.resumed
    assert [cell.not_applicable for cell in on.cells] == [{}, {}]
    asked = plan(rows, cells=[here[Runtime.EMBEDDED][0].id], suites=["registry", "pyxis_upstream"])
    assert again(rows, asked).cells[0].not_applicable == asked.cells[0].not_applicable


def test_a_run_with_another_matrix_does_not_go_on(rows: Matrix) -> None:
    found = plan(rows, group="embedded")
    with pytest.raises(SelectionError, match="begun with another matrix") as caught:
        again(replace(rows, failures=rows.failures[1:]), found)
    assert "known failures" in caught.value.why
    fewer = replace(rows, slurm=rows.slurm[1:])
    with pytest.raises(SelectionError, match="begun with another matrix") as caught:
        again(fewer, found)
    assert found.cells[0].cell.id in caught.value.why


def test_a_run_with_other_options_does_not_go_on_and_the_right_ones_are_named(rows: Matrix) -> None:
    found = plan(rows, group="embedded", words=["-k", "a b"], options={"nodes": 3})
    with pytest.raises(SelectionError, match="other options") as caught:
        again(rows, found, nodes=2)
    assert caught.value.next_step == "nox -s matrix -- --resume run --nodes 3 -- -k 'a b'"
    assert again(rows, found, GroupRequest(words=["-k", "a b"]), nodes=3).record.words == ("-k", "a b")


def test_a_run_that_goes_on_is_not_given_other_cells(rows: Matrix) -> None:
    with pytest.raises(SelectionError, match="continues with the cells"):
        again(rows, plan(rows, group="embedded"), GroupRequest(group="smoke"))


def test_what_was_no_run_of_a_group_does_not_go_on(tmp_path: Path) -> None:
    for content, why in ((None, "is missing"), ("{", "truncated"), ('{"schema": 9}', "schema 9, and this version")):
        if content is not None:
            (tmp_path / planned.PLAN_FILE).write_text(content, encoding="utf-8")
        with pytest.raises(ResultsError, match="no run") as caught:
            planned.load(tmp_path)
        assert why in caught.value.why


# -- how many at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "cores", "gib", "cells", "jobs"),
    [
        (0, 2, 24, 9, 2),
        (0, 64, 24, 9, 9),
        (0, 64, 12, 9, 5),
        (8, 2, 24, 9, 8),
        (8, 2, 6, 9, 2),
        (8, 2, 1, 9, 1),
        (0, 8, 64, 1, 1),
    ],
    ids=["cores", "cells", "memory", "asked", "never more than fit", "one at least", "one cell"],
)
def test_how_many_cells_are_up_at_a_time(*, asked: int, cores: int, gib: int, cells: int, jobs: int) -> None:
    assert Capacity(cores=cores, memory=gib * GIB).jobs(asked, cells=cells, nodes=1) == jobs


def test_more_nodes_need_more_memory() -> None:
    machine = Capacity(cores=64, memory=24 * GIB)
    assert machine.fitting(3) < machine.fitting(1)


# -- the end --------------------------------------------------------------------------------------------------------


def result(outcome: Outcome, exit_code: int) -> Result:
    cell = store.CellRecord(id="cell", runtime="nvidia")
    return Result(
        run="run", cell=cell, suite="s", outcome=outcome, exit_code=exit_code, started=store.utc_now(), seconds=1.0
    )


PASSED, FAILED = result(Outcome.PASSED, 0), result(Outcome.FAILED, 1)
BROKEN, LACKING = result(Outcome.ERROR, 30), result(Outcome.SKIPPED, NotRunError.exit_code)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([PASSED, PASSED], 0),
        ([PASSED, LACKING], 12),
        ([LACKING, BROKEN, PASSED], 30),
        ([BROKEN, FAILED, PASSED], 1),
        ([result(Outcome.INTERRUPTED, 130), PASSED], 130),
        ([result(Outcome.FAILED, 5)], 1),
        ([result(Outcome.ERROR, 0)], 70),
        ([], 0),
    ],
    ids=["passed", "not run", "error", "failed", "interrupted", "no test", "error of no code", "nothing"],
)
def test_the_exit_code_is_that_of_the_worst(results: list[Result], expected: int) -> None:
    assert ending.exit_code(results) == expected


@pytest.mark.parametrize(
    ("results", "unwritten", "missing", "expected"),
    [
        ([], [], True, ResultsError.exit_code),
        ([PASSED, LACKING], [], True, ResultsError.exit_code),
        ([PASSED], [DiskFullError("no room")], True, DiskFullError.exit_code),
        ([PASSED, FAILED], [DiskFullError("no room")], True, 1),
    ],
    ids=["none", "one missing", "disk full", "failed all the same"],
)
def test_what_has_no_result_has_not_passed(
    results: list[Result], unwritten: list[PyxisMatrixError], *, missing: bool, expected: int
) -> None:
    assert ending.exit_code(results, unwritten, missing=missing) == expected


# -- the run's folder -----------------------------------------------------------------------------------------------

PLAN = RunPlan(run="r", started=store.utc_now(), matrix="m", cells=(PlannedCell(id="c", suites=("registry",)),))


def test_the_same_run_may_begin_again(tmp_path: Path) -> None:
    planned.begin(PLAN, tmp_path)
    planned.begin(msgspec.structs.replace(PLAN, started=PLAN.started + timedelta(hours=1)), tmp_path)
    assert planned.load(tmp_path).started > PLAN.started


@pytest.mark.parametrize("change", [{"words": ("-k", "x")}, {"cells": ()}, {"matrix": "other"}, {"options": ("--x",)}])
def test_another_run_of_the_same_id_is_refused_and_the_first_one_stays(tmp_path: Path, change: dict[str, Any]) -> None:
    planned.begin(PLAN, tmp_path)
    with pytest.raises(SelectionError, match=r"run r exists already(.|\n)*--resume r"):
        planned.begin(msgspec.structs.replace(PLAN, **change), tmp_path)
    assert planned.load(tmp_path) == PLAN


def test_a_run_whose_plan_is_broken_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / planned.PLAN_FILE).write_text("{")
    with pytest.raises(SelectionError):
        planned.begin(PLAN, tmp_path)
    assert (tmp_path / planned.PLAN_FILE).read_text() == "{"
