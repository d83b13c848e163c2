"""The files of CI services: they call nox and hold nothing else, least of all a copy of the matrix."""

import argparse
from pathlib import Path
import re

import pytest

from ci.cli.main import parser
from ci.images.cache import READ_ONLY_VARIABLE
from ci.matrix import loading
from ci.matrix.suites import SUITES

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github/workflows/ci.yml"
GITLAB = ROOT / "ci/gitlab-ci.yml"
# What other repositories include: tests/unit/test_ci_of_others.py
ACTION, OF_OTHERS = ROOT / ".github/actions/cells/action.yml", ROOT / "ci/gitlab-cells.yml"
WORKFLOWS = sorted(GITHUB.parent.glob("*.yml"))
each_file = pytest.mark.parametrize("file", [*WORKFLOWS, GITLAB], ids=lambda file: file.name)
each_plan = pytest.mark.parametrize("file", [GITHUB, GITLAB], ids=lambda file: file.name)

BESIDE_NOX = {".ci/run", ".github/machine", 'cat results/report/compat.md >> "$GITHUB_STEP_SUMMARY"', "exit 1"}
VARIABLES = re.compile(r"\$\{\{.*?\}\}|\"?\$\w+\"?")


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def commands(file: Path) -> list[str]:
    """Return the lines that a shell gets."""
    of_steps = re.findall(r"^      [- ] run: (.*)$", text_of(file), re.MULTILINE)
    return of_steps or re.findall(r"^    - (?!if: )(.*)$", text_of(file), re.MULTILINE)


@each_file
def test_a_file_calls_nox_and_nothing_else(file: Path) -> None:
    found = commands(file)
    assert found
    assert [it for it in found if not re.match("ci/bootstrap nox (-t \\w+ )?-s ", it) and it not in BESIDE_NOX] == []


@each_plan
@pytest.mark.project_matrix
def test_the_options_that_it_gives_to_the_plan_are_understood(file: Path) -> None:
    given = [re.split(r" nox -s plan -- ", command)[1] for command in commands(file) if " nox -s plan " in command]
    given += re.findall(r"['\"](--group .*?)['\"]", text_of(file))
    assert len(given) > 1
    for options in given:
        words = VARIABLES.sub("", re.sub(r"(--output) \S+", r"\1 file", options)).split()
        asked = parser().parse_args(["plan", *words], argparse.Namespace())
        assert asked.group is None or loading.load().group(asked.group)
        assert set(asked.suites) <= SUITES.keys()


@pytest.mark.parametrize("file", [*WORKFLOWS, GITLAB, ACTION, OF_OTHERS], ids=lambda file: file.name)
@pytest.mark.project_matrix
def test_no_cell_is_named(file: Path) -> None:
    versions = {str(version) for cell in loading.load().all_cells(None) for version in (cell.enroot, cell.pyxis)}
    assert re.findall(r"slurm\d", text_of(file)) == []
    assert [version for version in versions - {"None"} if version in text_of(file)] == []


@pytest.mark.parametrize("file", [*WORKFLOWS, ACTION], ids=lambda file: file.name)
def test_every_action_is_pinned_by_commit_with_its_version_beside_it(file: Path) -> None:
    used = re.findall(r"uses: (.*)$", text_of(file), re.MULTILINE)
    assert used
    assert [it for it in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", it)] == []


@pytest.mark.project_matrix
def test_a_release_takes_nothing_at_first_sight_and_the_watch_changes_nothing() -> None:
    (release,) = (line for line in commands(GITHUB.with_name("release.yml")) if " nox -s " in line)
    asked = parser().parse_args(release.replace(" -- ", " ").split()[3:], argparse.Namespace())
    assert (asked.strict, asked.group) == (True, "reference")
    assert loading.load().group(asked.group)
    assert commands(GITHUB.with_name("watch.yml")) == ["ci/bootstrap nox -s bump -- --check"]


def test_only_the_default_branch_fills_the_image_cache() -> None:
    """Nobody has looked at what pull requests build; those of the same repository get a token that can write."""
    jobs = re.split(r"^  (?=[\w-]+:$)", text_of(GITHUB).partition("\njobs:\n")[2], flags=re.MULTILINE)
    writing = [job for job in jobs if "packages: write" in job]
    assert [job.partition(":")[0] for job in writing] == ["images"]
    (condition,) = re.findall(r"^    if: (.*)$", writing[0], re.MULTILINE)
    wanted = {
        "needs.plan.outputs.images != ''",
        "github.event_name != 'pull_request'",
        "github.ref == 'refs/heads/main'",
    }
    assert set(condition.split(" && ")) == wanted
    assert f"{READ_ONLY_VARIABLE}: ${{{{ github.ref != 'refs/heads/main' && '1' || '' }}}}" in text_of(GITHUB)

    rules = re.split(r"^    - ", text_of(GITLAB).partition("  rules:\n")[2].partition("\nplan:")[0], flags=re.MULTILINE)
    writing = [rule for rule in rules if rule and READ_ONLY_VARIABLE not in rule]
    assert len(rules) - 1 == 3
    # The first rule that holds counts, and those before it are of merge requests and of other branches.
    assert writing == rules[3:]
    assert rules[1].startswith('if: $CI_PIPELINE_SOURCE == "merge_request_event"')
    assert rules[2].startswith("if: $CI_COMMIT_BRANCH != $CI_DEFAULT_BRANCH &&")


def test_one_job_stands_for_all() -> None:
    jobs = re.findall(r"^  ([\w-]+):$", text_of(GITHUB).partition("\njobs:\n")[2], re.MULTILINE)
    needed = re.search(r"name: all green\n.*\n    needs: \[(.*)\]", text_of(GITHUB))
    assert needed
    assert set(needed[1].split(", ")) == set(jobs) - {"all-green"}


def test_jobs_behind_one_that_may_be_skipped_say_when_they_run() -> None:
    """GitHub skips a job if any job above it was skipped, unless its condition names a status."""
    jobs = re.split(r"^  (?=[\w-]+:$)", text_of(GITHUB).partition("\njobs:\n")[2], flags=re.MULTILINE)
    behind = [job for job in jobs if re.search(r"needs: .*(?:images|shards|report)", job)]
    assert len(behind) > 3
    assert [job for job in behind if "cancelled()" not in job and "if: always()" not in job] == []
