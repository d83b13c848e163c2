"""``--container-workdir``: where a command starts."""

import pytest

from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import Steps
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


@pytest.fixture
def imported(plain: TinyImage, local_registry: str) -> TinyImage:  # noqa: ARG001 - without one it was not imported
    """Return an image with the working folder that an import writes into it, as a file on the cluster."""
    return plain


def test_the_root_without_any_wish(steps: Steps, imported: TinyImage) -> None:
    assert steps.inside(imported, "pwd") == ["/"]


def test_the_images_own_which_is_made_if_absent(steps: Steps, make_image: MakeImage, unpacked: Unpack) -> None:
    image = unpacked(make_image(workdir="/made/for/work"))
    # The image's entry script goes there, and it is read by a step with an entrypoint only.
    assert steps.inside(image, "pwd") == ["/made/for/work"]
    assert steps.inside(image, "pwd", "--container-workdir=/opt") == ["/opt"]


def test_the_one_asked_for(steps: Steps, plain: TinyImage) -> None:
    assert steps.inside(plain, "pwd", "--container-workdir=/opt") == ["/opt"]


def test_a_mounted_one(steps: Steps, plain: TinyImage, folder: str) -> None:
    lines = steps.inside(plain, "pwd; touch here", f"--container-mounts={folder}:/w", "--container-workdir=/w")
    assert lines == ["/w"]
    assert steps.shell.run(f"ls {folder}").stdout == "here\n"


def test_up_from_the_root_is_the_root(steps: Steps, plain: TinyImage) -> None:
    assert steps.inside(plain, "pwd", "--container-workdir=../") == ["/"]


def test_a_missing_one_is_refused_and_named(steps: Steps, plain: TinyImage) -> None:
    steps.refused(
        plain.reference,
        "couldn't chdir to /is/not/there: No such file or directory",
        "--container-workdir=/is/not/there",
    )


def test_a_missing_one_is_not_made(steps: Steps, plain: TinyImage, folder: str) -> None:
    """In a place that can be written to: elsewhere whoever tries to make it is refused as well, for another reason."""
    steps.refused(
        plain.reference,
        "couldn't chdir to /w/not-there: No such file or directory",
        f"--container-mounts={folder}:/w",
        "--container-workdir=/w/not-there",
    )
    assert steps.shell.run(f"ls {folder}").stdout == ""


def test_the_hosts_working_directory_does_not_count(steps: Steps, imported: TinyImage, folder: str) -> None:
    assert steps.inside(imported, "pwd", f"--chdir={folder}") == ["/"]
