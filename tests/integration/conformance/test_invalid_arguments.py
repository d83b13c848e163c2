"""Arguments that must be refused; nothing may run then, least of all on the host."""

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.matrix.cells import Cell
from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.expectations import differs
from tests.support.oci.tiny import TinyImage
from tests.support.registry_client import RegistryClient

pytestmark = pytest.mark.container_packaging


@pytest.mark.parametrize("option", ["image", "workdir", "save"])
def test_empty_values(steps: Steps, plain: TinyImage, option: str) -> None:
    image = "" if option == "image" else plain.reference
    steps.refused(image, f"--container-{option}: argument required", f"--container-{option}=")


def test_an_endless_image_name(steps: Steps, registry_client: RegistryClient, cell: Cell) -> None:
    name = "a" * 3000
    # The registry has a limit for names; who asks need not know it, and has to cope with the refusal.
    refusal = f"/v2/{name}/manifests/latest returned error code: "
    if registry_client.auth:  # enroot says no more than that it logged in
        refusal = "Authenticating with user"
    says = "must not be more than" if differs(cell, "words of a registry that refuses") else refusal
    steps.refused(f"{registry_client.address}#{name}", says)


@pytest.mark.parametrize("image", ["#UPPER", "#two words", "#team#image", "#"])
def test_malformed_references(steps: Steps, registry_client: RegistryClient, image: str) -> None:
    steps.refused(f"{registry_client.address}{image}", "Invalid image reference")


@pytest.mark.parametrize(
    ("option", "first", "second"), [("image", "one", "two"), ("workdir", "/a", "/b"), ("name", "one", "two")]
)
def test_two_values_for_one_option(steps: Steps, plain: TinyImage, option: str, first: str, second: str) -> None:
    image = "" if option == "image" else plain.reference
    steps.refused(
        image,
        f"--container-{option} specified multiple times",
        f"--container-{option}={first}",
        f"--container-{option}={second}",
    )


def test_read_only_and_writable(steps: Steps, plain: TinyImage) -> None:
    steps.refused(
        plain.reference,
        "both --container-writable and --container-readonly were specified",
        "--container-readonly",
        "--container-writable",
    )


def test_an_unknown_option(steps: Steps, plain: TinyImage) -> None:
    steps.refused(plain.reference, "unrecognized option '--container-nonsense'", "--container-nonsense")


# -- the command runs on the host, with success ---------------------------------------------------------------------


def _without_an_image(steps: Steps, option: str, named: str) -> tuple[str, RemoteAnswer]:
    """Return what comes of a step with this option and no image, which has to run on the host and succeed."""
    done = steps.shell.srun_unchecked(option, "sh", "-c", "test ! -e /etc/pyxis-matrix-image", image="")
    assert done.status == 0, str(done)
    warned = f"ignoring {named} because neither --container-image nor --container-name is set" in done.stderr
    return f"on the host, {'with a warning' if warned else 'without a word'}", done


@pytest.mark.behaviour("options-without-an-image")
@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--container-mounts=/etc:/m", "--container-mounts"),
        ("--container-workdir=/opt", "--container-workdir"),
        ("--container-mount-home", "--[no-]container-mount-home"),
        ("--container-remap-root", "--[no-]container-remap-root"),
        ("--container-entrypoint", "--[no-]container-entrypoint"),
    ],
)
def test_options_without_an_image_are_ignored(steps: Steps, behaviour: Ask, option: str, named: str) -> None:
    seen, done = _without_an_image(steps, option, named)
    behaviour("options-without-an-image").saw_by(seen, {"on the host, with a warning": seen}, done)


@pytest.mark.behaviour("save-without-an-image")
@pytest.mark.parametrize("option", ["--container-save=/tmp/x.sqsh", "--container-writable"])
def test_saving_and_writing_without_an_image_are_ignored(steps: Steps, behaviour: Ask, option: str) -> None:
    seen, done = _without_an_image(steps, option, option.partition("=")[0])
    behaviour("save-without-an-image").saw(seen, done)
