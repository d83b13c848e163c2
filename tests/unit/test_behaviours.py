"""The catalogue of behaviours: its files, the right answer per cell, and that tests and questions name each other."""

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
import re

import pytest

from ci import paths
from ci.errors import MatrixError, SelectionError
from ci.matrix import behaviours, loading, profile_files, profiles
from ci.matrix.arch import Arch
from ci.matrix.behaviours import Behaviour, catalogue
from ci.matrix.suites import FOLDER, SUITES

PROJECT = paths.REPOSITORY
IN_ANOTHER_WAY = {"since", "holds", "answers_of", "version_of", "SpecifierSet"}
ASKED = re.compile(r"(?:mark|each_launcher)\.behaviour\(([^)]*)\)")
Read = Callable[[str], dict[str, behaviours.Behaviour]]
SUITE = next(it for it in SUITES.values() if it.name == "pyxis_conformance")
WELL = """
[first]
question = "Does it work?"
[[first.answer]]
name = "no"
kind = "hazard"
what = "It does not."
slurm = "<23.11"
[[first.answer]]
name = "yes"
kind = "works"
what = "It does."
slurm = ">=23.11"
"""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return what reads a catalogue of one file."""

    def of(text: str) -> dict[str, behaviours.Behaviour]:
        file = tmp_path / FOLDER / SUITE.folder / behaviours.FILE
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
        return dict(catalogue.__wrapped__(tmp_path))

    return of


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[first]\nquestion = 'q'\n", "behaviours.toml:1: first: has no answer"),
        (WELL.replace("hazard", "hazzard"), "behaviours.toml:6: first.answer[0].kind: unknown kind 'hazzard'; did you"),
        (WELL.replace('"<23.11"', '"before 23"'), "behaviours.toml:8: first.answer[0].slurm: 'before 23' is not a ver"),
        (WELL.replace("what", "waht", 1), "unknown key 'waht'; did you mean 'what'?"),
        (WELL.replace('"yes"', '"no"'), "two answers called 'no'"),
        (WELL.replace("first", "First"), "an id has small letters"),
        (WELL.replace('slurm = "<23.11"', 'issue = "see there"'), "expected an address or OWNER/REPO#NUMBER"),
        (WELL.replace('slurm = "<23.11"', 'slurm = "<23.11"\notherwise = true'), "has no limits of its own"),
        (f'{WELL}was = ["no"]', "was: expected ID: NAME, not 'no'"),
        (f'{WELL}was = ["first: no"]', "was: first: no is an answer of today"),
    ],
)
def test_faults_of_a_file_have_their_line(read: Read, text: str, says: str) -> None:
    with pytest.raises(MatrixError) as caught:
        read(text)
    assert says in str(caught.value)


EACH = """
[both]
question = "Does it work?"
each = "those"
[[both.answer]]
name = "yes"
kind = "works"
what = "It does."
otherwise = true
[[both.answer]]
name = "no"
kind = "hazard"
what = "It does not."
subjects = ["second-one"]
[[both.answer]]
name = "never"
kind = "hazard"
what = "Nobody does so."
subjects = []
"""


def with_subjects(root: Path, *names: str) -> None:
    folder = root / FOLDER / SUITE.folder / "those"
    folder.mkdir(parents=True)
    for name in names:
        folder.joinpath(name).touch()


def test_a_question_for_each_of_several_subjects(tmp_path: Path) -> None:
    with_subjects(tmp_path, "first.py", "second_one.py", "no_subject.txt")
    tmp_path.joinpath(FOLDER, SUITE.folder, behaviours.FILE).write_text(EACH, encoding="utf-8")
    found = catalogue.__wrapped__(tmp_path)
    cell = loading.load().cells("edges", Arch.AMD64)[0]
    assert [(it.id, it.topic, it.subject, it.answer_on(cell).name) for it in found.values()] == [
        ("both-first", "both", "first", "yes"),
        ("both-second-one", "both", "second-one", "no"),
    ]
    assert [it.question for it in found.values()] == ["first: Does it work?", "second-one: Does it work?"]
    assert [it.limits for it in found["both-first"].answers] == ["", "second-one", ""]


def test_an_answer_of_a_subject_that_there_is_not(tmp_path: Path) -> None:
    with_subjects(tmp_path, "first.py", "second_on.py")
    tmp_path.joinpath(FOLDER, SUITE.folder, behaviours.FILE).write_text(EACH, encoding="utf-8")
    with pytest.raises(MatrixError, match="there is no subject 'second-one' in those; did you mean 'second-on'"):
        catalogue.__wrapped__(tmp_path)


def misfits(questions: Iterable[Behaviour]) -> Iterator[str]:
    """Yield what is said of each question that has no answer on a cell, or several, once."""
    cells = loading.load().all_cells(None)
    for each in questions:
        try:
            for cell in cells:
                if cell.runtime in SUITES[each.suite].runtimes:
                    each.answer_on(cell)
        except MatrixError as problem:
            yield f"{problem.where}: {problem.what}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WELL.replace(">=23.11", ">=24.11"), "0 answers of first"),
        (WELL.replace("<23.11", "<=23.11.11"), "2 answers of first"),
    ],
    ids=["a hole", "an overlap"],
)
def test_answers_that_overlap_or_leave_a_hole_are_named(read: Read, text: str, says: str) -> None:
    (said,) = misfits(read(text).values())
    assert says in said
    assert "behaviours.toml:2: " in said


def test_otherwise_is_the_answer_of_all_other_cells(read: Read) -> None:
    (only,) = read(WELL.replace('slurm = ">=23.11"', "otherwise = true")).values()
    cells = loading.load().all_cells(Arch.AMD64)
    assert {only.answer_on(cell).name for cell in cells} == {"yes", "no"}


def test_an_unknown_behaviour_is_refused_with_the_nearest_one() -> None:
    first = next(iter(catalogue()))
    with pytest.raises(SelectionError, match=f"did you mean '{first}'\\?$"):
        behaviours.behaviour(first[:-1])


def test_every_question_has_one_answer_on_every_cell() -> None:
    assert list(misfits(catalogue().values())) == []


@pytest.mark.parametrize("name", profile_files.shipped())
def test_every_question_has_one_answer_with_a_profile(name: str) -> None:
    profile = profiles.Profile.of(name)
    cells = [it for it in loading.load().cells("edges", Arch.AMD64) if not profile.unfit(it)]
    own = [it.with_profile(name, profile.settings) for it in cells]
    assert own
    for each in catalogue().values():
        assert all(each.answer_on(it) for it in own if it.runtime in SUITES[each.suite].runtimes)


def test_what_a_profile_says_decides(read: Read) -> None:
    text = WELL.replace('slurm = "<23.11"', 'settings = ["One=yes", "two"]').replace(
        'slurm = ">=23.11"', "otherwise = true"
    )
    (only,) = read(text).values()
    plain = loading.load().cells("edges", Arch.AMD64)[0]
    with_it = [{"one": "yes"}, {"one": "1"}, {"one": "no,Y"}, {"two": ""}, {"two": "x", "one": "no"}]
    without = [{}, {"one": ""}, {"one": "no"}, {"three": "yes"}]
    first, other = (only.answer_on(plain.with_profile("x", it)).name for it in ({"one": "yes"}, {}))
    assert first != other
    assert {only.answer_on(plain.with_profile("x", it)).name for it in with_it} == {first}
    assert {only.answer_on(plain.with_profile("x", it)).name for it in without} == {other}
    assert [it.limits for it in only.answers] == ["a profile with One=yes or two", ""]


def test_every_question_is_asked_by_its_suite_and_tests_ask_no_other() -> None:
    for suite in SUITES.values():
        files = [file for path in suite.paths() for file in (path.rglob("*.py") if path.is_dir() else [path])]
        names = {
            name
            for file in files
            for words in ASKED.findall(file.read_text(encoding="utf-8"))
            for name in re.findall(r'"([^"]+)"', words)
        }
        assert names == {it.topic or it.id for it in catalogue().values() if it.suite == suite.name}, suite.name


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_a_suite_asks_for_no_version_in_another_way(suite: str) -> None:
    files = [file for path in SUITES[suite].paths() for file in (path.rglob("*.py") if path.is_dir() else [path])]
    found = {
        f"{file.name}: {name}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (name := node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else "")
        in IN_ANOTHER_WAY
    }
    assert found == set()
