"""The command `plan`: what is typed, what is refused, and where the plan goes."""

import json
from pathlib import Path
from typing import Any

import pytest

from ci.cli.main import main
from ci.errors import DiskFullError, ProfileError, ResultsError, SelectionError
from ci.fleet import revision
from ci.fleet.affected import ChangeSet
from ci.images import cache

EMBEDDED = ("--group", "embedded", "--arch", "amd64", "--suite", "pyxis_basic")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have no earlier results, and no choice of a group, a run or a cache from outside."""
    for name in ("PYXIS_MATRIX_RUN", "PYXIS_MATRIX_GROUP", cache.VARIABLE, cache.READ_ONLY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path / "results"))


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Return the plan that the command prints as JSON."""
    assert main(["plan", *words, "--format", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert isinstance(plan, dict)
    return plan


def test_the_run_is_the_one_that_was_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, *EMBEDDED, "--run", "mine")["run"] == "mine"


def test_cells_can_be_named_in_place_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    (shard,) = planned(capsys, *EMBEDDED)["shards"]
    name = shard["cells"][0]["id"]
    plan = planned(capsys, name, name, "--suite", "registry")
    assert plan["group"] == ""
    assert [it["id"] for it in plan["shards"][0]["cells"]] == [name]


def test_cells_and_what_else_says_which_do_not_go_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (shard,) = planned(capsys, *EMBEDDED)["shards"]
    name = shard["cells"][0]["id"]
    assert main(["plan", name, "--group", "embedded"]) == SelectionError.exit_code
    assert main(["plan", name, "--arch", "arm64"]) == SelectionError.exit_code
    assert main(["plan", "embedded"]) == SelectionError.exit_code
    said = capsys.readouterr().err
    assert "cells and a group are both named" in said
    assert f"--arch arm64 leaves out a cell that is named: {name}" in said
    assert "it is a group" in said
    assert main(["plan", *EMBEDDED, "--earlier", str(tmp_path / "none")]) == ResultsError.exit_code
    assert f"there is no folder {tmp_path / 'none'}" in capsys.readouterr().err


def test_runners_and_the_image_cache_are_those_that_were_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, "registry.example/cache")
    plan = planned(capsys, *EMBEDDED, "--runner", "x86_64=big")
    assert plan["image_cache"] == "registry.example/cache"
    assert plan["images"][0]["runner"] == plan["shards"][0]["runner"] == "big"
    monkeypatch.setenv(cache.READ_ONLY_VARIABLE, "1")
    plan = planned(capsys, *EMBEDDED)
    assert (plan["image_cache"], plan["images"]) == ("registry.example/cache", [])


def test_only_what_a_change_affects_is_planned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "changes_since", lambda since: ChangeSet(since=since, files=("docs/ci.md",)))
    plan = planned(capsys, *EMBEDDED, "--changed-since", "main", "--shards", "2")
    assert (plan["since"], plan["shards"], plan["suites"]) == ("main", [], [])
    monkeypatch.setattr(revision, "changes_since", lambda since: ChangeSet(since=since, files=("ci/x.py",)))
    assert len(planned(capsys, *EMBEDDED, "--changed-since", "main", "--shards", "2")["shards"]) == 2


def test_outputs_of_github_are_appended_and_all_else_replaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out"
    file.write_text("before=1\n", encoding="utf-8")
    assert main(["plan", *EMBEDDED, "--format", "github", "--output", str(file)]) == 0
    names = [line.partition("=")[0] for line in file.read_text(encoding="utf-8").splitlines()]
    assert names == ["before", "run", "suites", "images", "shards"]
    assert "shard 1 of 1, on amd64" in capsys.readouterr().out  # the log of the job has the plan for people
    assert main(["plan", *EMBEDDED, "--format", "json", "--output", str(file)]) == 0
    assert json.loads(file.read_text(encoding="utf-8"))["schema"] == 1


def test_a_place_that_can_not_be_written_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *EMBEDDED, "--output", str(tmp_path / "no/such/folder")]) == ResultsError.exit_code
    said = capsys.readouterr().err
    assert "writing the plan failed" in said
    assert "choose another place with --output" in said
    assert main(["plan", *EMBEDDED, "--output", "/dev/full"]) == DiskFullError.exit_code
    assert "where: /dev/full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--group", "embeded"], "did you mean 'embedded'"),
        (["--suite", "pyxis_basics"], "did you mean 'pyxis_basic'"),
        (["--shards", "99"], "--shards 99 is more than there are cells"),
        (["slurm99.99-embedded"], "there is no cell"),
        (["--keep"], "--keep cannot be used with a group"),
        (["--group", "embedded", "--ssh-port", "5"], "--ssh-port can be given for one cell only"),
        (["--group", "embedded", "--suite", "pyxis_upstream"], "none of these suites runs"),
    ],
)
def test_what_can_not_be_planned_is_one_message(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) == SelectionError.exit_code
    shown = capsys.readouterr()
    assert says in shown.err.replace("\n", " ")
    assert shown.out == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shards", "0"], "0 is not a number of shards"),
        (["--shards", "-1"], "-1 is not a number of shards"),
        (["--shards", "x"], "invalid"),
        (["--format", "circle"], "invalid choice: 'circle'"),
        (["--arch", "riscv"], "unknown architecture 'riscv'"),
        (["--runner", "amd64"], "is not ARCH=LABEL"),
        (["--runner", "riscv=x"], "unknown architecture 'riscv'"),
        (["--runner", "amd64=$(x)"], "is not ARCH=LABEL"),
    ],
)
def test_nonsense_is_refused_with_the_options_name(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", *words])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert words[0] in error


def test_a_profile_leaves_out_the_cells_that_it_is_not_for_and_is_handed_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/profile.toml").write_text('pyxis = ">=0.21"\n', encoding="utf-8")
    words = ("--group", "edges", "--profile", str(tmp_path / "mine"))
    plan = planned(capsys, *words)
    reasons = {it["id"]: it["reason"] for it in plan["left_out"]}
    assert {name.partition("-")[2].split("-")[0] for name in reasons} >= {"legacy", "enroot3.4.1"}
    assert all(why.startswith("the profile mine is not for it: ") for why in reasons.values())
    cells = [it["id"] for shard in plan["shards"] for it in shard["cells"]]
    assert cells
    assert not set(cells) & set(reasons)
    assert all(tuple(shard["arguments"][-2:]) == words[-2:] for shard in plan["shards"])


def test_a_named_cell_that_a_profile_is_not_for_is_refused_and_not_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/profile.toml").write_text('slurm = "<22"\n', encoding="utf-8")
    (shard,) = planned(capsys, *EMBEDDED)["shards"]
    assert main(["plan", shard["cells"][0]["id"], "--profile", str(tmp_path / "mine")]) == ProfileError.exit_code
    assert "it is for Slurm <22" in capsys.readouterr().err
