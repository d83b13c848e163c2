"""``--container-save``: a squashfs file that is complete when srun returns."""

import pytest

from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.known_failures import Control
from tests.support.oci.layers import Directory
from tests.support.oci.tiny import TinyImage
from tests.support.proof import behind

pytestmark = pytest.mark.container_packaging


@pytest.fixture(scope="module")
def savable(make_image: MakeImage, unpacked: Unpack) -> TinyImage:
    """Return an image that has every folder that enroot mounts something on; see the last test for one that has not."""
    return unpacked(make_image({"/var/run": Directory(), "/var/lock": Directory()}))


def test_a_saved_container_can_be_started(steps: Steps, savable: TinyImage, folder: str) -> None:
    saved = f"{folder}/saved.sqsh"
    _, said = steps.outcome(savable, "echo kept > /kept", "--container-writable", f"--container-save={saved}")
    assert f"to {saved}" in said
    done = steps.srun(saved, "cat /kept")
    assert behind(done, savable.marker) == ["kept"]


def test_modes_are_kept(steps: Steps, savable: TinyImage, folder: str) -> None:
    saved = f"{folder}/saved.sqsh"
    make = (
        "mkdir /modes && cd /modes && touch 400 640 755 && mkdir 700 751 1777 &&"
        " for mode in *; do chmod $mode $mode; done"
    )
    show = "cd /modes && for mode in *; do stat -c '%n %a' $mode; done"
    options = ("--container-writable", f"--container-save={saved}")
    before = steps.inside(savable, f"{make} && {show}", *options)
    assert before == [f"{mode} {mode}" for mode in ("1777", "400", "640", "700", "751", "755")]
    assert behind(steps.srun(saved, show), savable.marker) == before


def test_the_file_is_complete_when_srun_returns(steps: Steps, savable: TinyImage, folder: str) -> None:
    # Once the file was written behind srun's back (NVIDIA/pyxis#76), so one success would prove little.
    saved = f"{folder}/saved.sqsh"
    for number in range(10):
        steps.inside(savable, f"echo {number} > /kept", "--container-writable", f"--container-save={saved}")
        unpacked = f"unsquashfs -quiet -no-progress -dest {folder}/look {saved} kept"
        steps.shell.on_the_node(f"rm -rf {folder}/look && {unpacked}")
        assert steps.shell.run(f"cat {folder}/look/kept").stdout == f"{number}\n"


def test_a_relative_path_counts_from_the_jobs_folder(steps: Steps, savable: TinyImage, folder: str) -> None:
    done = steps.shell.run(
        f"cd {folder} && srun --container-image={savable.reference} --container-save=./saved.sqsh cat /etc/os-release"
    )
    assert "pyxis-matrix-tiny" in done.stdout
    assert steps.shell.run(f"ls {folder}").stdout == "saved.sqsh\n"


def test_what_a_failing_command_left_is_saved_too(steps: Steps, savable: TinyImage, folder: str) -> None:
    saved = f"{folder}/saved.sqsh"
    steps.failing(savable, "echo kept > /kept; exit 9", "--container-writable", f"--container-save={saved}")
    assert behind(steps.srun(saved, "cat /kept"), savable.marker) == ["kept"]


def test_an_image_can_be_saved_onto_itself(steps: Steps, savable: TinyImage, folder: str) -> None:
    saved = f"{folder}/saved.sqsh"
    options = ("--container-writable", f"--container-save={saved}")
    steps.inside(savable, "echo first > /first", *options)
    steps.shell.run(f"srun --container-image={saved} --container-writable --container-save={saved} touch /second")
    assert behind(steps.srun(saved, "cat /first; ls /second"), savable.marker) == ["first", "/second"]


@pytest.mark.behaviour("save-onto-a-folder")
def test_onto_a_folder(steps: Steps, savable: TinyImage, folder: str, behaviour: Ask) -> None:
    steps.shell.run(f"mkdir {folder}/precious; touch {folder}/precious/file")
    done = steps.srun_unchecked(savable.reference, "true", f"--container-save={folder}/precious/")
    refused = "--container-save: target is a directory" in done.stdout + done.stderr
    # Refused, nothing has run. Otherwise nothing but enroot stood in the way when the command had ended; and until
    # 4.0.0 its `export --force` removed the folder.
    assert (savable.marker in done.stdout.splitlines()) is not refused, str(done)
    assert done.status != 0 or not refused, str(done)
    kept = steps.shell.run_unchecked(f"test -f {folder}/precious/file").status == 0
    answers = {(True, True): "refused", (False, True): "kept", (False, False): "deleted"}
    behaviour("save-onto-a-folder").saw_by((refused, kept), answers, done)


@pytest.mark.behaviour("save-with-a-mount")
def test_a_container_with_a_mount_can_be_saved(
    *, steps: Steps, savable: TinyImage, folder: str, control: Control, behaviour: Ask
) -> None:
    with control("without the mount it can be saved, to the same folder"):
        plain = f"{folder}/plain.sqsh"
        steps.inside(savable, "echo kept > /kept", "--container-writable", f"--container-save={plain}")
        assert behind(steps.srun(plain, "cat /kept"), savable.marker) == ["kept"]
    # The folder that enroot makes to mount something on is closed to everybody, and its export has to step over it.
    saved = f"{folder}/saved.sqsh"
    options = ("--container-writable", f"--container-save={saved}", f"--container-mounts={folder}:/made-for-the-mount")
    _, said = steps.outcome(savable, "echo kept > /kept", *options)
    if steps.shell.run_unchecked(f"test -e {saved}").status == 1:
        assert "failed to export container" in said
        closed = f"{folder}/closed"
        look = f"mkdir {closed} && chmod 000 {closed} && find {closed} -perm 0000 -prune -empty"
        steps_over_it = steps.shell.run_unchecked(look).status == 0
        behaviour("save-with-a-mount").saw("not saved", said)
        assert steps_over_it, "the step succeeded without a saved file: find(1) fails at a folder of mode 000"
        pytest.fail(f"the step succeeded without a saved file: {said}")
    assert behind(steps.srun(saved, "cat /kept"), savable.marker) == ["kept"]
    behaviour("save-with-a-mount").saw("saved")
