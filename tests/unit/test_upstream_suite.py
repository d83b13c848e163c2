"""How Pyxis' own suite is read: its tests, the command for one, its answer, and the list of what is not applicable."""

import io
from pathlib import Path
import re
import tarfile

from packaging.version import Version
import pytest

from tests.support import not_applicable
from tests.support.bats_suite import Case, State, cases, failing_command, packed_tests, parse, verdict

LIST = Path(__file__).parents[1] / "integration" / "upstream" / "not_applicable.toml"

SOURCE = r"""
load ./common

@test "plain name" {
    true
}

@test "\$HOME (a|b) special" {
    true
}
"""


def archive(folder: Path) -> Path:
    path = folder / "v1.tar.gz"
    with tarfile.open(path, "w:gz") as target:
        for name in ("pyxis-1/README.md", "pyxis-1/tests/b.bats", "pyxis-1/tests/sub/a.bats", "pyxis-1/tests/x.bash"):
            entry = tarfile.TarInfo(name)
            entry.size = len(SOURCE.encode())
            target.addfile(entry, io.BytesIO(SOURCE.encode()))
    return path


def test_tests_of_an_archive_are_found_by_file_and_name(tmp_path: Path) -> None:
    assert [case.id for case in cases(archive(tmp_path))] == [
        "b.bats: plain name",
        "b.bats: $HOME (a|b) special",
        "sub/a.bats: plain name",
        "sub/a.bats: $HOME (a|b) special",
    ]


def test_only_the_folder_with_the_tests_is_handed_to_the_cluster(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed_tests(archive(tmp_path)))) as found:
        assert sorted(found.getnames()) == ["tests/b.bats", "tests/sub/a.bats", "tests/x.bash"]


@pytest.mark.parametrize("description", ["$HOME (a|b) special", r"\$HOME (a|b) special"])
def test_filter_selects_a_test_whether_bats_shows_its_name_or_its_source(description: str) -> None:
    case = list(parse("b.bats", SOURCE))[1]
    found = re.search(r"--filter '([^']*)'", case.command())
    assert found
    # A backslash in brackets stands for itself in bash, and for the next character in Python.
    assert re.search(found[1].replace("[\\]", r"[\\]"), description)
    assert not re.search(found[1].replace("[\\]", r"[\\]"), "other " + description)


def test_batch_scripts_are_submitted_outside_of_a_job() -> None:
    assert "salloc" in Case(file="name.bats", name="x").command()
    assert "salloc" not in Case(file="sbatch/sbatch.bats", name="x").command()


@pytest.mark.parametrize(
    ("line", "state", "reason"),
    [
        ("ok 1 plain name", State.OK, ""),
        ("not ok 1 plain name", State.NOT_OK, ""),
        ("ok 1 plain name # skip no NVIDIA GPUs", State.SKIPPED, "no NVIDIA GPUs"),
    ],
)
def test_verdict(line: str, state: State, reason: str) -> None:
    found = verdict(Case(file="b.bats", name="plain name"), f"1..1\n{line}\n# what it printed\n")
    assert (found.state, found.reason) == (state, reason)


def test_the_command_that_failed_stands_first() -> None:
    tap = "1..1\nnot ok 1 it\n# (in test file tests/a.bats, line 5)\n#   `run_srun true' failed\n# + srun true\n"
    assert failing_command(tap) == "`run_srun true' failed"
    assert failing_command("1..1\nnot ok 1 it\n") == "1..1"


@pytest.mark.parametrize("answer", ["1..0", "1..1", "1..2\nok 1 plain name\nok 2 plain name", "1..1\nok 1 another"])
def test_anything_but_the_result_of_this_one_test_is_an_error(answer: str) -> None:
    with pytest.raises(AssertionError):
        verdict(Case(file="b.bats", name="plain name"), answer)


def load(path: Path, pyxis: str, enroot: str) -> not_applicable.Rules:
    return not_applicable.load(path, pyxis=Version(pyxis), enroot=Version(enroot), slurm=Version("22.05"))


def test_entries_hold_for_the_releases_that_they_name(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text(
        '[[not-applicable]]\ntests = ["a.bats: one [x]"]\nreason = "r"\nsays = "no such image"\n'
        'pyxis = ">=0.20"\nenroot = "<4"\n'
        '[skips]\n"no GPU" = "a GPU"\n[alone]\ntests = ["a.bats: *"]\n'
        '[[second-try]]\ntests = ["*.bats: one*"]\nsays = "not started"\nreason = "r"\n',
        encoding="utf-8",
    )
    rules = load(path, "0.20.0", "3.5.0")
    assert rules.entry("a.bats: one [x]")
    assert rules.entry("a.bats: one x") is None
    assert rules.is_alone("a.bats: two")
    assert not rules.is_alone("b.bats: two")
    assert rules.why_again("b.bats: one", "it has not started yet") == "not started: r"
    assert not rules.why_again("b.bats: one", "another failure")
    assert not rules.why_again("b.bats: two", "it has not started")
    # What can't pass is tried again until it says why.
    assert rules.why_again("a.bats: one [x]", "it has not started")
    assert not rules.why_again("a.bats: one [x]", "it has not started: no such image")
    assert load(path, "0.19.0", "3.5.0").entries == ()
    assert load(path, "0.20.0", "4.0.1").entries == ()


@pytest.mark.parametrize("pyxis", ["0.18.0", "0.19.0", "0.24.0"])
def test_the_list_can_be_read(pyxis: str) -> None:
    assert load(LIST, pyxis, "3.4.1").skips
