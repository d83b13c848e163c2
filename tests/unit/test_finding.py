"""`ci.report.finding`: folders that anybody may have made are not trusted, and do not stop the rest."""

import json
import os
from pathlib import Path

import pytest

from ci.errors import ResultsError
from ci.record import store
from ci.record.outcomes import Outcome
from ci.report import finding
from ci.report.finding import FoundResult
from ci.report.model import Problem, Unfinished
from tests.support import results as made
from tests.support.results import cell, result

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
GOOD = result(REAL)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a folder with one good result."""
    made.write(tmp_path / "results", GOOD)
    return tmp_path / "results"


def found(*roots: Path) -> tuple[list[FoundResult], list[str], list[Unfinished]]:
    items = list(finding.find(roots))
    return (
        [it for it in items if isinstance(it, FoundResult)],
        [f"{it.where}: {it.what}" for it in items if isinstance(it, Problem)],
        [it for it in items if isinstance(it, Unfinished)],
    )


def test_what_a_run_left_is_found_with_its_files(results: Path) -> None:
    ((good,), problems, unfinished) = found(results)
    assert (good.result.cell_id, problems, unfinished) == (REAL.id, [], [])
    assert good.files == ("result.json", "logs/slurmctld.log")
    assert good.link(results / "report") == f"../{GOOD.run}/{REAL.id}/pyxis_basic/"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "a result is invalid"),
        ('{"schema": 4, "run": "r', "a result is invalid"),
        ('{"some": "other tool"}', "missing required field `schema`"),
        ('{"schema": 99}', "has another schema"),
        ("[" * 100_000, "a result is invalid"),
        ("\x00" * 100, "a result is invalid"),
        ('{"schema": 4, "run": "\udcff"}', "a result is invalid"),  # no UTF-8
        ('{"schema": 0}', "schema 0, and this version"),
    ],
)
def test_a_result_that_can_not_be_read_is_named_and_the_rest_is_there(results: Path, content: str, words: str) -> None:
    bad = results / "run/cell/suite/result.json"
    bad.parent.mkdir(parents=True)
    bad.write_text(content, errors="surrogateescape")
    (good, (problem,), _) = found(results)
    assert len(good) == 1
    assert problem.startswith(str(bad))
    assert words in problem


def test_links_are_not_followed_and_are_named(tmp_path: Path, results: Path) -> None:
    outside = tmp_path / "outside"
    made.write(outside, result(cell("24.11", "debian13", "3.4.1", "0.19.0")))
    (results / "run/cell/suite").mkdir(parents=True)
    (target,) = outside.rglob("result.json")
    (results / "run/cell/suite/result.json").symlink_to(target)
    (results / "all").symlink_to(outside)
    (results / "loop").symlink_to(results)
    (good, problems, _) = found(results)
    assert len(good) == 1
    assert len(problems) == 3
    assert "links are not followed" in "".join(problems)


def test_files_that_are_links_are_not_shown(tmp_path: Path, results: Path) -> None:
    (tmp_path / "secret").mkdir()
    folder = results / GOOD.run / REAL.id / "pyxis_basic"
    (folder / "junit.xml").symlink_to("/etc/passwd")
    (folder / "logs/slurmctld.log").unlink()
    (folder / "logs").rmdir()
    (folder / "logs").symlink_to(tmp_path / "secret")
    (found_,) = found(results)[0]
    assert found_.files == ("result.json",)


def test_what_would_block_a_reader_is_not_opened(results: Path) -> None:
    folder = results / "run/cell/suite"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "result.json")
    assert "not a regular file" in found(results)[1][0]


def test_a_huge_junit_file_beside_a_result_is_not_read(results: Path) -> None:
    with (results / GOOD.run / REAL.id / "pyxis_basic/junit.xml").open("wb") as file:
        file.truncate(100 << 20)
    ((good,), problems, _) = found(results)
    assert problems == []
    assert good.files == ("result.json", "junit.xml", "logs/slurmctld.log")


def test_where_a_result_says_it_is_from_does_not_decide_where_its_links_lead(tmp_path: Path) -> None:
    odd = cell("22.05", "debian12", "3.4.1", "0.19.0")
    store.write(result(odd, "../../../etc", run="../../x"), tmp_path / "results/r/<b>%2e%2e/s/result.json")
    ((good,), _, _) = found(tmp_path / "results")
    assert good.link(tmp_path) == "results/r/%3Cb%3E%252e%252e/s/"


def test_a_suite_that_has_begun_and_has_no_result_is_unfinished(results: Path) -> None:
    folder = results / "r9" / "a-cell" / "registry"
    folder.mkdir(parents=True)
    lines = [
        '{"$report_type": "TestReport", "when": "teardown"}',
        '{"when": "call"}',
        "not json",
        "[" * 100_000,
        '{"wh',
    ]
    (folder / "reportlog.jsonl").write_text("\n".join(lines))
    (_, problems, (unfinished,)) = found(results)
    assert unfinished == Unfinished(cell="a-cell", suite="registry", run="r9", tests=1)
    assert problems == []


@pytest.mark.parametrize("content", ["[" * 200_000, '{"schema": 1, "run": "\udcff"}', "", '{"schema": 9}'])
def test_a_plan_that_can_not_be_read_is_named_and_the_rest_is_there(results: Path, content: str) -> None:
    (results / GOOD.run / "matrix.json").write_text(content, errors="surrogateescape")
    (good, (problem,), _) = found(results)
    assert len(good) == 1
    assert "the plan of a run is invalid" in problem


def test_names_that_are_no_text_are_shown_as_what_can_be_printed(tmp_path: Path) -> None:
    folder = os.fsdecode(b"r\xff")
    made.write(tmp_path / folder, GOOD)
    (logs,) = (tmp_path / folder).rglob("logs")
    (logs / os.fsdecode(b"\xff.log")).touch()
    (tmp_path / folder / "x\x1b[2J\n::error::y").mkdir()
    (tmp_path / folder / "x\x1b[2J\n::error::y" / "result.json").touch()
    begun = tmp_path / folder / "cell" / folder
    begun.mkdir(parents=True)
    (begun / "reportlog.jsonl").touch()
    ((good,), (problem,), (unfinished,)) = found(tmp_path)
    assert good.files == ("result.json", "logs/")
    assert good.link(tmp_path).startswith("r%FF/")
    assert problem.startswith(f"{tmp_path}/r\N{REPLACEMENT CHARACTER}/x\\x1b[2J\\n::error::y/result.json: ")
    assert unfinished.suite == "r\N{REPLACEMENT CHARACTER}"


def test_folders_below_folders_end_somewhere(results: Path) -> None:
    deep = results.joinpath(*"abcdefghijk")
    deep.mkdir(parents=True)
    (deep / "result.json").write_text("{}")
    (good, (problem,), _) = found(results)
    assert len(good) == 1
    assert "not searched" in problem


# -- names of folders -----------------------------------------------------------------------------------------------

NAMES = ("logs", "bisect", "report", "environment", "images", "up", "command", "results", "output.log", "asked.json")
"""What folders and files among results are called, now or in an earlier version."""


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_of_any_name_is_found(tmp_path: Path, name: str) -> None:
    made.write(tmp_path, result(REAL, name, outcome=Outcome.FAILED), result(REAL, "other"))
    for root in (tmp_path, tmp_path / GOOD.run, tmp_path / GOOD.run / REAL.id):
        assert {it.result.suite for it in found(root)[0]} == {name, "other"}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_name_is_found(tmp_path: Path, name: str) -> None:
    made.write(tmp_path, result(REAL, outcome=Outcome.FAILED, run=name), result(REAL, run="other"))
    assert {it.result.run for it in found(tmp_path)[0]} == {name, "other"}
    assert [it.result.run for it in found(tmp_path / name)[0]] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_runs_of_any_name_is_looked_into(tmp_path: Path, name: str) -> None:
    made.write(tmp_path / name, GOOD)
    assert len(found(tmp_path)[0]) == 1


def test_what_a_suite_wrote_among_its_logs_is_no_result(results: Path) -> None:
    logs = results / GOOD.run / REAL.id / "pyxis_basic/logs"
    made.write(logs / "suite", result(REAL, "registry", run="copied"))
    (logs / "result.json").write_text("{")
    assert [(it.result.suite, problems) for good, problems, _ in [found(results)] for it in good] == [
        ("pyxis_basic", [])
    ]


def step_of_a_bisection(results: Path, *, run: str = "b1") -> Path:
    """Write a step of a bisection where `bisect` does, and return the folder of bisections."""
    folder = results / "bisect"
    (step,) = made.write(folder, result(REAL, outcome=Outcome.FAILED, run=run))
    words = ["python", "-m", "ci", "run", REAL.id, "--run", run, "--results", str(folder), "--", "pytest"]
    (step / "asked.json").write_text(json.dumps(words))
    return folder


def test_a_bisection_is_left_out_unless_it_is_named_itself(results: Path) -> None:
    folder = step_of_a_bisection(results)
    assert [it.result.run for it in found(results)[0]] == [GOOD.run]
    for named in (folder, folder / "b1", folder / "b1" / REAL.id):
        assert [it.result.run for it in found(named)[0]] == ["b1"]
    moved = results.parent / "moved"
    folder.rename(moved)
    assert found(results.parent)[0][-1].result.run == GOOD.run
    assert [it.result.run for it in found(moved)[0]] == ["b1"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '["x"]', '["--results", "/x/results"]', "[" * 100_000])
def test_what_only_has_the_name_of_a_bisections_file_hides_no_result(tmp_path: Path, content: str) -> None:
    (folder,) = made.write(tmp_path / "shard-1", result(REAL, outcome=Outcome.FAILED))
    (folder / "asked.json").write_text(content)
    assert [it.result.outcome for it in found(tmp_path)[0]] == [Outcome.FAILED]


def test_a_run_called_like_the_folder_of_bisections_is_found_beside_them(results: Path) -> None:
    step_of_a_bisection(results)
    made.write(results, result(REAL, outcome=Outcome.FAILED, run="bisect"))
    assert {it.result.run for it in found(results)[0]} == {GOOD.run, "bisect"}


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    assert found(tmp_path) == ([], [], [])


# -- names on the command line --------------------------------------------------------------------------------------


def test_runs_are_named_by_id_or_by_folder(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results)
    run = results / GOOD.run
    assert finding.places([GOOD.run], results) == (run,)
    assert finding.places([GOOD.run], Path("/nowhere")) == (run,)
    assert finding.places([str(run), GOOD.run], results) == (run,)
    assert finding.places([GOOD.run, str(results)], results) == (results,), "a folder inside another is read once"


def test_every_run_that_is_not_found_is_named(results: Path) -> None:
    with pytest.raises(ResultsError, match="run not found: 'r1', ''") as caught:
        finding.places(["r1", GOOD.run, ""], results)
    assert f"`ls {results}`" in str(caught.value)


def test_the_signature_changes_with_a_result_and_with_a_log_that_grows(results: Path) -> None:
    before = finding.signature([results])
    assert finding.signature([results]) == before
    made.write(results, result(REAL, "registry"))
    with_two = finding.signature([results])
    log = results / "r" / "c" / "s" / "reportlog.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("{}")
    assert len({before, with_two, finding.signature([results])}) == 3
