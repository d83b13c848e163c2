"""Where the embedded runtime answers otherwise than the newest real cell, knowingly: the table in its README, tried.

Each test has both answers, some of them as a behaviour's. What enroot and Pyxis do here is no promise of theirs, and
mostly an accident of how they do it; the embedded runtime is not made to repeat it.
"""

from collections.abc import Callable
from dataclasses import replace
import io
import tarfile

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.conftest import MakeImage, Unpack
from tests.integration.conformance.support import NOT_IMPORTED, NOT_STARTED, Steps
from tests.support.behaviours import Ask
from tests.support.expectations import differs
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.images import push
from tests.support.oci.layers import Layer, Symlink
from tests.support.oci.tiny import TinyImage
from tests.support.registry_client import RegistryClient

pytestmark = pytest.mark.container_packaging

Stack = Callable[..., TinyImage]


@pytest.fixture
def stack(make_image: MakeImage, registry_client: RegistryClient) -> Stack:
    """Return a function that pushes an image with further layers on top."""

    def stack(*layers: Layer) -> TinyImage:
        below = make_image()
        image = below.image.plus(*layers)
        pushed = push(registry_client, f"conformance/{below.marker}", "stacked", image)
        return replace(below, reference=pushed.reference, pushed=pushed, image=image)

    return stack


def archive(*members: tarfile.TarInfo) -> Layer:
    """Make a layer of just these members, without the folders above them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member in members:
            tar.addfile(member)
    return Layer(tar=stream.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE, **attributes: object) -> tarfile.TarInfo:
    """Make an archive's member without content."""
    made = tarfile.TarInfo(name)
    made.type = kind
    for attribute, value in attributes.items():
        setattr(made, attribute, value)
    return made


def not_imported(steps: Steps, stack: Stack, *layers: Layer) -> None:
    """Expect that an import fails for what the last of the layers has: without it, the image runs.

    It is tar, or a helper of enroot's, that says why, each release in words of its own.
    """
    steps.inside(stack(*layers[:-1]), "true")
    steps.refused(stack(*layers).reference, NOT_IMPORTED)


# -- layers ---------------------------------------------------------------------------------------------------------


def test_a_hard_link_to_a_lower_layer(steps: Steps, stack: Stack, cell: Cell) -> None:
    link = member("opt/again", tarfile.LNKTYPE, linkname="opt/low")
    layers = (Layer.of({"/opt/low": "below\n"}), archive(link))
    if differs(cell, "a hard link to a lower layer"):
        assert steps.inside(stack(*layers), "cat /opt/again") == ["below"]
    else:
        not_imported(steps, stack, *layers)


def test_a_whiteout_beside_the_file(steps: Steps, stack: Stack, cell: Cell) -> None:
    layers = (Layer.of({"/opt/a": "below\n"}), Layer.of({"/opt/.wh.a": "", "/opt/a": "above\n"}))
    if differs(cell, "`.wh.a` beside `a`"):
        assert steps.inside(stack(*layers), "cat /opt/a") == ["above"]
    else:
        not_imported(steps, stack, *layers)


def test_bookkeeping_of_aufs(steps: Steps, stack: Stack, cell: Cell) -> None:
    layers = (Layer.of({"/opt/a": "here\n"}), Layer.of({"/opt/.wh..wh.plnk": ""}))
    if differs(cell, "`.wh..wh.plnk`"):
        assert steps.inside(stack(*layers), "ls -A /opt") == ["a"]
    else:
        not_imported(steps, stack, *layers)


def test_a_device_in_a_layer(steps: Steps, stack: Stack, cell: Cell) -> None:
    layers = (archive(member("opt/a")), archive(member("opt/null", tarfile.CHRTYPE, devmajor=1, devminor=3)))
    if differs(cell, "a device outside /dev"):
        assert steps.inside(stack(*layers), "ls -A /opt") == ["a"]
    else:
        not_imported(steps, stack, *layers)


def test_a_file_below_a_link_of_a_lower_layer(steps: Steps, stack: Stack, cell: Cell) -> None:
    image = stack(Layer.of({"/opt/real/old": "", "/opt/way": Symlink("real")}), archive(member("opt/way/new")))
    script = "readlink /opt/way || echo folder; ls /opt/real /opt/way"
    if differs(cell, "a file below a link of a lower layer"):
        assert steps.inside(image, script) == ["real", "/opt/real:", "new", "old", "", "/opt/way:", "new", "old"]
    else:
        assert steps.inside(image, script) == ["folder", "/opt/real:", "old", "", "/opt/way:", "new"]


@pytest.mark.behaviour("time-zone-link")
def test_a_time_zone_that_is_a_link(steps: Steps, make_image: MakeImage, unpacked: Unpack, behaviour: Ask) -> None:
    image = unpacked(make_image({"/etc/localtime": Symlink("/opt/zone"), "/opt/zone": "mine\n"}))
    (nodes_link,) = steps.on_the_host("readlink /etc/localtime")
    assert nodes_link != "/opt/zone"
    lines = steps.inside(image, "readlink /etc/localtime && head -c 4 /etc/localtime")
    answers = {
        ("/opt/zone", "mine"): "the image's own",
        ("/opt/zone", "TZif"): "the image's link to the node's zone",
        (nodes_link, "TZif"): "the node's link",
    }
    behaviour("time-zone-link").saw_by(tuple(lines), answers)


