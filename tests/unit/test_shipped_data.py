"""The data that ships, docs/compat: whole, of this catalogue, and of no machine."""

import re

import pytest

from ci import paths
from ci.cli.answers import SHIPPED
from ci.matrix.behaviours import catalogue
from ci.record.outcomes import TestState
from ci.report import model
from ci.report.behaviours import of_catalogue
from ci.report.forms import forms
from ci.report.model import Compat

_PATH = re.compile(r"(?<![\w.])/(?:root|home|work|var/tmp|Users)/[\w./-]*")


@pytest.fixture(scope="module")
def shipped() -> Compat:
    return model.load(SHIPPED)


def test_its_questions_are_those_of_the_catalogue(shipped: Compat) -> None:
    """Otherwise: write it anew; where an answer is another one, run these cells again first (docs/compat/README.md)."""
    # Those of several subjects have results and a page of their own: docs/subjects.md, tests/unit/test_launchers.py.
    found = tuple(it for it in shipped.behaviours if not it.topic)
    assert found == tuple(it for it in of_catalogue(catalogue()) if not it.topic)


def test_every_answer_in_it_is_one_of_the_catalogue(shipped: Compat) -> None:
    known = catalogue()
    unknown = [
        (cell.id, name, answer)
        for cell, suite in shipped.results()
        for name, answers in suite.saw.items()
        for answer in answers
        if answer not in {it.name for it in known[name].answers}
    ]
    assert unknown == []


def test_it_is_of_real_cells_and_of_whole_suites(shipped: Compat) -> None:
    assert {cell.runtime for cell in shipped.cells} == {"nvidia"}
    assert [it for _, it in shipped.results() if not it.state.good] == []
    assert (shipped.contradictions, shipped.problems, shipped.unfinished) == ((), (), ())
    assert not [it.name for _, suite in shipped.results() for it in suite.tests if it.outcome is TestState.FAILED]
    assert all(len(it.sha256) == 64 for it in shipped.artefacts)


def test_it_names_no_file_of_a_machine() -> None:
    for form in forms().values():
        if form.FILE and form.FILE != "junit.xml":
            text = (paths.REPOSITORY / "docs/compat" / form.FILE).read_text(encoding="utf-8")
            found = {it for it in _PATH.findall(text) if not it.startswith("/home/tester")}
            assert found == set(), form.FILE
