"""The command `compare` with a profile: two cells as they are with a site's settings, run with these first."""

import argparse
from pathlib import Path

from msgspec.structs import replace
import pytest

from ci.cli import groups
from ci.matrix.profiles import Profile
from ci.record.store import CellRecord, Result
from tests.support import results as made
from tests.support.compared import FIRST, SECOND, SUITE, Compare, on
from tests.support.profiles import MakeProfile

WELL = [on(FIRST), on(SECOND)]


def test_what_is_compared_with_a_profile_is_run_with_it_and_called_by_its_name(
    compare: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_profile: MakeProfile
) -> None:
    folder = make_profile({"slurm.conf": "KillWait=5\n"})
    label = Profile.of(folder).label
    asked: list[argparse.Namespace] = []

    def with_it(of: CellRecord, versions: str = label) -> Result:
        done = on(replace(of, id=f"{of.id}+mine", profile="mine"))
        return replace(done, versions={**done.versions, "profile": versions})

    def matrix(parsed: argparse.Namespace) -> int:
        asked.append(parsed)
        made.write(tmp_path / "results", *(replace(with_it(it), run=parsed.run) for it in (FIRST, SECOND)))
        return 0

    monkeypatch.setattr(groups, "matrix", matrix)
    words = (FIRST.id, SECOND.id, "--profile", folder)
    # Of the plain cells all is known, and with other files in the profile as well: neither says anything of it.
    code, _, err = compare([*WELL, *(with_it(it, "mine 0badf00d") for it in (FIRST, SECOND))], *words)
    assert (code, f"no results of {FIRST.id}+mine and {SECOND.id}+mine" in err) == (40, True), err
    assert "next: the same again with --run" in err
    code, out, _ = compare([], *words, "--run")
    (found,) = asked
    assert (found.cells, found.profile) == ([FIRST.id, SECOND.id], folder)
    assert (code, out.partition(";")[0]) == (0, "the same")
    assert f"{FIRST.id}+mine" in compare([], *words, "--format", "json")[1]


def test_a_profile_needs_cells_that_are_named_and_that_it_is_for(compare: Compare, make_profile: MakeProfile) -> None:
    code, _, err = compare(WELL, "--from", "slurm=24.11.6", "--to", "slurm=24.11.7", "--profile", "strict")
    assert (code, "--profile cannot be used with --from and --to" in err) == (11, True), err
    folder = make_profile({"profile.toml": 'pyxis = "<0.20"\n'})
    code, _, err = compare(WELL, FIRST.id, SECOND.id, "--profile", folder)
    assert (code, "the profile mine cannot be laid over" in err) == (29, True), err


def test_only_the_suites_that_are_named_are_run(
    compare: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[argparse.Namespace] = []

    def matrix(parsed: argparse.Namespace) -> int:
        asked.append(parsed)
        made.write(tmp_path / "results", *(replace(it, run=parsed.run) for it in WELL))
        return 0

    monkeypatch.setattr(groups, "matrix", matrix)
    compare(WELL, FIRST.id, SECOND.id, "--run", "--suite", "slurm_facts", "--suite", SUITE)
    assert [(it.cells, it.suites) for it in asked] == [([FIRST.id, SECOND.id], ["slurm_facts"])]
    code, _, err = compare([], FIRST.id, SECOND.id, "--suite", "slurm_facts")
    assert (code, "--suite says what --run runs" in err) == (11, True), err
    code, _, err = compare([], FIRST.id, SECOND.id, "--run", "--suite", "slurm_fact")
    assert (code, "did you mean" in err) == (11, True), err
