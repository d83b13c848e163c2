"""``--container-mount-home``: the user's own files, only when asked for."""

import pytest

from tests.integration.conformance.support import Steps
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


@pytest.mark.parametrize("options", [(), ("--no-container-mount-home",)])
def test_not_by_default(steps: Steps, plain: TinyImage, folder: str, options: tuple[str, ...]) -> None:
    """Unless a profile has enroot mount it."""
    mounted = steps.cell.says("ENROOT_MOUNT_HOME=yes") and not options
    found = steps.inside(plain, f"if test -e {folder}; then echo there; else echo absent; fi", *options)
    assert found == ["there" if mounted else "absent"]


def test_on_request(steps: Steps, plain: TinyImage, folder: str) -> None:
    lines = steps.inside(plain, f"echo $HOME; touch {folder}/from-the-step", "--container-mount-home")
    assert lines == [steps.shell.run("echo ~").stdout.strip()]
    assert steps.shell.run(f"ls {folder}").stdout == "from-the-step\n"


def test_as_roots_when_remapped(steps: Steps, plain: TinyImage, folder: str) -> None:
    inside = folder.replace(steps.shell.run("echo ~").stdout.strip(), "/root", 1)
    options = ("--container-mount-home", "--container-remap-root")
    assert steps.inside(plain, f"echo $HOME; test -d {inside} && echo mounted", *options) == ["/root", "mounted"]


def test_both_wishes_at_once_are_refused(steps: Steps, plain: TinyImage) -> None:
    steps.refused(
        plain.reference,
        "both --container-mount-home and --no-container-mount-home were specified",
        "--container-mount-home",
        "--no-container-mount-home",
    )
