"""The suite `launchers`: its adapters have what is asked of them, and its documentation says what was seen."""

import ast
from dataclasses import fields
import json
from pathlib import Path
import re
import subprocess
import threading

from packaging.requirements import Requirement
import pytest

from ci import paths
from ci.matrix import loading
from ci.matrix.behaviours import catalogue
from tests.support.launchers import asking
from tests.support.launchers.each_launcher import ADAPTERS, requirements

PAGE = paths.REPOSITORY / "docs/subjects.md"
each_adapter = pytest.mark.parametrize("name", ADAPTERS)


@each_adapter
def test_an_adapter_names_one_release_of_its_launcher(name: str) -> None:
    wanted = [Requirement(it) for it in requirements(ADAPTERS[name])]
    assert name == "sbatch" or "==" in str(wanted[0].specifier), f"{name} is of no release: {wanted}"


@each_adapter
def test_an_adapter_can_be_asked_all(name: str) -> None:
    tree = ast.parse(ADAPTERS[name].read_text(encoding="utf-8"))
    (launcher,) = (it for it in tree.body if isinstance(it, ast.ClassDef) and it.name == "Launcher")
    methods = {it.name for it in launcher.body if isinstance(it, ast.FunctionDef)}
    assert methods >= {"__init__", "submit", "result", "cancel", "close"}


@each_adapter
def test_an_adapter_imports_nothing_of_this_project(name: str) -> None:
    """It runs where there is only its launcher; what is for types alone is not imported there."""
    tree = ast.parse(ADAPTERS[name].read_text(encoding="utf-8"))
    imported = {it.module.split(".")[0] for it in tree.body if isinstance(it, ast.ImportFrom) and it.module}
    assert imported & {"ci", "tests"} == set()


def test_an_adapter_without_requirements_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("OTHERS = ('x==1',)\n", encoding="utf-8")
    with pytest.raises(LookupError, match=r"mine\.py has no REQUIRES"):
        requirements(file)


def request() -> asking.Request:
    values = {"folder": "/home/a", "name": "n", "image": "i.sqsh", "mounts": ["/a:/a", "/b:/c"], "workdir": ""}
    return asking.Request(**values, environment={}, commands=[["true"]], cancel=False)  # type: ignore[arg-type]


def test_what_pyxis_is_told() -> None:
    assert request().options == ["--container-image=i.sqsh", "--container-mounts=/a:/a,/b:/c"]
    assert {it.name for it in fields(asking.Request)} == {*json.loads(json.dumps(vars(request())))}


def fails(error: BaseException) -> str:
    raise error


def test_what_a_launcher_says_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a failure is lost: neither its number, nor the launcher's words, nor what the command wrote."""
    monkeypatch.setattr(asking, "_jobs", lambda _folder: "17")
    said = asking.outcome(lambda: "out", "/home/a")
    assert said == {"status": 0, "output": "out"}
    error = subprocess.CalledProcessError(7, "it", stderr="its words")
    failed = asking.outcome(lambda: fails(error), "/home/a")
    assert failed["status"] == 7
    assert "its words" in failed["failure"]
    unknown = asking.outcome(lambda: fails(RuntimeError("no number")), "/home/a")
    assert unknown["status"] is None
    assert "RuntimeError: no number" in unknown["failure"]
    assert asking.outcome(lambda: fails(NotImplementedError("why")), "/home/a") == {"unsupported": "why"}


@pytest.mark.parametrize(("jobs", "limit"), [(["17"], "_GIVEN_UP_S"), ([], "_LIMIT_S")], ids=["ended", "no job"])
def test_a_launcher_that_waits_for_ever_is_given_up(
    monkeypatch: pytest.MonkeyPatch, jobs: list[str], limit: str
) -> None:
    monkeypatch.setattr(asking, "_jobs", lambda _folder: jobs.pop() if jobs else "")
    monkeypatch.setattr(asking, limit, -1)
    begun = threading.Event()
    assert asking.outcome(lambda: f"{begun.wait(30)}", "/home/a") == {"never": True}
    begun.set()


TABLE = re.compile(
    r"^## Subjects on `(?P<cell>[^`]+)`\n\n(?P<head>\|.*\|)\n\|-.*\n(?P<rows>(?:\|.*\|\n)+)", re.MULTILINE
)


def boxes(line: str) -> list[str]:
    return [it.strip().strip("*") for it in line.strip().strip("|").split("|")]


def test_the_page_has_the_answers_of_the_catalogue() -> None:
    """What was seen is what is right there; a table is of real cells, and has all launchers and all questions."""
    tables = list(TABLE.finditer(PAGE.read_text(encoding="utf-8")))
    assert tables
    known = {(it.subject, it.question.removeprefix(f"{it.subject}: ")): it for it in catalogue().values() if it.subject}
    rows = loading.load()
    for table in tables:
        cell, questions = rows.cell(table["cell"]), boxes(table["head"])[1:]
        found = {
            (line[0], question): seen.removeprefix("⚠ ")
            for line in map(boxes, table["rows"].splitlines())
            for question, seen in zip(questions, line[1:], strict=True)
        }
        assert found == {key: it.answer_on(cell).name for key, it in known.items()}, cell
