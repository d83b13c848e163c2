"""Candidates of a checkout: git is asked for its state, and nothing in the checkout is changed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
import os
from pathlib import Path
import subprocess
import tarfile

from packaging.version import Version
import pytest

from ci import paths
from ci.artefacts import candidates
from ci.artefacts.checkout import Checkout, state_of
from ci.bisect import steps
from ci.bisect.steps import Span
from ci.errors import CandidateError, SelectionError
from ci.matrix import loading
from ci.matrix.cells import Candidate
from ci.options import Options
from ci.options.values import Origin

ROWS = loading.load()
MAKEFILE = "PYXIS_VER ?= {}\nPLUGIN := spank_pyxis.so\n"
Git = Callable[..., str]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Return a function that runs git in a new repository."""
    folder = tmp_path / "pyxis"
    folder.mkdir()
    who = {f"GIT_{role}_{what}": "someone" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def run(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **who}).stdout

    run("init", "--quiet", "--initial-branch", "main")
    return run


@pytest.fixture
def checkout(tmp_path: Path, git: Git) -> Path:
    """Return a checkout of a small Pyxis with three commits; the second one is tagged."""
    folder = tmp_path / "pyxis"
    for number, release in enumerate(("0.19.0", "0.20.0", "0.20.0")):
        write(folder, {"Makefile": MAKEFILE.format(release), "args.c": f"/* {number} */\n", ".gitignore": "*.o\n"})
        git("add", ".")
        git("commit", "--quiet", "--message", f"Commit {number}")
        if number == 1:
            git("tag", "v0.20.0")
    return folder


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def read(origin: Origin) -> tuple[Candidate, Origin | None]:
    put = candidates.read(Options(pyxis=origin), ROWS)
    (found,) = put.found
    return found, put.options.pyxis


