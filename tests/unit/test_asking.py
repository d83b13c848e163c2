"""What a test saw of a behaviour gets into its report, and only that."""

from types import SimpleNamespace
from typing import Any

import pytest

from ci import environment_file
from ci.matrix import loading
from ci.matrix.behaviours import Answer, AnswerKind, Behaviour
from ci.record.reportlog import BEHAVIOUR_PROPERTY, KNOWN_PROPERTY
from tests.support import behaviours as asking
from tests.support import known_failures as plugin
from tests.support.rows import SAMPLE

OLD = loading.load(SAMPLE).cell("slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64")
NEW = loading.load(SAMPLE).cell("slurm24.11-enroot4.1.2-pyxis0.24.0-debian13-amd64")


def question(name: str, fails: str = "") -> Behaviour:
    """Return a question whose answer is "no" before Slurm 23.11, and "yes" from then on."""
    no = Answer(
        name="no", kind=AnswerKind.HAZARD, what="It does not.", fails=fails, issue="", only={"slurm": ("<23.11",)}
    )
    yes = Answer(name="yes", kind=AnswerKind.WORKS, what="It does.", only={"slurm": (">=23.11",)})
    return Behaviour(id=name, suite="pyxis_conformance", question="Does it?", answers=(no, yes), where="file:1")


SUITE = """
import pytest

pytestmark = pytest.mark.behaviour("first")

@pytest.fixture
def cell():
    return CELL

def test_saw_yes(behaviour):
    behaviour("first").saw("yes")

def test_saw_no(behaviour):
    behaviour("first").saw("no")

def test_expects(behaviour):
    assert behaviour("first").expects("yes")

def test_of(behaviour):
    assert behaviour("first").of({"yes": True, "no": False})

def test_saw_by(behaviour):
    behaviour("first").saw_by((1, 2), {(1, 2): "yes"})

def test_saw_by_what_is_no_answer(behaviour):
    behaviour("first").saw_by((1, 3), {(1, 2): "yes"}, "what else was told")

def test_fails_without_seeing(behaviour):
    behaviour("first").expects("yes")
    assert False

def test_asks_nothing():
    pass

def test_unknown_answer(behaviour):
    behaviour("first").saw("perhaps")

def test_half_a_table(behaviour):
    behaviour("first").of({"yes": True})

def test_not_marked(behaviour):
    behaviour("second").saw("yes")

@pytest.mark.behaviour("second")
def test_known_failure(behaviour, control):
    with control("another one works"):
        pass
    behaviour("first").expects("yes")
    behaviour("second")
    raise OSError("the words of the fault")

@pytest.mark.behaviour("second")
def test_another_failure(behaviour, control):
    with control("another one works"):
        pass
    behaviour("second")
    raise OSError("something else")

@pytest.mark.behaviour("second")
def test_another_answer_with_the_words(behaviour, control):
    with control("another one works"):
        pass
    behaviour("first").expects("yes")
    behaviour("second").saw("yes", "the words of the fault")

@pytest.mark.behaviour("second")
def test_another_answer_of_another_question(behaviour, control):
    with control("another one works"):
        pass
    behaviour("second")
    behaviour("first").saw("yes", "the words of the fault")

@pytest.mark.parametrize("format", [pytest.param("oci", marks=pytest.mark.behaviour("second")), "docker"])
def test_one_of_two(behaviour, control, format):
    behaviour("first").expects("yes")
    if format == "oci":
        behaviour("second")
"""


