"""What enroot and Slurm make of files that a site or a user puts beside theirs: values, variables, mounts, plugins."""

from collections.abc import Callable, Iterator
import signal

import pytest

from ci.matrix.cells import Cell
from tests.integration.conformance.plugins import ClientSide
from tests.integration.conformance.support import NOT_STARTED, Steps
from tests.support.behaviours import Ask
from tests.support.cluster import Node
from tests.support.expectations import not_promised
from tests.support.oci.tiny import TinyImage
from tests.support.proof import proven

pytestmark = pytest.mark.container_packaging

DropIn = Callable[[str], None]
_ASKED = "PYXIS_MATRIX_ASKED"
"""Only a command with this variable gets another value than the default: the cell's other tests go on meanwhile."""


@pytest.fixture
def drop_in(login_node: Node, folder: str) -> Iterator[DropIn]:
    """Return what writes a setting into a file that enroot reads beside the node's own, one after another.

    Steps of other tests read them, too. So one is there at once and whole, and in the end it is empty: enroot passes
    over that, and one that goes between a look at it and its reading would be an error.
    """
    folder_of_node = "/etc/enroot/enroot.conf.d"
    files: list[str] = []

    def write(setting: str) -> None:
        files.append(f"{folder_of_node}/{folder.rpartition('/')[2]}.{len(files)}.conf")
        new = f"{files[-1]}.new"
        login_node.run(f"mkdir -p {folder_of_node}; echo '{setting}' > {new} && mv {new} {files[-1]}")

    yield write
    for file in files:
        login_node.run(f": > {file}")


@pytest.fixture
def own(cell: Cell, folder: str) -> dict[str, str]:
    """Return what makes a folder the place of the user's own files for enroot."""
    not_promised(cell, "hooks, mounts and variables of a user's own")
    return {"ENROOT_CONFIG_PATH": folder}


def test_what_enroot_takes_for_no(steps: Steps, cell: Cell, plain: TinyImage, drop_in: DropIn) -> None:
    """Silent: ``off``, ``0`` and ``disabled`` switch a setting on, as anything does that is no form of ``no``."""
    not_promised(cell, "what it takes for no")
    drop_in(f"ENROOT_REMAP_ROOT ${{{_ASKED}:-no}}")
    user = steps.shell.run("id -u").stdout.strip()
    for word, expected in {"no": user, "N": user, "False": user, "off": "0", "0": "0", "disabled": "0"}.items():
        found = steps.inside(plain, "id -u", variables={_ASKED: word})
        assert found == [expected], word


def test_of_two_files_the_first_that_enroot_reads_holds(
    steps: Steps, cell: Cell, plain: TinyImage, drop_in: DropIn
) -> None:
    not_promised(cell, "two files with one setting")
    drop_in(f"ENROOT_REMAP_ROOT ${{{_ASKED}:-no}}")
    drop_in("ENROOT_REMAP_ROOT no")
    assert steps.inside(plain, "id -u", variables={_ASKED: "yes"}) == ["0"]


def test_a_home_in_the_nodes_settings_and_a_step_without_one(
    *, steps: Steps, cell: Cell, plain: TinyImage, drop_in: DropIn, folder: str
) -> None:
    """Silent: where ``${HOME}`` is not set, the whole setting is passed over, and enroot's default holds."""
    not_promised(cell, "hooks, mounts and variables of a user's own")
    if "enroot_config_path" in dict(cell.settings):
        pytest.skip("the profile says where the user's own files are: run it without the profile")
    below = folder.rpartition("/")[2]
    drop_in(f"ENROOT_CONFIG_PATH ${{{_ASKED}:+${{HOME}}/{below}}}")
    steps.shell.run(f"mkdir {folder}/environ.d; echo FROM_FILE=yes > {folder}/environ.d/own.env")
    show = "echo ${FROM_FILE-no}"
    assert steps.inside(plain, show, variables={_ASKED: "1"}) == ["yes"]
    assert steps.inside(plain, show, f"--export={_ASKED}=1") == ["no"]


