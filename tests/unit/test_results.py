"""`ci.results.store` and `ci.results.junit`: the file of a suite on a cell, and what pytest's report makes of it."""

from collections.abc import Sequence
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
from ci.results import store
from ci.results.junit import Outcome, TestOutcome, TestState, outcome_of, read_junit
from ci.results.store import ArtefactRecord, CellRecord, ImageRecord, Result

RESULT = Result(
    run="r1",
    cell=CellRecord(id="slurm22.05-embedded-amd64", runtime="embedded", axes={"slurm": "22.05", "enroot": None}),
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
    tests=(TestOutcome(name="t::a", outcome=TestState.FAILED, seconds=0.5, message="wörld\nmore"),),
)


def junit(path: Path, *cases: str) -> Path:
    path.write_text(
        f'<?xml version="1.0"?><testsuites><testsuite name="pytest">{"".join(cases)}</testsuite></testsuites>'
    )
    return path


def case(name: str, inner: str = "") -> str:
    return f'<testcase classname="tests.test_x" name="{name}" time="0.25">{inner}</testcase>'


def outcomes(*states: str) -> list[TestOutcome]:
    return [TestOutcome(name=f"t{n}", outcome=TestState(state)) for n, state in enumerate(states)]


# -- result.json ----------------------------------------------------------------------------------------------------


def test_a_result_survives_being_written_and_read(tmp_path: Path) -> None:
    path = store.suite_folder(tmp_path, RESULT.run, RESULT.cell_id, RESULT.suite) / "result.json"
    store.write(RESULT, path)
    assert path.relative_to(tmp_path).as_posix() == "r1/slurm22.05-embedded-amd64/pyxis_basic/result.json"
    loaded = store.load(path)
    assert loaded.seconds == 12.346
    assert replace(loaded, seconds=0) == replace(RESULT, seconds=0)


