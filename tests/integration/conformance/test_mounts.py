"""``--container-mounts``: what is mounted, what is refused, and what is said about it."""

import pytest

from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.cluster import Shell
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


def test_a_folder_is_mounted_where_asked_and_writable(steps: Steps, plain: TinyImage, folder: str) -> None:
    steps.shell.run(f"echo from-host > {folder}/file")
    lines = steps.inside(plain, "cat /m/file; echo from-container > /m/new", f"--container-mounts={folder}:/m")
    assert lines == ["from-host"]
    assert steps.shell.run(f"cat {folder}/new").stdout == "from-container\n"


def test_a_source_alone_is_mounted_onto_itself(steps: Steps, plain: TinyImage, folder: str) -> None:
    steps.shell.run(f"echo from-host > {folder}/file")
    assert steps.inside(plain, f"cat {folder}/file", f"--container-mounts={folder}") == ["from-host"]


def test_a_single_file_is_mounted(steps: Steps, plain: TinyImage, folder: str) -> None:
    steps.shell.run(f"echo from-host > {folder}/file")
    assert steps.inside(plain, "cat /etc/one", f"--container-mounts={folder}/file:/etc/one") == ["from-host"]


def test_several_mounts_are_separated_by_commas(steps: Steps, plain: TinyImage, folder: str) -> None:
    steps.shell.run(f"mkdir {folder}/a {folder}/b; echo first > {folder}/a/file; echo second > {folder}/b/file")
    lines = steps.inside(plain, "cat /a/file /b/file", f"--container-mounts={folder}/a:/a,{folder}/b:/b")
    assert lines == ["first", "second"]


@pytest.mark.behaviour("mounts-twice")
def test_of_two_options_only_the_last_is_mounted(steps: Steps, plain: TinyImage, folder: str, behaviour: Ask) -> None:
    """Slurm hands the plugin of a node one value for each option; nobody says that the other one is lost."""
    steps.shell.run(f"mkdir {folder}/a {folder}/b")
    options = (f"--container-mounts={folder}/a:/a", f"--container-mounts={folder}/b:/b")
    lines = steps.inside(plain, "test -e /a || echo no-a; test -e /b && echo b", *options)
    behaviour("mounts-twice").saw_by(tuple(lines), {("no-a", "b"): "only the last"})


@pytest.mark.parametrize("flags", ["ro", "unbindable+ro"])
def test_a_read_only_mount_refuses_writes(steps: Steps, plain: TinyImage, folder: str, flags: str) -> None:
    _, said = steps.failing(plain, "touch /m/file", f"--container-mounts={folder}:/m:{flags}")
    assert "Read-only file system" in said
    assert steps.shell.run(f"ls {folder}").stdout == ""


def test_a_tmpfs_can_be_mounted(steps: Steps, plain: TinyImage) -> None:
    assert steps.inside(plain, "touch /t/x && grep -c ' /t tmpfs ' /proc/mounts", "--container-mounts=tmpfs:/t") == [
        "1"
    ]


def test_what_is_not_mounted_is_not_there(steps: Steps, plain: TinyImage, folder: str) -> None:
    assert steps.inside(plain, f"test -e {folder} || echo absent", "--no-container-mount-home") == ["absent"]


@pytest.mark.parametrize(
    ("mounts", "says"),
    [
        ("", "--container-mounts: argument required"),
        (":", "--container-mounts: invalid format: :"),
        ("/tmp:", "--container-mounts: invalid format: /tmp:"),
        ("/tmp:mnt", "target must be a"),
        ("devpts:/x", "source must be a"),
        ("/home:../home", "../home: "),
    ],
)
def test_malformed_mounts_are_refused(steps: Steps, plain: TinyImage, mounts: str, says: str) -> None:
    steps.refused(plain.reference, says, f"--container-mounts={mounts}")


@pytest.mark.behaviour("missing-mount-source")
def test_a_missing_source_is_refused(steps: Steps, plain: TinyImage, folder: str, behaviour: Ask) -> None:
    said = steps.refused(plain.reference, f"{folder}/none", f"--container-mounts={folder}/none:/m")
    # Else enroot's own helper was the first to notice.
    named = "source path does not exist"
    behaviour("missing-mount-source").saw(named if named in said else "enroot's words", said)


@pytest.mark.behaviour("mount-source-with-a-space")
def test_a_source_with_a_space(steps: Steps, plain: TinyImage, folder: str, behaviour: Ask) -> None:
    steps.shell.run(f"mkdir '{folder}/with space'; echo from-host > '{folder}/with space/file'")
    mount = f"--container-mounts={folder}/with space:/m"
    lines, said = steps.either(plain, "cat /m/file", mount, refusals=["enroot-mount: failed to mount: "])
    assert lines in (["from-host"], None), lines
    behaviour("mount-source-with-a-space").saw("refused" if lines is None else "mounted", said)


def test_mounts_belong_to_their_step_alone(steps: Steps, plain: TinyImage, folder: str, cluster_shell: Shell) -> None:
    steps.inside(plain, "true", f"--container-mounts={folder}:/m")
    # grep ends with 1 where there is none; anything above is no answer.
    assert cluster_shell.on_the_node("grep ' /m ' /proc/mounts; echo $?").stdout == "1\n"
    assert steps.inside(plain, "test -e /m || echo absent") == ["absent"]