@pytest.mark.behaviour("time-zone-link-to-a-folder")
def test_a_time_zone_that_is_a_link_to_a_folder(
    steps: Steps, make_image: MakeImage, unpacked: Unpack, behaviour: Ask
) -> None:
    """Since 3.5.0 enroot copies the node's link with cp(1), which follows the image's to the node's folder."""
    image = unpacked(make_image({"/etc/localtime": Symlink("/usr/share")}))
    lines, said = steps.either(image, "true", refusals=[NOT_STARTED])
    behaviour("time-zone-link-to-a-folder").saw("fails" if lines is None else "starts", said)


# -- configuration --------------------------------------------------------------------------------------------------


def test_a_variable_in_a_variable(steps: Steps, make_image: MakeImage, unpacked: Unpack, cell: Cell) -> None:
    image = unpacked(make_image(env={"PATH": "/bin:/usr/bin", "WHERE": "${FROM_JOB}/bin"}))
    lines = steps.inside(image, 'printf "%s\\n" "$WHERE"', variables={"FROM_JOB": "/job"})
    assert lines == (["${FROM_JOB}/bin"] if differs(cell, "`${VAR}` in ENV") else ["/job/bin"])


def test_a_dollar_in_the_working_folder(steps: Steps, make_image: MakeImage, unpacked: Unpack, cell: Cell) -> None:
    image = unpacked(make_image(workdir="/opt/$NOTHING/here"))
    if differs(cell, "`$` in WORKDIR"):
        assert steps.inside(image, "pwd") == ["/opt/$NOTHING/here"]
    elif cell.says("ENROOT_ROOTFS_WRITABLE=yes"):
        # enroot makes the folder that the variable's value gives, where it may write.
        assert steps.inside(image, "pwd") == ["/opt/here"]
    else:
        steps.refused(image.reference, NOT_STARTED)


def test_an_image_that_asks_for_gpus(steps: Steps, make_image: MakeImage, unpacked: Unpack, cell: Cell) -> None:
    image = unpacked(make_image(env={"PATH": "/bin:/usr/bin", "NVIDIA_VISIBLE_DEVICES": "all"}))
    if differs(cell, "CUDA images"):
        assert steps.inside(image, "echo $NVIDIA_VISIBLE_DEVICES") == ["all"]
    else:
        steps.refused(image.reference, "nvidia-container-cli")
    # The way out on a node without a GPU.
    steps.inside(image, "true", variables={"NVIDIA_VISIBLE_DEVICES": "void"})


# -- options and variables ------------------------------------------------------------------------------------------


def test_a_folder_for_temporary_files_that_is_not_there(steps: Steps, make_image: MakeImage, cell: Cell) -> None:
    image = make_image()
    variables = {"TMPDIR": "/is/not/there"}
    if differs(cell, "a bad TMPDIR"):
        assert steps.inside(image, "echo in", variables=variables) == ["in"]
    else:
        # Although ENROOT_TEMP_PATH is set: GNU parallel goes by TMPDIR.
        steps.refused(image.reference, NOT_IMPORTED, variables=variables)
        steps.inside(image, "true")


def test_a_name_with_a_space(steps: Steps, plain: TinyImage, folder: str, cell: Cell) -> None:
    # In a folder of its own: such a container spoils every later `enroot list --fancy`, and so the other tests' steps.
    own = f"export ENROOT_DATA_PATH={folder}; "
    steps.shell.run(f"{own}enroot create --name 'a b' {plain.reference}")
    done = steps.shell.run_unchecked(f"{own}enroot start 'a b' cat {IMAGE_MARKER}")
    if differs(cell, "a name with a space"):
        assert done.stdout == f"{plain.marker}\n", str(done)
    else:
        assert done.status != 0, str(done)
        assert plain.marker not in done.stdout, str(done)
        # Nothing but the name is wrong.
        steps.shell.run(f"{own}enroot create --name ab {plain.reference}")
        assert steps.shell.run(f"{own}enroot start ab cat {IMAGE_MARKER}").stdout == f"{plain.marker}\n"


def test_a_dollar_in_a_mounts_source(steps: Steps, plain: TinyImage, folder: str, cell: Cell) -> None:
    steps.shell.run(f"mkdir '{folder}/a$NOTHING'; echo from-host > '{folder}/a$NOTHING/file'")
    option = f"--container-mounts={folder}/a$NOTHING:/m"
    if differs(cell, "`$` in mount sources"):
        assert steps.inside(plain, "cat /m/file", option) == ["from-host"]
    else:
        steps.refused(plain.reference, NOT_STARTED, option)


@pytest.mark.behaviour("wrong-value-of-a-pyxis-variable")
def test_a_wrong_value_in_a_variable(steps: Steps, plain: TinyImage, behaviour: Ask) -> None:
    variables = {"PYXIS_CONTAINER_MOUNTS": "nonsense"}
    lines, said = steps.either(plain, "echo in", refusals=["--container-mounts: "], variables=variables)
    assert lines in (["in"], None), said
    behaviour("wrong-value-of-a-pyxis-variable").saw("refused" if lines is None else "runs without it", said)


# -- inside ---------------------------------------------------------------------------------------------------------


def test_the_mode_of_tmp(steps: Steps, plain: TinyImage, cell: Cell) -> None:
    assert steps.inside(plain, "stat -c %a /tmp") == ["1777" if differs(cell, "the mode of /tmp") else "755"]


def test_where_a_containers_files_lie(steps: Steps, make_image: MakeImage, container_name: str, cell: Cell) -> None:
    steps.inside(make_image(), "true", f"--container-name={container_name}")
    user = steps.shell.run("id -u").stdout.strip()
    path = f"/var/lib/enroot-data/data/user-{user}/{steps.enroot_name(container_name)}/etc/os-release"
    plainly = steps.shell.run_unchecked(f"test -e {path}").status == 0
    assert plainly is not differs(cell, "files of a container on the node")