@pytest.fixture(params=[OLD, NEW], ids=["old", "new"])
def ran(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, pytest.TestReport]]:
    """Run the tests on a cell; return which, and the reports of their calls."""
    known = {it.id: it for it in (question("first"), question("second", fails="the words of the fault"))}
    monkeypatch.setenv(environment_file.VARIABLE, "environment.json")
    monkeypatch.setattr(environment_file, "current", lambda: None)
    monkeypatch.setattr(plugin, "cell_of", lambda *_: request.param)
    monkeypatch.setattr(loading, "load", lambda: SimpleNamespace(failures=()))
    monkeypatch.setattr(asking, "catalogue", lambda: known)
    monkeypatch.setattr(asking, "behaviour_of", lambda name: known[name])
    pytester.makepyfile(SUITE.replace("CELL", "__import__('ci.matrix.loading', fromlist=['x']).THE_CELL"))
    monkeypatch.setattr(loading, "THE_CELL", request.param, raising=False)
    plugins = ("-p", "tests.support.known_failures", "-p", "tests.support.behaviours")
    done = pytester.inline_run(*plugins, "-W", "ignore::pytest.PytestUnknownMarkWarning")
    reports = [it for it in done.getreports("pytest_runtest_logreport") if getattr(it, "when", "") == "call"]
    return ("old" if request.param is OLD else "new"), {it.nodeid.rpartition("::")[2]: it for it in reports}


def saw(report: pytest.TestReport) -> list[list[str]]:
    """Return what the report says that its test saw."""
    found: list[Any] = [value for name, value in report.user_properties if name == BEHAVIOUR_PROPERTY]
    return sorted(map(list, found))


def test_what_was_seen_is_recorded(ran: tuple[str, dict[str, pytest.TestReport]]) -> None:
    cell, reports = ran
    new, old = [["first", "yes"]], [["first", "no"]]
    expected: dict[str, dict[str, Any]] = {
        "test_saw_yes": {"new": ("passed", new), "old": ("failed", new)},
        "test_saw_no": {"new": ("failed", old), "old": ("passed", old)},
        "test_expects": {"new": ("passed", new), "old": ("failed", [])},
        "test_of": {"new": ("passed", new), "old": ("failed", [])},
        "test_saw_by": {"new": ("passed", new), "old": ("failed", new)},
        "test_saw_by_what_is_no_answer": {"new": ("failed", []), "old": ("failed", [])},
        "test_fails_without_seeing": {"new": ("failed", []), "old": ("failed", [])},
        "test_asks_nothing": {"new": ("failed", []), "old": ("failed", [])},
        "test_unknown_answer": {"new": ("failed", []), "old": ("failed", [])},
        "test_half_a_table": {"new": ("failed", []), "old": ("failed", [])},
        "test_not_marked": {"new": ("failed", []), "old": ("failed", [])},
        "test_known_failure": {"new": ("failed", []), "old": ("skipped", [["second", "no"]])},
        "test_another_failure": {"new": ("failed", []), "old": ("failed", [])},
        "test_another_answer_with_the_words": {
            "new": ("passed", [*new, ["second", "yes"]]),
            "old": ("failed", [["second", "yes"]]),
        },
        "test_another_answer_of_another_question": {
            "new": ("passed", [*new, ["second", "yes"]]),
            "old": ("failed", new),
        },
        "test_one_of_two[docker]": {"new": ("passed", new), "old": ("passed", old)},
    }
    found = {name: (reports[name].outcome, saw(reports[name])) for name in expected}
    assert found == {name: of[cell] for name, of in expected.items()}


def test_a_known_failure_that_passes_is_red_where_it_is_expected(
    ran: tuple[str, dict[str, pytest.TestReport]],
) -> None:
    cell, reports = ran
    report = reports["test_one_of_two[oci]"]
    assert report.outcome == ("failed" if cell == "old" else "passed")
    assert saw(report) == ([] if cell == "old" else [["first", "yes"], ["second", "yes"]])


def test_a_known_failure_names_its_behaviour(ran: tuple[str, dict[str, pytest.TestReport]]) -> None:
    cell, reports = ran
    known = [value for name, value in reports["test_known_failure"].user_properties if name == KNOWN_PROPERTY]
    assert known == (["second (file:1)"] if cell == "old" else [])
    assert "passes without asking it" in str(reports["test_asks_nothing"].longrepr)
    unseen = str(reports["test_saw_by_what_is_no_answer"].longrepr)
    assert "no answer is like this: (1, 3)\n" in unseen.replace("\nE ", "\n")
    assert "what else was told" in unseen
    assert "not marked with behaviour('second')" in str(reports["test_not_marked"].longrepr)
