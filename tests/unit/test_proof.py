"""A step that may be refused: it ran in its image, or it was refused in known words; all else is red."""

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.matrix.arch import Arch
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import Image, Pushed
from tests.support.oci.tiny import TinyImage
from tests.support.proof import behind, by_words, proven, ran_or_refused

IMAGE = TinyImage(
    reference="localhost:5000#tiny:1",
    marker="tiny-1",
    pushed=Pushed(address="localhost:5000", repository="tiny", tag="1", digest="sha256:0", media_type="x"),
    image=Image(layers=(), arch=Arch.AMD64),
)
REFUSALS = ("unrecognized option '--container-unshare", "is not in a separate network namespace")


def done(status: int, stdout: str = "", stderr: str = "") -> RemoteAnswer:
    return RemoteAnswer(command="srun", status=status, stdout=stdout, stderr=stderr)


def test_it_ran_or_was_refused() -> None:
    assert ran_or_refused(done(0, "tiny-1\nnet:[1]\n", "said"), IMAGE, REFUSALS) == (["net:[1]"], "said")
    said = f"srun: {REFUSALS[0]}=net'"
    assert ran_or_refused(done(255, "", said), IMAGE, REFUSALS) == (None, said)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (done(0, "net:[1]\n"), "did not run inside"),
        (done(1, "tiny-1\n", REFUSALS[0]), "it ran, and failed"),
        (done(1, "", f"{REFUSALS[1]}\ncat: {IMAGE_MARKER}: No such file or directory"), "it ran on the host"),
        (done(1, "", "unrecognized option '--container-image=x'"), "it says none of"),
    ],
    ids=["on the host", "failed inside", "failed on the host", "other words"],
)
def test_all_else_is_red(answer: RemoteAnswer, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        ran_or_refused(answer, IMAGE, REFUSALS)


def test_a_task_prolog_that_prints_a_line_is_no_proof_and_no_obstacle(capsys: pytest.CaptureFixture[str]) -> None:
    """The proof reads its own line, and says what else was there."""
    prolog = "welcome to our cluster\n"
    assert proven(done(0, f"{prolog}tiny-1\none\ntwo\n"), IMAGE) == ["one", "two"]
    assert "welcome to our cluster" in capsys.readouterr().out
    assert ran_or_refused(done(0, f"{prolog}tiny-1\nx\n", ""), IMAGE, REFUSALS) == (["x"], "")
    for wrong in (prolog, f"{prolog}tiny-2\n", f"{prolog}not tiny-1\n"):
        with pytest.raises(AssertionError, match=f"(?s)did not run inside {IMAGE.reference}.*welcome"):
            proven(done(0, wrong), IMAGE)
    with pytest.raises(AssertionError, match="did not run on the host"):
        behind(done(0, prolog), "here", "on the host")


def test_words_of_one_row_only() -> None:
    table = dict(zip(REFUSALS, ("unknown option", "not made"), strict=True))
    assert by_words(table, f"srun: {REFUSALS[1]}") == "not made"
    for said in ("", f"{REFUSALS[0]} {REFUSALS[1]}"):
        with pytest.raises(AssertionError, match="it says"):
            by_words(table, said)
