"""What other repositories take into their CI: a GitHub action and a file for GitLab. Both only ask the program."""

import argparse
from importlib.resources import files
import json
from pathlib import Path
import re
import shlex
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it comes with check-jsonschema, in the group lint
import pytest

from ci.cli.main import parser
from ci.images.cache import READ_ONLY_VARIABLE, VARIABLE
from ci.installed import plugin
from ci.matrix import loading
from ci.paths import RESULTS_VARIABLE
from tests.support.ci_of_others import ACTION, GITLAB, ROOT, documents, job, main_script, scripts, steps

PAGE = ROOT / "docs/ci-of-your-project.md"
CELL = "slurm22.05-embedded-debian12-amd64"
# What the shell puts in the place of what stands in a script: every value that users may give.
VALUES = {
    "$INPUT_CELLS": ("", CELL, f"{CELL} {CELL}", "--group embedded"),
    "$INPUT_SUITE": ("tests/integration", "tests --on login --with pytest-timeout -k x"),
    '"$cell"': (CELL,),
    '"$(uname -m)"': ("x86_64", "aarch64"),
}

PROGRAM = re.compile(r"(?:^|\$\(|do )(?:\S+/)?pyxis-matrix\"? ([a-z].*?)(?: \||;|\)$|$)", re.MULTILINE)


def inputs(file: Path) -> dict[str, dict[str, Any]]:
    first = documents(file.read_text(encoding="utf-8"))[0]
    found: dict[str, dict[str, Any]] = (first.get("spec") or first)["inputs"]
    return found


def lines_of_tests(file: Path) -> list[str]:
    return main_script(file).splitlines()


each_file = pytest.mark.parametrize("file", [ACTION, GITLAB], ids=lambda file: file.name)


def filled_in(value: Any) -> Any:  # noqa: ANN401 - what YAML has
    """Return a part of GitLab's file with the defaults of its inputs, as GitLab puts them in."""
    if isinstance(value, dict):
        return {filled_in(key): filled_in(each) for key, each in value.items()}
    if isinstance(value, list):
        return [filled_in(each) for each in value]
    name = re.fullmatch(r"\$\[\[ inputs\.([\w-]+) \]\]", str(value))
    return inputs(GITLAB)[name[1]].get("default", "given") if name else value


def test_gitlabs_file_fits_gitlabs_schema() -> None:
    """The action is checked by `nox -s lint`; check-jsonschema reads no file of two documents."""
    schema = json.loads(files("check_jsonschema").joinpath("builtin_schemas/vendor/gitlab-ci.json").read_text())
    head, jobs = documents(GITLAB.read_text(encoding="utf-8"))
    jsonschema.validate(head, schema)
    jsonschema.validate(filled_in(jobs), schema)


def test_both_take_the_same_inputs_and_run_the_tests_in_the_same_way() -> None:
    github, gitlab = inputs(ACTION), inputs(GITLAB)
    assert {"cells", "pytest", "suite", "packages", "image-cache"} == github.keys()
    assert gitlab.keys() - github.keys() == {"tool", "job", "stage", "tags"}
    for name, each in github.items():
        assert each["description"] == gitlab[name]["description"]
        assert name == "image-cache" or each["default"] == gitlab[name]["default"] == ""
    assert all(each["default"].endswith("/image-cache") for each in (github["image-cache"], gitlab["image-cache"]))
    assert [name for name, each in gitlab.items() if "default" not in each] == ["tool"]
    of_both, action = lines_of_tests(GITLAB), lines_of_tests(ACTION)
    assert of_both[:2] == action[:2]
    install = ['pip install --quiet "$tool" pytest $INPUT_PACKAGES', "pyxis-matrix setup"]
    shared = action[action.index('cells=$(pyxis-matrix cells $INPUT_CELLS --arch "$(uname -m)" | cut -f 1)') :]
    assert of_both[-len(shared) :] == shared
    for lines, login in ((of_both, "docker login"), (action, "/machine")):
        (at,) = (place for place, line in enumerate(lines) if login in line)
        assert lines[(begin := lines.index(install[0])) : begin + 2] == install
        assert begin + 1 < at < lines.index(shared[0]), "it takes an engine's client"


@pytest.mark.parametrize("file", [ACTION, GITLAB, ROOT / ".github/machine"], ids=lambda file: file.name)
def test_only_the_tests_and_the_report_may_fail_and_the_job_goes_on(file: Path) -> None:
    """Each of them is the job's status in the end; whatever else fails ends it at once."""
    text = main_script(file) if file.suffix == ".yml" else file.read_text(encoding="utf-8")
    assert re.search(r"^set -e\w*o pipefail", text, re.MULTILINE)
    assert re.findall(r"\|\| (?!status=\$\?|pytest |export )[^|\n]*", text) == []


