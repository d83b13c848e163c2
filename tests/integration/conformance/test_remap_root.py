"""``--container-remap-root``: root's number without root's power."""

import pytest

from tests.integration.conformance.support import Steps
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


@pytest.mark.parametrize("options", [(), ("--no-container-remap-root",)])
def test_the_submitter_by_default(steps: Steps, plain: TinyImage, options: tuple[str, ...]) -> None:
    uid = steps.shell.run("id -u").stdout.strip()
    lines = steps.inside(plain, "id -u; cat /proc/self/uid_map", *options)
    assert lines[0] == uid
    assert lines[1].split() == [uid, uid, "1"]


def test_root_on_request(steps: Steps, plain: TinyImage) -> None:
    uid = steps.shell.run("id -u").stdout.strip()
    lines = steps.inside(plain, "id -u; id -un; cat /proc/self/uid_map", "--container-remap-root")
    assert lines[:2] == ["0", "root"]
    assert lines[2].split() == ["0", uid, "1"]


def test_what_root_makes_belongs_to_the_submitter(steps: Steps, plain: TinyImage, folder: str) -> None:
    steps.inside(plain, "touch /m/file", "--container-remap-root", f"--container-mounts={folder}:/m")
    assert steps.shell.run(f"stat --format=%U {folder}/file").stdout.strip() == steps.shell.environment.login.user


def test_root_has_no_power_over_the_host(steps: Steps, plain: TinyImage) -> None:
    options = ("--container-remap-root", "--container-mounts=/etc:/host")
    _, said = steps.failing(plain, "touch /host/hosts", *options)
    assert "Permission denied" in said


def test_both_wishes_at_once_are_refused(steps: Steps, plain: TinyImage) -> None:
    steps.refused(
        plain.reference,
        "both --container-remap-root and --no-container-remap-root were specified",
        "--container-remap-root",
        "--no-container-remap-root",
    )
