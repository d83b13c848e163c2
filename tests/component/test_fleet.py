"""The plan of a fleet in a real repository of git: what has changed since a revision."""

from collections.abc import Callable
from pathlib import Path
import shutil
import subprocess

import pytest

from ci.errors import MatrixError, SelectionError
from ci.fleet.affected import MATRIX, PINS
from ci.fleet.revision import changes_since
from ci.matrix.model import Matrix
from ci.paths import REPOSITORY

Git = Callable[..., str]
PIN = '[[artefact]]\npath = "{path}"\nsha256 = "{sha256}"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkout"


@pytest.fixture
def git(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Make a repository with one commit on `main`, and return git in it."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    folder.mkdir()

    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout

    ask("init", "--quiet", "--initial-branch", "main")
    shutil.copy(REPOSITORY / MATRIX, folder / MATRIX)
    (folder / "containers").mkdir()
    (folder / PINS).write_text(PIN.format(path="a", sha256="1") + PIN.format(path="b", sha256="1"), encoding="utf-8")
    for name in ("kept", "moved", "removed"):
        (folder / name).write_text(f"{name}\n" * 9, encoding="utf-8")
    (folder / ".gitignore").write_text("results/\n", encoding="utf-8")
    ask("add", "--all")
    ask("commit", "--quiet", "--message", "one")
    return ask


def test_all_kinds_of_changes_are_seen(git: Git, folder: Path) -> None:
    git("switch", "--quiet", "--create", "work")
    git("mv", "moved", "moved here")
    git("commit", "--quiet", "--message", "two")
    git("rm", "--quiet", "removed")
    (folder / "kept").write_text("edited\n", encoding="utf-8")
    (folder / "new\nfile é").touch()
    (folder / "results").mkdir()
    (folder / "results/ignored").touch()
    change = changes_since("main", folder)
    assert set(change.files) == {"moved", "moved here", "removed", "kept", "new\nfile é"}
    assert (change.since, change.before, change.pins) == ("main", None, frozenset())


def test_what_happened_on_the_other_branch_meanwhile_is_not_a_change(git: Git, folder: Path) -> None:
    git("switch", "--quiet", "--create", "work")
    git("commit", "--quiet", "--allow-empty", "--message", "mine")
    git("switch", "--quiet", "main")
    (folder / "kept").write_text("theirs\n", encoding="utf-8")
    git("commit", "--quiet", "--all", "--message", "theirs")
    git("switch", "--quiet", "work")
    assert changes_since("main", folder).files == ()


def test_the_matrix_and_the_pins_are_compared_by_what_they_say(git: Git, folder: Path) -> None:
    assert git("rev-parse", "HEAD")
    with (folder / MATRIX).open("a", encoding="utf-8") as file:
        file.write("# one more word\n")
    (folder / PINS).write_text(PIN.format(path="b", sha256="2") + PIN.format(path="c", sha256="1"), encoding="utf-8")
    change = changes_since("HEAD", folder)
    assert isinstance(change.before, Matrix)
    assert change.pins == {"a", "b", "c"}


def test_a_matrix_of_old_that_was_wrong_is_no_error(git: Git, folder: Path) -> None:
    text = (folder / MATRIX).read_text(encoding="utf-8")
    (folder / MATRIX).write_text("schema = 99\n", encoding="utf-8")
    git("commit", "--quiet", "--all", "--message", "wrong")
    (folder / MATRIX).write_text(text, encoding="utf-8")
    assert isinstance(changes_since("HEAD", folder).before, MatrixError)


@pytest.mark.parametrize("revision", ["nowhere", "--output=x", "", "main:kept"])
def test_a_revision_that_is_none_is_refused(git: Git, folder: Path, revision: str) -> None:
    assert git("status")
    with pytest.raises(SelectionError, match=r"was not found[\s\S]*fetch-depth: 0"):
        changes_since(revision, folder)


def test_histories_without_a_common_commit_are_refused(git: Git, folder: Path) -> None:
    git("switch", "--quiet", "--orphan", "other")
    git("commit", "--quiet", "--allow-empty", "--message", "other")
    with pytest.raises(SelectionError, match="nothing in common"):
        changes_since("main", folder)


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"no checkout of git[\s\S]*not a git repository"):
        changes_since("main", tmp_path)


def test_a_machine_without_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SelectionError, match=r"no checkout of git[\s\S]*failed to start git"):
        changes_since("main", tmp_path)