@each_file
def test_inputs_reach_the_shell_as_variables_and_in_no_other_way(file: Path) -> None:
    """What stands in a value would otherwise be run."""
    assert [it for it in scripts(file) if "${{" in it or "$[[" in it] == []
    given: dict[str, str] = job()["variables"]
    if file == ACTION:
        given = {name: value for step in steps() for name, value in step.get("env", {}).items()}
    for name in ("cells", "pytest", "suite", "packages"):
        assert re.fullmatch(rf"\$(?:\{{\{{|\[\[) inputs\.{name} (?:\}}\}}|\]\])", given[f"INPUT_{name.upper()}"])
    assert "inputs.image-cache" in given[VARIABLE]
    used = set(re.findall(r"\$\{?(INPUT_\w+)", "\n".join(scripts(file))))
    assert used == {name for name in given if name.startswith("INPUT_")}


def lines_of_the_program(file: Path) -> list[list[str]]:
    """Return each command line of the program, with every value of what the shell puts in."""
    found = []
    for written in PROGRAM.findall("\n".join(scripts(file))):
        filled = [written]
        for name, values in VALUES.items():
            filled = [line.replace(name, value) for line in filled for value in (values if name in line else ("",))]
        found += [shlex.split(line) for line in filled]
    return found


@each_file
@pytest.mark.project_matrix
def test_the_program_understands_what_it_is_asked(file: Path) -> None:
    asked = lines_of_the_program(file)
    assert {words[0] for words in asked} == {"setup", "cells", "suite", "report"}
    for words in asked:
        assert not [word for word in words if "$" in word]
        own, command = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
        parsed = parser().parse_args(own, argparse.Namespace(command=command))
        assert parsed.handler
        assert getattr(parsed, "group", None) is None or loading.load().group(parsed.group)
    assert RESULTS_VARIABLE in "\n".join(lines_of_tests(file))


@each_file
def test_pytest_gets_options_that_the_plugin_has(file: Path) -> None:
    class Options:
        """Stands in for pytest's parser, and keeps the options that are added."""

        def __init__(self) -> None:
            self.names: list[str] = []

        def getgroup(self, *_: str) -> "Options":
            return self

        def addoption(self, name: str, **_: object) -> None:
            self.names.append(name)

        def addini(self, *_: object) -> None: ...

    known = Options()
    plugin.pytest_addoption(known)  # type: ignore[arg-type]
    (line,) = (it for it in lines_of_tests(file) if "|| pytest " in it)
    given = re.findall(r"--[a-z-]+(?==)", line)
    assert given == ["--cell"]
    assert set(given) <= set(known.names)


def test_only_the_default_branch_fills_the_image_cache() -> None:
    """Elsewhere nobody has looked at what is built. The rules of a job are its user's, so they do not say it."""
    (step,) = (it for it in steps() if READ_ONLY_VARIABLE in it.get("env", {}))
    condition = " ".join(step["env"][READ_ONLY_VARIABLE].split())
    assert condition == (
        "${{ !(github.event_name == 'schedule' || contains(fromJSON('[\"push\", \"workflow_dispatch\"]'), "
        "github.event_name) && github.ref == format('refs/heads/{0}', github.event.repository.default_branch)) "
        "&& '1' || '' }}"
    )
    assert f'[ "$CI_COMMIT_BRANCH" = "$CI_DEFAULT_BRANCH" ] || export {READ_ONLY_VARIABLE}=1' in lines_of_tests(GITLAB)
    assert "rules" not in job()


def test_results_and_report_are_kept_whatever_the_tests_came_to() -> None:
    *_, summary, results = steps()
    assert (summary["if"], results["if"]) == ("always() && hashFiles('results/report/compat.md') != ''", "always()")
    assert lines_of_tests(ACTION)[-2] == "pyxis-matrix report --output results/report || status=$?"
    assert summary["run"] == 'cat results/report/compat.md >> "$GITHUB_STEP_SUMMARY"'
    assert results["with"]["path"] == "results"
    assert job()["artifacts"]["when"] == "always"
    assert job()["artifacts"]["paths"] == ["results/"]


# -- what users write ------------------------------------------------------------------------------------------------


def snippets() -> list[Any]:
    """Return the pieces of YAML of the page."""
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [len(it.splitlines()) for it in found if len(it.splitlines()) > 5] == []
    return [document for it in found for document in documents(it)]


@pytest.mark.project_matrix
def test_five_lines_are_enough_for_a_user() -> None:
    github, gitlab = snippets()
    (used,) = (step for step in github["steps"] if "pyxis-matrix" in step["uses"])
    place = re.fullmatch(r"OWNER/pyxis-matrix/(.*)@TAG", used["uses"])
    assert place
    assert ROOT / place[1] / "action.yml" == ACTION
    (included,) = gitlab["include"]
    assert ROOT / included["file"] == GITLAB
    assert included["inputs"]["tool"].endswith(f"/{included['project']}@{included['ref']}")
    for given, known in ((used["with"], inputs(ACTION)), (included["inputs"], inputs(GITLAB))):
        assert given.keys() <= known.keys()
        assert {name for name, each in known.items() if "default" not in each} - {"tool"} <= given.keys()
        assert "pytest" in given or "suite" in given
        assert loading.load().cell(given["cells"])


def test_every_input_is_described() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("\n## Inputs\n")[2].partition("\n## ")[0]
    described = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([\w-]+)`", row)
    }
    assert described == inputs(ACTION).keys() | inputs(GITLAB).keys()