def members(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        return {
            it.name: archive.extractfile(it).read().decode()  # type: ignore[union-attr]
            for it in archive
            if it.isfile()
        }


def test_a_revision_is_named_by_its_commit_and_archived(checkout: Path, git: Git) -> None:
    commit = git("rev-parse", "v0.20.0").strip()
    found, nailed = read(Origin(path=checkout, revision="v0.20.0"))
    assert (found.text, found.commit) == (f"0.20.0+g{commit[:7]}", commit)
    assert nailed == Origin(path=checkout, revision=commit)
    (file,) = found.files
    top = f"pyxis-{found.text}"
    assert members(file)[f"{top}/args.c"] == "/* 1 */\n"
    assert read(Origin(path=checkout, revision=commit))[0].files == (file,), "the same commit is the same archive"


def test_a_clean_working_tree_is_its_commit(checkout: Path, git: Git) -> None:
    write(checkout, {"args.o": "ignored\n"})
    found, nailed = read(Origin(path=checkout))
    assert found.commit == git("rev-parse", "HEAD").strip()
    assert nailed == Origin(path=checkout, revision=found.commit)


def test_uncommitted_changes_are_marked_and_the_checkout_stays_as_it_is(checkout: Path, git: Git) -> None:
    write(checkout, {"args.c": "changed\n", "new.c": "new\n", "args.o": "ignored\n"})
    git("add", "new.c")
    (checkout / ".gitignore").unlink()
    write(checkout, {".gitignore": "*.o\n"})
    state, head = git("status", "--porcelain"), git("rev-parse", "HEAD").strip()
    found, nailed = read(Origin(path=checkout))
    assert found.text.startswith(f"0.20.0+g{head[:7]}.dirty")
    (file,) = found.files
    inside = {name.partition("/")[2]: text for name, text in members(file).items()}
    assert (inside["args.c"], inside["new.c"]) == ("changed\n", "new\n")
    assert "args.o" not in inside
    assert git("status", "--porcelain") == state
    assert (git("rev-parse", "HEAD").strip(), git("stash", "list")) == (head, "")
    assert git("rev-parse", f"{found.commit}^").strip() == head, "git show COMMIT shows the changes"
    write(checkout, {"args.c": "changed again\n"})
    again = read(Origin(path=checkout))[0]
    assert again.version != found.version, "another state has another name"
    assert nailed
    assert read(nailed)[0] == found, "what a run was begun with stays the same for its other processes"


def test_a_folder_below_stands_for_the_whole_checkout(checkout: Path) -> None:
    (checkout / "docs").mkdir()
    assert read(Origin(path=checkout / "docs"))[0] == read(Origin(path=checkout))[0]


def test_a_bare_repository_has_revisions(checkout: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run(["git", "clone", "--quiet", "--bare", checkout, bare], check=True)
    assert read(Origin(path=bare))[0].commit == read(Origin(path=checkout))[0].commit
    assert read(Origin(path=bare, revision="v0.20.0"))[0].release == "0.20.0"


def test_an_archive_that_git_made_is_named_by_its_commit(checkout: Path, tmp_path: Path, git: Git) -> None:
    file = tmp_path / "mine.tar.gz"
    git("archive", "--format=tar.gz", "--prefix=x/", f"--output={file}", "v0.20.0")
    found, _ = read(Origin(path=file))
    assert found.text == f"0.20.0+g{git('rev-parse', 'v0.20.0')[:7]}"
    with tarfile.open(tmp_path / "own.tar", "w") as archive:
        archive.add(checkout, "x")
    assert read(Origin(path=tmp_path / "own.tar"))[0].text.startswith("0.20.0+s")


@pytest.mark.parametrize(
    ("revision", "says"), [("v9.9.9", "no revision 'v9.9.9'"), ("--all", "no revision '--all'"), ("HEAD~9", "HEAD~9")]
)
def test_a_revision_that_is_not_there_is_refused(checkout: Path, revision: str, says: str) -> None:
    with pytest.raises(CandidateError, match=says):
        read(Origin(path=checkout, revision=revision))


def test_another_project_is_refused(checkout: Path, git: Git, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CandidateError, match="not a git checkout"):
        read(Origin(path=tmp_path / "empty"))
    with pytest.raises(CandidateError, match="this is not Slurm"):
        candidates.read(Options(slurm=Origin(path=checkout)), ROWS)
    write(checkout, {"Makefile": "all:\n"})
    git("commit", "--all", "--quiet", "--message", "Another")
    with pytest.raises(CandidateError, match="its Makefile is another project's"):
        read(Origin(path=checkout))


def test_without_git_it_is_git_that_is_missing_and_not_the_checkout(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CandidateError, match="without git") as caught:
        read(Origin(path=checkout))
    assert caught.value.next_step == "install git"
    assert state_of(checkout) == ""


def test_the_state_of_a_checkout_says_its_commit_and_whether_files_were_changed(
    checkout: Path, git: Git, tmp_path: Path
) -> None:
    head = git("rev-parse", "HEAD").strip()
    assert state_of(checkout) == head
    write(checkout, {"args.c": "/* mine */\n"})
    assert state_of(checkout) == f"{head}-dirty"
    assert state_of(tmp_path) == ""


def test_commits_between_two_are_those_of_the_line_oldest_first(checkout: Path, git: Git) -> None:
    first, second, third = git("rev-list", "--reverse", "HEAD").split()
    there = Checkout.at(checkout)
    assert there.between(first, third) == (second, third)
    with pytest.raises(CandidateError, match="--bad is older than --good"):
        there.between(third, first)
    git("switch", "--quiet", "--create", "side", first)
    write(checkout, {"side.c": "\n"})
    git("add", ".")
    git("commit", "--quiet", "--message", "Side")
    with pytest.raises(CandidateError, match="is on another branch"):
        there.between(third, git("rev-parse", "HEAD").strip())


def test_the_option_is_written_as_it_is_read(checkout: Path) -> None:
    options = replace(Options(), pyxis=Origin(path=checkout, revision="HEAD@{0}"))
    assert read(Origin(path=checkout, revision="HEAD@{0}"))[0].release == "0.20.0"
    assert str(options.pyxis) == f"{checkout}@HEAD@{{0}}"


def test_a_bisection_goes_through_commits_by_revision_or_version(checkout: Path, git: Git) -> None:
    write(checkout, {"Makefile": MAKEFILE.format("0.21.0")})
    git("commit", "--all", "--quiet", "--message", "Release 0.21.0")
    git("tag", "v0.21.0")
    cell = ROWS.cell("slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64")
    span = Span(axis="pyxis", good="0.20.0", bad="HEAD")
    found = steps.commits(span, Checkout.at(checkout), cell, Options())
    assert [step.title for step in found] == ["Commit 1", "Commit 2", "Release 0.21.0"]
    assert [step.name for step in found] == git("log", "--reverse", "--format=%h", "--abbrev=7", "-n", "3").split()
    assert {step.options.answers_of for step in found} == {(("pyxis", Version("0.20.0")),)}
    ids = [candidates.read(step.options, ROWS).into(step.cell).id for step in found]
    assert ids == [
        f"slurm22.05-enroot3.4.1-pyxis{release}+g{step.name}-debian12-amd64"
        for release, step in zip(("0.20.0", "0.20.0", "0.21.0"), found, strict=True)
    ]
    with pytest.raises(CandidateError, match="--bad is older than --good"):
        steps.commits(replace(span, good="0.21.0", bad="0.20.0"), Checkout.at(checkout), cell, Options())
    with pytest.raises(SelectionError, match="the same commit"):
        steps.commits(replace(span, good="0.21.0", bad="v0.21.0"), Checkout.at(checkout), cell, Options())
    with pytest.raises(CandidateError, match="no revision '0\\.30\\.0'"):
        steps.commits(replace(span, bad="0.30.0"), Checkout.at(checkout), cell, Options())