def test_the_same_result_gives_the_same_bytes_in_sorted_order(tmp_path: Path) -> None:
    store.write(RESULT, tmp_path / "a")
    store.write(store.load(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    data = json.loads((tmp_path / "a").read_text())
    assert list(data) == sorted(data)
    assert data["schema"] == 1
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
    cell = loading.load().cell("slurm22.05-embedded-amd64")
    assert msgspec.json.decode(msgspec.json.encode(CellRecord.of(cell))) == cell.as_json()


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
        ({"schema": 99}, "schema 99, and this version of pyxis-matrix knows 1"),
        ({"schema": 99, "suite": 3, "more": 1}, "of a newer schema"),
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


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\x00"])
def test_what_is_no_result_is_an_error_not_a_traceback(tmp_path: Path, content: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(ResultsError):
        store.load(path)


def test_a_run_is_loaded_in_order_and_its_broken_results_are_named(tmp_path: Path) -> None:
    for suite in ("registry", "pyxis_basic"):
        store.write(RESULT, tmp_path / "cell-a" / suite / "result.json")
    (tmp_path / "cell-b" / "registry").mkdir(parents=True)
    (tmp_path / "cell-b" / "registry" / "result.json").write_text("{")
    loaded, problems = store.load_run(tmp_path)
    assert len(loaded) == 2
    assert len(problems) == 1
    assert "cell-b" in str(problems[0])


def test_a_run_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such run"):
        store.load_run(tmp_path / "r9")


def test_the_latest_run_is_the_one_written_last(tmp_path: Path) -> None:
    for name, time in (("zzz", 1_000), ("aaa", 2_000)):
        path = tmp_path / name / "cell" / "suite" / "result.json"
        store.write(RESULT, path)
        os.utime(path, (time, time))
    assert store.latest_run(tmp_path).name == "aaa"


def test_no_results_is_an_error_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nox -s pyxis_basic"):
        store.latest_run(tmp_path)


def test_only_cells_with_real_enroot_and_pyxis_are_real() -> None:
    assert not RESULT.real
    real = replace(RESULT, cell=CellRecord(id="x", runtime="nvidia"))
    legacy = replace(RESULT, cell=CellRecord(id="x", runtime="legacy"))
    assert real.real
    assert not legacy.real


# -- junit.xml ------------------------------------------------------------------------------------------------------


def test_each_kind_of_test_is_told_apart(tmp_path: Path) -> None:
    path = junit(
        tmp_path / "junit.xml",
        case("ok"),
        case("bad", '<failure message="assert 1 == 2&#10;more">trace</failure>'),
        case("broken", '<error message="failed on setup with &quot;OSError: x&quot;">E   OSError: x</error>'),
        case("left_out", '<skipped type="pytest.skip" message="no GPU">x</skipped>'),
        case("known", '<skipped type="pytest.xfail" message="pyxis#175"/>'),
    )
    tests = read_junit(path)
    assert [test.outcome for test in tests] == ["passed", "failed", "error", "skipped", "xfailed"]
    assert tests[0] == TestOutcome(name="tests.test_x::ok", outcome=TestState.PASSED, seconds=0.25)
    assert tests[1].message == "assert 1 == 2\nmore"
    assert tests[2].message == 'failed on setup with "OSError: x"'
    assert tests[3].message == "no GPU"


def test_a_collection_error_tells_its_cause(tmp_path: Path) -> None:
    inner = '<error message="collection failure">x.py:1: in x\nE   ModuleNotFoundError: no module y</error>'
    (test,) = read_junit(junit(tmp_path / "junit.xml", case("x", inner)))
    assert test.message == "collection failure: ModuleNotFoundError: no module y"


def test_a_failure_without_message_uses_its_last_line(tmp_path: Path) -> None:
    (test,) = read_junit(junit(tmp_path / "junit.xml", case("x", "<failure>one\ntwo</failure>")))
    assert test.message == "two"


def test_a_test_reported_twice_counts_once_with_the_worse_outcome(tmp_path: Path) -> None:
    path = junit(tmp_path / "junit.xml", case("x"), case("y"), case("x", '<error message="failed on teardown"/>'))
    assert [(test.name[-1], test.outcome.value) for test in read_junit(path)] == [("x", "error"), ("y", "passed")]


def test_an_odd_duration_is_no_reason_to_fail(tmp_path: Path) -> None:
    (test,) = read_junit(junit(tmp_path / "junit.xml", '<testcase name="x" time=""/>'))
    assert (test.name, test.seconds) == ("x", 0.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "wrote no report"),
        ("", "broken off"),
        ('<?xml version="1.0"?><testsuites><testsuite name="py', "broken off"),
        ('<?xml version="1.0" encoding="klingon"?><testsuites/>', "can't be read"),
        ("<html/>", "starts with <html>"),
    ],
)
def test_a_report_that_is_missing_or_broken_is_an_error_with_words(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "junit.xml"
    if content is not None:
        path.write_text(content)
    (test,) = read_junit(path)
    assert test.outcome is TestState.ERROR
    assert words in test.message
    assert str(path) in test.message
    assert outcome_of(0, [test]) is Outcome.ERROR


def test_a_report_without_tests_is_empty(tmp_path: Path) -> None:
    assert read_junit(junit(tmp_path / "junit.xml")) == ()


# -- the suite's outcome --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_code", "states", "expected"),
    [
        (0, ["passed", "passed"], "passed"),
        (0, ["passed", "skipped", "xfailed"], "passed"),
        (0, [], "failed"),
        (5, [], "failed"),
        (5, ["skipped"], "failed"),
        (0, ["skipped", "skipped"], "skipped"),
        (0, ["xfailed"], "skipped"),
        (1, ["passed", "failed"], "failed"),
        (1, ["failed", "error"], "failed"),
        (1, ["passed", "error"], "error"),
        (1, ["passed"], "failed"),
        (0, ["passed", "failed"], "failed"),
        (0, ["passed", "error"], "error"),
        (2, ["error"], "error"),
        (2, ["passed"], "interrupted"),
        (2, [], "interrupted"),
        (130, ["passed", "failed"], "interrupted"),
        (-15, [], "interrupted"),
        (143, ["passed"], "interrupted"),
        (3, ["passed"], "error"),
        (4, [], "error"),
        (-9, ["passed"], "error"),
        (127, [], "error"),
    ],
)
def test_the_outcome_of_a_suite(exit_code: int, states: Sequence[str], expected: str) -> None:
    assert outcome_of(exit_code, outcomes(*states)) is Outcome(expected)


@pytest.mark.parametrize("exit_code", [-15, -9, 0, 1, 2, 3, 4, 5, 130])
@pytest.mark.parametrize("states", [[], ["skipped"], ["xfailed", "skipped"], ["failed"], ["passed", "error"]])
def test_nothing_is_passed_without_a_passed_test_or_with_a_bad_one(exit_code: int, states: Sequence[str]) -> None:
    assert outcome_of(exit_code, outcomes(*states)) is not Outcome.PASSED
