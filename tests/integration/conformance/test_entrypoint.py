"""``--container-entrypoint`` and its log: off by default, and what reaches it."""

import pytest

from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.oci.layers import File
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging

_ENTRYPOINT = b"""#!/bin/sh
echo said-by-the-entrypoint
echo "entrypoint saw V=$V W=$W" > /tmp/seen
exec "$@"
"""


@pytest.fixture(scope="module")
def image(make_image: MakeImage, unpacked: Unpack) -> TinyImage:
    """Return an image whose entrypoint talks, notes what it sees, and runs its arguments."""
    file = File(content=_ENTRYPOINT, mode=0o755)
    return unpacked(make_image({"/entrypoint": file}, entrypoint=("/entrypoint",)))


@pytest.fixture(scope="module")
def unusual(make_image: MakeImage, unpacked: Unpack) -> TinyImage:
    """Return an image whose entrypoint cares for no argument."""
    return unpacked(make_image(entrypoint=("/bin/echo", "I am no shell")))


@pytest.mark.parametrize("options", [(), ("--no-container-entrypoint",)])
def test_off_by_default(steps: Steps, image: TinyImage, options: tuple[str, ...]) -> None:
    assert steps.inside(image, "test -e /tmp/seen || echo not-run", *options) == ["not-run"]


def test_on_request_it_runs_once_before_the_command(steps: Steps, image: TinyImage) -> None:
    lines, said = steps.outcome(image, "cat /tmp/seen", "--container-entrypoint")
    assert lines == ["entrypoint saw V= W="]
    assert "said-by-the-entrypoint" not in said


@pytest.mark.behaviour("entrypoint-env")
def test_only_listed_variables_reach_it(steps: Steps, image: TinyImage, behaviour: Ask) -> None:
    options = ("--container-entrypoint", "--container-env=V")
    lines = steps.inside(image, "cat /tmp/seen; echo task saw V=$V W=$W", *options, variables={"V": "v", "W": "w"})
    assert lines[1:] == ["task saw V=v W=w"], lines
    answers = {"entrypoint saw V=v W=": "the entrypoint too", "entrypoint saw V= W=": "only the command"}
    behaviour("entrypoint-env").saw_by(lines[0], answers)


@pytest.mark.behaviour("entrypoint-log")
def test_its_log(steps: Steps, image: TinyImage, behaviour: Ask) -> None:
    options = ("--container-entrypoint", "--container-entrypoint-log")
    lines, said = steps.either(image, "true", *options, refusals=["unrecognized option '--container-entrypoint-log'"])
    assert lines is None or "said-by-the-entrypoint" in said, said
    behaviour("entrypoint-log").saw("unknown option" if lines is None else "shows it", said)


def test_an_unusual_entrypoint_is_no_matter_by_default(steps: Steps, unusual: TinyImage) -> None:
    steps.inside(unusual, "true")


def test_an_unusual_entrypoint_fails_with_advice(steps: Steps, unusual: TinyImage) -> None:
    steps.refused(unusual.reference, "try using --no-container-entrypoint", "--container-entrypoint")


def test_both_wishes_at_once_are_refused(steps: Steps, image: TinyImage) -> None:
    steps.refused(
        image.reference,
        "both --container-entrypoint and --no-container-entrypoint were specified",
        "--container-entrypoint",
        "--no-container-entrypoint",
    )
