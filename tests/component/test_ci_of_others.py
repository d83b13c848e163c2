"""What other repositories take into their CI, as a shell runs it; the programs only note how they were called."""

from dataclasses import dataclass
import os
from pathlib import Path
import subprocess

import pytest

from ci.images.cache import READ_ONLY_VARIABLE, VARIABLE
from tests.support.ci_of_others import ACTION, GITLAB, main_script

MACHINE = os.uname().machine
NOTE = '#!/bin/bash\necho "${0##*/} $*" >> "$NOTES"\n'
# What is in the virtual environment; one of the two cells is listed with a remark.
INSTALLED = {
    "pip": "",
    "pytest": 'exit "$PYTEST_ENDS"',
    "pyxis-matrix": """\
case $1 in
  cells)
    echo "$PYXIS_MATRIX_IMAGE_CACHE|$PYXIS_MATRIX_IMAGE_CACHE_READ_ONLY|$PYXIS_MATRIX_RESULTS" > "$NOTES.variables"
    [ -z "$NO_CELLS" ] || exit 11; printf 'one\\tuntried: x\\ntwo\\n' ;;
  suite) [ "$2" != "$BAD_CELL" ] || exit 3 ;;
esac""",
}
INPUTS = {
    "INPUT_TOOL": "the tool",
    "INPUT_CELLS": "--group g",
    "INPUT_PYTEST": "tests -k *",
    "INPUT_SUITE": "own --on login",
    "INPUT_PACKAGES": "-e .[test]",
}
ENDS = {"PYTEST_ENDS": "0", "BAD_CELL": "", "NO_CELLS": "", "REFUSED": ""}
ON_MAIN = {"CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main", "CI_REGISTRY": "registry.example"}
BEGINNING = ["pyxis-matrix setup", f"pyxis-matrix cells --group g --arch {MACHINE}"]
ALL = [
    *BEGINNING,
    "pytest --cell=one --cell=two tests -k *",
    "pyxis-matrix suite one -- own --on login",
    "pyxis-matrix suite two -- own --on login",
    "pyxis-matrix report --output results/report",
]


@dataclass(frozen=True)
class Ran:
    """What a job came to."""

    status: int
    said: str
    calls: list[str]
    variables: list[str]
    """The image cache, whether it may be read only, the folder for results: as the program saw them."""


@dataclass(frozen=True)
class Job:
    """A job in a repository of others."""

    folder: Path
    file: Path

    def run(self, **environ: str) -> Ran:
        """Run it with these variables, beside those that every job has."""
        notes = self.folder / "notes"
        own = {"GITHUB_ACTION_PATH": str(ACTION.parent), "RUNNER_TEMP": str(self.folder), "NOTES": str(notes)}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", main_script(self.file)],
            cwd=self.folder / "a repository",
            env={**INPUTS, **ENDS, **ON_MAIN, **own, "PATH": path, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        seen = notes.with_name("notes.variables")
        return Ran(
            status=done.returncode,
            said=done.stderr,
            calls=notes.read_text().splitlines() if notes.exists() else [],
            variables=seen.read_text().strip().split("|") if seen.exists() else [],
        )


@pytest.fixture(params=[ACTION, GITLAB], ids=lambda file: file.name)
def job(tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    """Make a repository, a Python whose environments have the programs above, and a docker."""
    for folder in ("bin", "env", "a repository"):
        (tmp_path / folder).mkdir()
    programs = {f"env/{name}": NOTE + text for name, text in INSTALLED.items()}
    programs["bin/python3"] = f'#!/bin/bash\nmkdir -p "$4" && cp -R {tmp_path}/env "$4/bin"\n'
    programs["bin/docker"] = NOTE + '[ -z "$REFUSED" ]\n'
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "a repository/file").touch()  # what a pattern in an input would find
    return Job(tmp_path, request.param)


def test_all_is_run_with_the_words_of_the_inputs_and_patterns_stay(job: Job) -> None:
    ran = job.run()
    assert ran.status == 0, ran.said
    tool = f"{ACTION.parent}/../../.." if job.file == ACTION else "the tool"
    assert ran.calls == [f"pip install --quiet {tool} pytest -e .[test]", *ALL]
    assert ran.variables[2] == str(job.folder / "a repository/results")


@pytest.mark.parametrize("fault", [{"PYTEST_ENDS": "1"}, {"BAD_CELL": "one"}, {"BAD_CELL": "two"}])
def test_a_failure_makes_the_job_red_and_keeps_nothing_else_from_running(job: Job, fault: dict[str, str]) -> None:
    ran = job.run(**fault)
    assert ran.status in {1, 3}
    assert ran.calls[1:] == ALL


def test_only_what_was_asked_for_is_run(job: Job) -> None:
    assert job.run(INPUT_SUITE="").calls[1:] == [*ALL[:3], ALL[-1]]
    (job.folder / "notes").unlink()
    assert job.run(INPUT_PYTEST="").calls[1:] == [*ALL[:2], *ALL[3:]]


def test_without_cells_nothing_is_run(job: Job) -> None:
    """Without `--cell` the plugin skips the tests, and pytest ends with 0."""
    ran = job.run(NO_CELLS="1")
    assert ran.status == 11
    assert ran.calls[1:] == BEGINNING


def test_nothing_to_run_is_an_error_before_anything_is_installed(job: Job) -> None:
    ran = job.run(INPUT_PYTEST="", INPUT_SUITE="")
    assert ran.status != 0
    assert "INPUT_SUITE: it is missing, and pytest as well" in ran.said
    assert ran.calls == []


@pytest.mark.parametrize("fault", ["", "it is refused"])
def test_a_login_that_is_refused_ends_the_job_before_anything_is_started(job: Job, fault: str) -> None:
    host = "ghcr.io" if job.file == ACTION else "registry.example"
    user = {"GITHUB_ACTOR": "me", "TOKEN": "x"} if job.file == ACTION else {"CI_REGISTRY_USER": "me"}
    ran = job.run(**user, **{VARIABLE: f"{host}/Group/image-cache"}, REFUSED=fault)
    *_, setup, login = ran.calls[:3]
    assert (setup, login) == ("pyxis-matrix setup", f"docker login {host} --username me --password-stdin")
    assert (ran.status, ran.calls[3:]) == ((0, ALL[1:]) if not fault else (1, []))
    if not fault:
        assert ran.variables[0] == f"{host}/{'group' if job.file == ACTION else 'Group'}/image-cache"


def test_no_login_where_there_is_no_cache(job: Job) -> None:
    ran = job.run(**{VARIABLE: "", "GITHUB_ACTOR": "me", "TOKEN": "x"}, REFUSED="it would be refused")
    assert (ran.status, ran.calls[1:]) == (0, ALL)


@pytest.mark.parametrize("job", [GITLAB], indirect=True)
def test_on_gitlab_the_default_branch_alone_fills_the_cache_of_a_project_that_has_one(job: Job) -> None:
    cache = "registry.example/g/p/image-cache"
    assert job.run(**{VARIABLE: cache}).variables[:2] == [cache, ""]
    assert job.run(**{VARIABLE: cache}, CI_COMMIT_BRANCH="other").variables[:2] == [cache, "1"]
    assert job.run(**{VARIABLE: cache}, CI_COMMIT_BRANCH="").variables[:2] == [cache, "1"], "a merge request"
    assert job.run(**{VARIABLE: "/image-cache"}, CI_REGISTRY="").variables[:2] == ["", ""]
    assert READ_ONLY_VARIABLE in main_script(GITLAB)