def test_variables_of_a_file(steps: Steps, plain: TinyImage, folder: str, own: dict[str, str]) -> None:
    """``${V}`` is the job's value, other forms stay as they are written, and the file wins over the job."""
    text = "BRACED=${V}\nPLAIN=$V\nDEFAULT=${V:-d}\nBOTH=of-the-file\n"
    steps.shell.run(f"mkdir {folder}/environ.d; cat > {folder}/environ.d/own.env", stdin=text)
    job = {**own, "V": "of-the-job", "BOTH": "of-the-job"}
    show = 'echo "$BRACED"; echo "$PLAIN"; echo "$DEFAULT"; echo "$BOTH"'
    assert steps.inside(plain, show, variables=job) == ["of-the-job", "$V", "${V:-d}", "of-the-file"]
    assert steps.inside(plain, "echo $BOTH", "--container-env=BOTH", variables=job) == ["of-the-job"]


@pytest.mark.parametrize("source", ["/no/such/folder", "${NOT_SET}"], ids=["missing", "not set"])
def test_a_mount_of_a_file_whose_source_is_missing(
    steps: Steps, plain: TinyImage, folder: str, own: dict[str, str], source: str
) -> None:
    """Every container is refused, unless the file says ``nofail``."""
    line = f"{source} /m none x-create=dir,bind"
    steps.shell.run(f"mkdir {folder}/mounts.d; cat > {folder}/mounts.d/own.fstab", stdin=f"{line}\n")
    steps.refused(plain.reference, NOT_STARTED, variables=own)
    if source.startswith("/"):
        steps.shell.run(f"cat > {folder}/mounts.d/own.fstab", stdin=f"{line},nofail\n")
        assert steps.inside(plain, "echo it-ran", variables=own) == ["it-ran"]


@pytest.mark.starts_no_container
def test_a_file_among_those_of_plugins_that_users_may_not_read(steps: Steps, folder: str) -> None:
    """Where plugstack.conf includes all of a folder, one such file keeps users from running anything."""
    client = ClientSide(shell=steps.shell, folder=folder)
    steps.shell.run(f"mkdir {folder}/plugstack.d; touch {folder}/plugstack.d/of-roots")
    client.use(f"include {folder}/plugstack.d/*")
    assert steps.on_the_host("echo it-ran", variables=client.variables) == ["it-ran"]
    steps.shell.run(f"chmod 000 {folder}/plugstack.d/of-roots")
    steps.refused("", "Permission denied", variables=client.variables)
    for command in ("sbatch --test-only --wrap=true", "salloc true"):
        done = steps.shell.run_unchecked(f"cd /tmp && SLURM_CONF={folder}/slurm.conf {command}")
        assert (done.status, "Permission denied" in done.stderr) == (1, True), str(done)
    assert steps.shell.run(f"SLURM_CONF={folder}/slurm.conf sinfo --noheader").stdout


@pytest.mark.behaviour("plugin-twice")
def test_a_login_node_that_names_the_plugin_twice(
    *, steps: Steps, plain: TinyImage, folder: str, cell: Cell, behaviour: Ask
) -> None:
    """As a copy of its line in another file does it, where plugstack.conf includes all of a folder."""
    not_promised(cell, "what two lines with the same plugin do")
    client = ClientSide(shell=steps.shell, folder=folder)
    client.use(*[f"required {client.installed_path}"] * 2)
    assert steps.on_the_host("echo it-ran", variables=client.variables) == ["it-ran"]
    done = steps.srun_unchecked(plain.reference, "echo it-ran", variables=client.variables)
    assert proven(done, plain) == ["it-ran"]
    # By SSH its signal is told as it is, by a shell as 134.
    behaviour("plugin-twice").saw_by(done.status, dict.fromkeys((134, -signal.SIGABRT), "srun aborts"), done)
