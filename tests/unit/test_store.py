"""`ci.record.store`: the file of a suite on a cell."""

from datetime import UTC, datetime
import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
import pytest

from ci.errors import DiskFullError, ResultsError
from ci.matrix import loading
from ci.record import store
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.record.store import ArtefactRecord, CellRecord, ImageRecord, Result

RESULT = Result(
    run="r1",
    cell=CellRecord(
        id="slurm22.05-embedded-debian12-amd64", runtime="embedded", axes={"slurm": "22.05", "enroot": None}
    ),
    suite="pyxis_basic",
    outcome=Outcome.FAILED,
    exit_code=1,
    started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    seconds=12.3456789,
    reason="",
    versions={"slurm": "22.05.8", "kernel": "6.1.0"},
    subject={"requirement": "slurm-sdk==0.4.6", "version": "0.4.6"},
    nodes=("n1", "n2"),
    images=(ImageRecord(name="base", tag="abc", digest="sha256:1", built=True, seconds=18.0, size=173_000_000),),
    artefacts=(ArtefactRecord(path="a/b.deb", source="mirror", sha256="0" * 64, verified_against="SHA256SUMS"),),
    timings={"images": 1.0, "tests": 2.0},
    ready={"munge": 0.1},
    tests=(TestOutcome(name="t::a", outcome=TestState.FAILED, seconds=0.5, message="wörld\nmore", reruns=2),),
)


# -- result.json ----------------------------------------------------------------------------------------------------


def test_a_result_survives_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "run" / "cell" / "suite" / "result.json"
    store.write(RESULT, path)
    loaded = store.load(path)
    assert loaded.seconds == 12.346
    assert replace(loaded, seconds=0) == replace(RESULT, seconds=0)


def test_the_same_result_gives_the_same_bytes_in_sorted_order(tmp_path: Path) -> None:
    store.write(RESULT, tmp_path / "a")
    store.write(store.load(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    data = json.loads((tmp_path / "a").read_text())
    assert list(data) == sorted(data)
    assert data["schema"] == 4
    assert data["started"] == "2026-01-02T03:04:05Z"


def test_nothing_but_the_result_is_left_in_the_folder(tmp_path: Path) -> None:
    store.write(RESULT, tmp_path / "result.json")
    store.write(RESULT, tmp_path / "result.json")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_output_that_was_no_text_does_not_keep_a_result_from_being_written(tmp_path: Path) -> None:
    odd = TestOutcome(name="t::a", outcome=TestState.FAILED, message="\udcff wörld")
    store.write(replace(RESULT, reason="\udcff", tests=(odd,)), tmp_path / "result.json")
    loaded = store.load(tmp_path / "result.json")
    assert (loaded.reason, loaded.tests[0].message) == ("?", "? wörld")


def test_a_cell_is_recorded_as_the_matrix_has_it() -> None:
    cell = loading.load().cell("slurm22.05-embedded-debian12-amd64")
    assert msgspec.json.decode(msgspec.json.encode(CellRecord.of(cell))) == cell.as_json() | {"profile": "", "site": ""}


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFullError), (errno.EROFS, ResultsError)])
def test_a_write_that_fails_keeps_the_old_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")

    def replace(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(kind, match="failed to write"):
        store.write(RESULT, path)
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 99}, "schema 99, and this version of pyxis-matrix knows 4"),
        ({"schema": 99, "suite": 3, "more": 1}, "has another schema"),
        ({"schema": 3}, "schema 3, and this version of pyxis-matrix knows 4"),
        ({"schema": "1"}, "Expected `int`, got `str` - at `$.schema`"),
        ({"suite": 3}, "Expected `str`, got `int` - at `$.suite`"),
        ({"outcome": "splendid"}, "Invalid enum value 'splendid' - at `$.outcome`"),
        ({"cell": {"id": "x"}}, "missing required field `runtime` - at `$.cell`"),
        ({"timings": {"tests": "long"}}, "Expected `float`, got `str` - at `$.timings[...]`"),
        ({"images": [{"nam": "x"}]}, "unknown field `nam` - at `$.images[0]`"),
        ({"tests": [{"name": "x", "outcome": "passed", "secs": 1}]}, "unknown field `secs` - at `$.tests[0]`"),
        ({"started": "yesterday"}, "Invalid RFC3339 encoded datetime - at `$.started`"),
        ({"started": "2026-01-02T03:04:05"}, "`datetime` with a timezone component - at `$.started`"),
        ({"rating": 5}, "unknown field `rating`"),
    ],
)
def test_a_wrong_result_is_an_error_with_file_and_key(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "result.json"
    store.write(RESULT, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ResultsError) as caught:
        store.load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    store.write(RESULT, path)
    data = json.loads(path.read_text())
    del data["exit_code"]
    path.write_text(json.dumps(data))
    with pytest.raises(ResultsError, match="missing required field `exit_code`"):
        store.load(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\x00", "[" * 100_000, '{"schema": 1e999}'])
def test_what_is_no_result_is_an_error_not_a_traceback(tmp_path: Path, content: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(ResultsError):
        store.load(path)


def test_a_file_that_is_too_large_for_a_result_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with path.open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(ResultsError, match="too large") as caught:
        store.load(path)
    assert str(path) in str(caught.value)


def test_the_latest_run_is_the_one_written_last(tmp_path: Path) -> None:
    for name, time in (("zzz", 1_000), ("aaa", 2_000)):
        path = tmp_path / name / "cell" / "suite" / "result.json"
        store.write(RESULT, path)
        os.utime(path, (time, time))
    assert store.latest_run(tmp_path).name == "aaa"


def test_no_results_is_an_error_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nox -s pyxis_basic"):
        store.latest_run(tmp_path)
