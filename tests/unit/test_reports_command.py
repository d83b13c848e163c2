"""The command `report`: what it prints, what it writes, and how it ends."""

from datetime import timedelta
import json
import os
from pathlib import Path

import pytest

from ci import paths
from ci.cli.main import main
from ci.record.outcomes import Outcome
from tests.support import results as made
from tests.support.results import BEGIN, cell, result

REAL = cell("22.05", "debian12", "3.4.1", "0.19.0")
FILES = ["compat.json", "compat.md", "junit.xml", "report.html"]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of results, with two runs; the later one failed."""
    folder = tmp_path / "results"
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(folder))
    made.write(folder, result(REAL, run="old"), result(REAL, "registry", run="old"))
    (new,) = made.write(folder, result(REAL, outcome=Outcome.FAILED, run="new", started=BEGIN + timedelta(days=1)))
    for path in folder.rglob("old/**/result.json"):
        os.utime(path, (1, 1))
    assert new.is_dir()
    return folder


Capture = pytest.CaptureFixture[str]


def test_without_names_the_latest_run_is_printed(results: Path, capsys: Capture) -> None:
    assert main(["report"]) == 0
    out = capsys.readouterr().out
    assert "✗ failed" in out
    assert "registry" not in out
    assert f"logs: {results / 'new' / REAL.id / 'pyxis_basic/logs'}" in out


def test_several_runs_are_printed_as_one_with_the_newest_of_each_suite(results: Path, capsys: Capture) -> None:
    assert main(["report", "new", str(results / "old")]) == 0
    out = capsys.readouterr().out
    summary, _, _ = out.partition("\n\n")
    assert [line.split()[1] for line in summary.splitlines() if REAL.id in line] == ["passed", "failed"]


@pytest.mark.usefixtures("results")
def test_other_formats_are_printed_too(capsys: Capture) -> None:
    assert main(["report", "old", "--format", "md"]) == 0
    assert capsys.readouterr().out.startswith("# Container jobs on Slurm")
    assert main(["report", "old", "new", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [run["id"] for run in data["runs"]] == ["new", "old"]
    assert data["cells"][0]["suites"][0]["folder"].split("/")[0] in {"old", "new"}, "links are relative to both"


def test_a_report_that_is_read_elsewhere_leads_to_no_files(results: Path, capsys: Capture) -> None:
    folder = results / "report"
    assert main(["report", "--output", str(folder), "--without-files"]) == 0
    data = json.loads((folder / "compat.json").read_text())
    assert [suite.keys() & {"folder", "files"} for suite in data["cells"][0]["suites"]] == [set(), set()]
    assert not [file.name for file in folder.iterdir() if str(results) in file.read_text()]
    assert main(["report", "--without-files"]) == 0
    assert "logs:" not in capsys.readouterr().out


def test_a_report_in_files_is_made_of_all_runs(results: Path, capsys: Capture) -> None:
    folder = results / "report"
    assert main(["report", "--output", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    data = json.loads((folder / "compat.json").read_text())
    assert {suite["suite"]: suite["state"] for suite in data["cells"][0]["suites"]} == {
        "pyxis_basic": "failed",
        "registry": "passed",
    }
    assert "real cells: 1 failed" in capsys.readouterr().err
    # Its own folder lies within the results, and is none.
    assert main(["report", "--output", str(folder)]) == 0
    assert json.loads((folder / "compat.json").read_text())["cells"] == data["cells"]


@pytest.mark.usefixtures("results")
def test_the_report_before_is_found_in_the_folder_or_named(tmp_path: Path) -> None:
    assert main(["report", "old", "--output", str(tmp_path / "a")]) == 0
    assert "changes" not in json.loads((tmp_path / "a/compat.json").read_text())
    for previous in ([], ["--previous", str(tmp_path / "a")], ["--previous", str(tmp_path / "a/compat.json")]):
        where = tmp_path / ("b" if previous else "a")
        assert main(["report", "old", "new", "--output", str(where), *previous]) == 0
        changes = json.loads((where / "compat.json").read_text())["changes"]["items"]
        assert [(it["kind"], it["suite"]) for it in changes] == [("broken", "pyxis_basic")]


def test_results_that_can_not_be_read_are_named_and_end_with_an_error_after_all_is_written(
    results: Path, tmp_path: Path, capsys: Capture
) -> None:
    bad = results / "run/cell/suite/result.json"
    bad.parent.mkdir(parents=True)
    bad.write_text("{")
    assert main(["report", "--output", str(tmp_path / "out")]) == 40
    error = capsys.readouterr().err
    assert str(bad) in error
    assert "1 of the results could not be read" in error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    assert "## Could not be read" in (tmp_path / "out/compat.md").read_text()


def test_a_broken_report_before_is_kept_and_told(results: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "compat.json").write_text("{")
    assert main(["report", "--output", str(tmp_path), str(results)]) == 0
    assert "compat-unreadable.json" in capsys.readouterr().err
    assert (tmp_path / "compat-unreadable.json").read_text() == "{"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], "run not found: 'nope'"),
        (["old", "--previous", "nope.json", "--output", "x"], "failed to read a report"),
    ],
)
def test_what_is_not_there_is_one_message(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, words: list[str], said: str
) -> None:
    monkeypatch.chdir(results)
    assert main(["report", *words]) == 40
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_matrix_that_is_broken_does_not_stop_a_report(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "matrix.toml").write_text("schema = ")
    monkeypatch.setattr(paths, "MATRIX_FILE", tmp_path / "matrix.toml")
    assert main(["report", str(results), "--output", str(tmp_path / "out")]) == 0
    assert "does not say why cells are missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "said"), [(True, ""), (False, "no browser was found to open; open this yourself: file:///")]
)
def test_the_page_is_opened_where_there_is_a_browser(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, said: str, *, there: bool
) -> None:
    opened: list[str] = []

    def open_(address: str) -> bool:
        opened.append(address)
        return there

    monkeypatch.setattr("webbrowser.open", open_)
    assert main(["report", "--open"]) == 0
    assert opened == [(results / "report/report.html").as_uri()]
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in (results / "report").iterdir()) == FILES


@pytest.mark.parametrize("words", [["--history", "0"], ["--history", "x"], ["--port", "70000"]])
def test_numbers_that_make_no_sense_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", *words])
