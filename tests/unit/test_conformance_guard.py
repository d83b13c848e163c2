"""The conformance suite on itself: its proof of the image fails elsewhere, and its list names tests that exist."""

from pathlib import Path
import re

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.matrix.arch import Arch
from tests.support.oci.images import Image, Pushed
from tests.support.oci.tiny import TinyImage
from tests.support.proof import proven

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


@pytest.mark.parametrize("stdout", ["", "one\n", "tiny-2\none\n", "one\ntiny-1\n"])
def test_success_without_the_marker_is_a_failure(stdout: str) -> None:
    with pytest.raises(AssertionError, match="did not run inside"):
        proven(_done(stdout), _IMAGE)


def test_the_text_shows_what_was_said_instead() -> None:
    with pytest.raises(AssertionError, match="exit status 3"):
        proven(_done("", status=3), _IMAGE)


def test_the_list_of_reported_cases_names_tests_that_there_are() -> None:
    tests = Path(__file__).parents[1]
    named = set(re.findall(r"`(test_\w+)`", (tests / "integration/conformance/README.md").read_text(encoding="utf-8")))
    written = {
        name for path in tests.rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 50
    assert named - written == set()
