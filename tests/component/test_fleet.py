"""The plan of a fleet: what git says has changed, and what GitLab and a shell make of what is written."""

from collections.abc import Callable
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

from ci.errors import MatrixError, SelectionError
from ci.fleet.affected import MATRIX, PINS
from ci.fleet.formats import formats
from ci.fleet.model import FleetPlan
from ci.fleet.planning import FleetRequest, of_arch, plan_fleet
from ci.fleet.revision import changes_since
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.mentioned import requested_cells
from ci.matrix.model import Matrix
from ci.matrix.suites import requested_suites as suites_of
from ci.options import Options
from ci.paths import REPOSITORY

Git = Callable[..., str]
PIN = '[[artefact]]\npath = "{path}"\nsha256 = "{sha256:0>64}"\nsize = 1\ndate = 2026-11-25\n'
ARCHIVE = f"""\
[[archive]]
path = "v1.tar.gz"
commit = "{{commit:0>40}}"
tar-sha256 = "{0:064}"
tar-size = 1
date = 2026-11-25
"""


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


def test_the_source_of_a_tag_is_compared_by_its_content_and_its_commit(git: Git, folder: Path) -> None:
    (folder / PINS).write_text(ARCHIVE.format(commit="1"), encoding="utf-8")
    git("commit", "--quiet", "--all", "--message", "an archive")

    (folder / PINS).write_text("# a remark\n" + ARCHIVE.format(commit="1"), encoding="utf-8")
    assert changes_since("HEAD", folder).pins == frozenset()
    (folder / PINS).write_text(ARCHIVE.format(commit="2"), encoding="utf-8")
    assert changes_since("HEAD", folder).pins == {"v1.tar.gz"}


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


def test_the_repository_that_a_hook_works_in_is_another_one(
    git: Git, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "new").touch()
    assert git("status")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of-a-hook"))
    assert changes_since("HEAD", folder).files == ("new",)


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"not a checkout of git[\s\S]*not a git repository"):
        changes_since("main", tmp_path)


def test_a_machine_without_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SelectionError, match=r"not a checkout of git[\s\S]*failed to start git"):
        changes_since("main", tmp_path)


# -- what other programs make of a plan ------------------------------------------------------------------------------


@pytest.fixture
def plan() -> Callable[..., FleetPlan]:
    """Return a function that plans a group for an image cache, or for a change that affects nothing."""
    rows = loading.load()

    def planned(group: str, shards: int, *, arch: Arch | None = None, nothing: bool = False) -> FleetPlan:
        asked = FleetRequest(
            suites=suites_of(["pyxis_basic"]),
            group=group,
            shards=shards,
            options=Options(run="r"),
            image_cache="registry.example/cache",
            since='it\'s "odd"' if nothing else "",
            runners=formats()["text"].runners,
        )
        return plan_fleet(
            of_arch(requested_cells([], group, rows, Arch.AMD64, {}), arch, group),
            rows,
            asked,
            {},
            {} if nothing else None,
        )

    return planned


@pytest.mark.parametrize("nothing", [False, True])
def test_gitlab_understands_its_pipeline(plan: Callable[..., FleetPlan], tmp_path: Path, *, nothing: bool) -> None:
    file = tmp_path / "child.yml"
    file.write_text(formats()["gitlab"].write(plan("edges", 7, nothing=nothing)), encoding="utf-8")
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci", str(file)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


class Site:
    """A folder that stands for a checkout on a cluster, and a Slurm that only notes what it is given."""

    def __init__(self, folder: Path, text: str) -> None:
        """Put the script there."""
        self._folder = folder
        self._script = folder / "plan.sh"
        self._script.write_text(text, encoding="utf-8")
        self._program("ci/bootstrap", 'echo "$PYXIS_MATRIX_RUN ${PYXIS_MATRIX_RESULTS:-results} $*"')
        self._program("bin/sbatch", 'echo "$*" >> "$NOTES"; wc -l < "$NOTES"')

    def _program(self, name: str, line: str) -> None:
        file = self._folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        file.chmod(0o755)

    def run(self, *arguments: str, task: str = "") -> tuple[int, str]:
        """Run the script; return exit status and output."""
        env = {"PATH": f"{self._folder / 'bin'}:{os.defpath}", "NOTES": str(self._folder / "notes")}
        env |= {"SLURM_ARRAY_TASK_ID": task} if task else {}
        done = subprocess.run(
            ["bash", str(self._script), *arguments], env=env, check=False, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def submitted(self) -> list[str]:
        """What sbatch was given, without the script's name."""
        return (self._folder / "notes").read_text(encoding="utf-8").replace(f"{self._script} ", "").splitlines()


def test_each_task_of_the_array_job_does_its_part(
    plan: Callable[..., FleetPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci.paths.REPOSITORY", tmp_path)
    made = plan("embedded", 2, arch=Arch.AMD64)
    site = Site(tmp_path, formats()["sbatch"].write(made))
    for number, shard in enumerate(made.shards, start=1):
        assert site.run(task=str(number)) == (0, f"r results/fleet-r/shards-{number} {shard.command}\n")
    assert site.run("images", task="1") == (0, f"r results/fleet-r/images-1 {made.images[0].command}\n")
    assert site.run("report", task="1") == (0, "r results nox -s report -- fleet-r\n")
    assert site.run(task="3") == (2, "there is no task 3 of shards\n")


def test_one_command_submits_all_in_order(
    plan: Callable[..., FleetPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci.paths.REPOSITORY", tmp_path)
    made = plan("embedded", 2, arch=Arch.AMD64)
    site = Site(tmp_path, formats()["sbatch"].write(made))
    status, said = site.run("submit", "--partition=x")
    assert status == 0, said
    assert site.submitted == [
        f"--parsable --array=1-{len(made.images)} --partition=x images",
        "--parsable --dependency=afterany:1 --partition=x shards",
        "--parsable --array=1 --dependency=afterany:2 --partition=x report",
    ]


def test_a_script_without_a_shard_says_so(plan: Callable[..., FleetPlan], tmp_path: Path) -> None:
    site = Site(tmp_path, formats()["sbatch"].write(plan("embedded", 2, nothing=True)))
    assert site.run() == (0, 'nothing to run: no cell can be affected by what has changed since it\'s "odd"\n')
