"""`ci.group.reuse`: which earlier result is taken, and what it then says."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace
import pytest

from ci.group import reuse
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from tests.support.results import result


@pytest.fixture(scope="module")
def cell() -> Cell:
    cells = loading.load().all_cells(Arch.host())
    return next(it for it in cells if it.runtime is Runtime.NVIDIA and it.arch is Arch.host())


def kept(results: Path, run: str, cell: Cell, minute: int, **more: Any) -> Result:  # noqa: ANN401 - a result's fields
    given = {"outcome": Outcome.PASSED, "fingerprint": "f", "seconds": 9.0, **more}
    started = datetime(2026, 1, 1, 1, minute, tzinfo=UTC)  # gone by, at any hour of a day
    made = result(store.CellRecord.of(cell), "registry", given.pop("outcome"), run=run, started=started)
    made = replace(made, timings={"tests": 9.0}, **given)
    store.write(made, results / run / cell.id / "registry" / store.RESULT_FILE)
    return made


def found(results: Path, cell: Cell, wanted: str = "f") -> str | None:
    unchanged = reuse.unchanged(reuse.earlier(results, cell.id, "registry", but="now"), wanted)
    return unchanged.run if unchanged else None


def test_the_newest_result_of_the_same_fingerprint_is_taken_if_it_passed(tmp_path: Path, cell: Cell) -> None:
    assert found(tmp_path, cell) is None
    kept(tmp_path, "b", cell, 2)
    kept(tmp_path, "a", cell, 1)
    kept(tmp_path, "now", cell, 50)
    kept(tmp_path, "c", cell, 3, fingerprint="another", outcome=Outcome.FAILED)
    assert found(tmp_path, cell) == "b"
    assert found(tmp_path, cell, "unknown") is None
    assert found(tmp_path, cell, "another") is None, "what failed runs again"


def test_a_part_of_a_suite_is_taken_for_nothing(tmp_path: Path, cell: Cell) -> None:
    kept(tmp_path, "a", cell, 1, outcome=Outcome.PARTLY)
    assert found(tmp_path, cell) is None


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ERROR])
def test_where_a_newer_result_did_not_pass_an_older_one_is_not_taken(
    tmp_path: Path, cell: Cell, outcome: Outcome
) -> None:
    kept(tmp_path, "a", cell, 1)
    kept(tmp_path, "b", cell, 2, outcome=outcome)
    assert found(tmp_path, cell) is None
    kept(tmp_path, "c", cell, 3)
    assert found(tmp_path, cell) == "c"


def test_what_was_broken_off_or_is_no_result_says_nothing(tmp_path: Path, cell: Cell) -> None:
    kept(tmp_path, "a", cell, 1)
    kept(tmp_path, "b", cell, 2, outcome=Outcome.INTERRUPTED)
    kept(tmp_path, "c", cell, 3, fingerprint="", outcome=Outcome.FAILED)
    broken = tmp_path / "d" / cell.id / "registry" / store.RESULT_FILE
    broken.parent.mkdir(parents=True)
    broken.write_text("{", encoding="utf-8")
    assert found(tmp_path, cell) == "a"


def test_a_result_that_is_taken_says_from_where_and_took_no_time(tmp_path: Path, cell: Cell) -> None:
    first = reuse.taken(kept(tmp_path, "a", cell, 1), "b")
    assert (first.run, first.reused_from, first.reason) == ("b", "a", "unchanged since a")
    assert (first.seconds, first.timings, first.fingerprint) == (0.0, {}, "f")
    second = reuse.taken(first, "c")
    assert (second.run, second.reused_from) == ("c", "a"), "it is the run that really ran"


def test_what_has_changed_is_named(tmp_path: Path, cell: Cell) -> None:
    now = {"images": "1", "options": "2"}
    assert reuse.changed(tmp_path, cell.id, "registry", now) == []
    reuse.write(tmp_path, {cell.id: {"registry": {"images": "1", "options": "other"}}})
    assert reuse.changed(tmp_path, cell.id, "registry", now) == ["options"]
    assert reuse.changed(tmp_path, cell.id, "pyxis_basic", now) == []
