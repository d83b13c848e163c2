"""The suites on themselves: their proof of the image fails elsewhere, and what they name and look for is right."""

import ast
import fnmatch
from pathlib import Path
import re

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.behaviours import catalogue
from ci.matrix.suites import SUITES
from tests.support.asking_tests import askers, every_test
from tests.support.known_failures import known_answers
from tests.support.literals import words_of
from tests.support.oci.images import Image, Pushed
from tests.support.oci.tiny import TinyImage
from tests.support.proof import proven
from tests.support.rows import PROJECT

TESTS = Path(__file__).parents[1]
# Each release of curl, tar, find, mksquashfs or a shell says it in words of its own (curl 8.16 turned two cells red).
FOREIGN = (
    *(
        "curl:",
        "could not resolve host",
        "couldn't connect",
        "failed to connect",
        "ssl certificate",
        "certificate problem",
    ),
    *("tar:", "tar archive", "cannot hard link", "cannot open", "cannot stat", "find:", "mksquashfs:", "fatal error"),
    *("unterminated quoted string", "syntax error"),
)

_IMAGE = TinyImage(
    reference="localhost:5000#tiny:1",
    marker="tiny-1",
    pushed=Pushed(address="localhost:5000", repository="tiny", tag="1", digest="sha256:0", media_type="x"),
    image=Image(layers=(), arch=Arch.AMD64),
)


def _done(stdout: str, status: int = 0) -> RemoteAnswer:
    return RemoteAnswer(command="srun", status=status, stdout=stdout, stderr="")


def test_the_marker_comes_first_and_is_taken_off() -> None:
    assert proven(_done("tiny-1\none\ntwo\n"), _IMAGE) == ["one", "two"]
    assert proven(_done("tiny-1\n"), _IMAGE) == []


@pytest.mark.parametrize("stdout", ["", "one\n", "tiny-2\none\n", "one\nno tiny-1\n"])
def test_success_without_the_marker_is_a_failure(stdout: str) -> None:
    with pytest.raises(AssertionError, match="did not run inside"):
        proven(_done(stdout), _IMAGE)


def test_the_text_shows_what_was_said_instead() -> None:
    with pytest.raises(AssertionError, match="exit status 3"):
        proven(_done("", status=3), _IMAGE)


def test_the_list_of_reported_cases_names_tests_that_there_are() -> None:
    named = set(re.findall(r"`(test_\w+)`", (TESTS / "integration/conformance/README.md").read_text(encoding="utf-8")))
    assert len(named) > 50
    assert named - written() == set()


@pytest.mark.project_matrix
def test_known_failures_name_tests_that_there_are() -> None:
    functions = written()
    for failure in loading.load().failures:
        for pattern in failure.tests:
            name = pattern.partition("[")[0].rpartition("::")[2]
            assert fnmatch.filter(functions, name), f"{failure.where} names no test: {pattern}"


def functions_of(pattern: str) -> list[ast.FunctionDef]:
    """Return the functions of the suites that a name in matrix.toml is about."""
    name = pattern.partition("[")[0].rpartition("::")[2]
    return [it for it in every_test() if fnmatch.fnmatchcase(it.name, name)]


FAILING = {
    **{it.id: askers(it.id) for it in catalogue().values() if any(answer.fails for answer in it.answers)},
    **{name: functions_of(name) for failure in loading.load(PROJECT).failures for name in failure.tests},
}
"""The tests of each known failure, whether it is an answer of a behaviour or a row of matrix.toml."""


@pytest.mark.parametrize("found", FAILING.values(), ids=FAILING.keys())
def test_each_known_failure_has_a_positive_control(found: list[ast.FunctionDef]) -> None:
    """Else it would excuse whatever says the same words, such as an image that is not there."""
    assert found
    without = [it.name for it in found if "control" not in {arg.arg for arg in (*it.args.args, *it.args.kwonlyargs)}]
    assert without == [], "they show no positive control (tests/support/known_failures.py, `control`)"


def test_tests_of_one_name_are_all_looked_at() -> None:
    """Two suites have a `test_digest`, and one of them asks this."""
    assert "test_digest" in {it.name for it in askers("reference-with-digest")}


def written() -> set[str]:
    """Return the names of all tests."""
    texts = (path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py"))
    return {name for text in texts for name in re.findall(r"def (test_\w+)", text)}


@pytest.mark.parametrize("suite", [it.name for it in SUITES.values() if it.plugins])
def test_no_suite_looks_for_the_words_of_a_tool_below(suite: str) -> None:
    own = [file for it in SUITES[suite].paths() for file in ([it] if it.is_file() else it.rglob("*.py"))]
    assert own
    found = [
        (path.name, text)
        for path in own
        for text in words_of(ast.parse(path.read_text(encoding="utf-8")))
        for word in FOREIGN
        if word in text.lower()
    ]
    assert found == []


@pytest.mark.project_matrix
def test_no_known_failure_is_known_by_the_words_of_a_tool_below() -> None:
    says = [failure.says for failure in (*loading.load().failures, *known_answers())]
    assert [text for text in says if any(word in text.lower() for word in FOREIGN)] == []
