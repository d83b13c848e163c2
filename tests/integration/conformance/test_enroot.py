"""The enroot command itself, as a user runs it on a node without Slurm."""

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.environment_file import EnvironmentFile
from ci.matrix.cells import Cell
from tests.integration.conformance.support import Steps, rootfs
from tests.support.cluster import Node, Shell, shell
from tests.support.expectations import differs, since
from tests.support.markers import IMAGE_MARKER
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging

# More than a signed number of 32 bits holds; what some directory services hand out.
_GREAT_UID = 3_000_000_000


def test_create_start_remove(cluster_shell: Shell, plain: TinyImage, container: str) -> None:
    assert container in cluster_shell.run("enroot list").stdout.split()
    done = cluster_shell.run(f"enroot start {container} cat {IMAGE_MARKER}")
    assert done.stdout == f"{plain.marker}\n"
    cluster_shell.run(f"enroot remove --force {container}")
    assert container not in cluster_shell.run("enroot list").stdout.split()


def test_settings_of_a_file_beside_the_nodes(login_node: Node, cluster_shell: Shell, container: str) -> None:
    # Only a command with this variable gets another value than the default; the cell's other tests go on meanwhile.
    file = f"/etc/enroot/enroot.conf.d/{container}.conf"
    start = f"enroot start {container} id -u"
    login_node.run(f"mkdir -p {file.rpartition('/')[0]}; echo 'ENROOT_REMAP_ROOT ${{PYXIS_MATRIX_ROOT:-no}}' > {file}")
    try:
        asked = cluster_shell.run(f"PYXIS_MATRIX_ROOT=yes {start}")
        not_asked = cluster_shell.run(start)
    finally:
        login_node.run(f"rm {file}")
    assert (asked.stdout, not_asked.stdout) == ("0\n", cluster_shell.run("id -u").stdout)


def test_a_second_container_of_the_same_name_is_refused(cluster_shell: Shell, plain: TinyImage, container: str) -> None:
    done = cluster_shell.run_unchecked(f"enroot create --name {container} {plain.reference}")
    assert done.status != 0
    assert "File already exists" in done.stderr


@pytest.mark.starts_no_container
def test_import_does_not_overwrite(cluster_shell: Shell, tiny_image: TinyImage, folder: str) -> None:
    cluster_shell.run(f"touch {folder}/there.sqsh")
    done = cluster_shell.run_unchecked(f"enroot import --output {folder}/there.sqsh 'docker://{tiny_image.reference}'")
    assert done.status != 0
    assert "File already exists" in done.stderr


@pytest.mark.starts_no_container
def test_info(cluster_shell: Shell, cell: Cell) -> None:
    done = cluster_shell.run_unchecked("enroot info")
    if since(cell, enroot="4.0.0"):
        assert "ENROOT_DATA_PATH=" in done.stdout, str(done)
    else:
        assert (done.status, "Usage: enroot" in done.stdout + done.stderr) == (1, True), str(done)


@pytest.mark.starts_no_container
def test_digest(cluster_shell: Shell, tiny_image: TinyImage, cell: Cell) -> None:
    done = cluster_shell.run_unchecked(f"enroot digest 'docker://{tiny_image.reference}'")
    if since(cell, enroot="4.0.0"):
        assert done.stdout.split()[-1] == tiny_image.pushed.digest, str(done)
    else:
        assert (done.status, "Usage: enroot" in done.stdout + done.stderr) == (1, True), str(done)


def test_load(cluster_shell: Shell, tiny_image: TinyImage, container_name: str, cell: Cell) -> None:
    done = cluster_shell.run_unchecked(f"enroot load --name {container_name} 'docker://{tiny_image.reference}'")
    if since(cell, enroot="4.0.0"):
        assert done.status == 0, str(done)
        started = cluster_shell.run(f"enroot start {container_name} cat {IMAGE_MARKER}")
        assert started.stdout == f"{tiny_image.marker}\n"
    else:
        assert (done.status, "Usage: enroot" in done.stdout + done.stderr) == (1, True), str(done)


def test_list_survives_a_process_that_vanishes(
    steps: Steps, plain: TinyImage, container_name: str, folder: str, cell: Cell
) -> None:
    # The moment can't be met on purpose, but its trace can: ps knows nothing of the process any more.
    steps.shell.run(f"printf '#!/bin/sh\\nexit 1\\n' > {folder}/ps && chmod +x {folder}/ps")
    with steps.running(plain.reference, "echo ready; sleep 600", f"--container-name={container_name}"):
        done = steps.shell.run_unchecked(f"PATH={folder}:$PATH enroot list --fancy")
    assert (done.status == 0) is since(cell, enroot="4.0.0"), str(done)


def test_forced_export_onto_a_folder(cluster_shell: Shell, container: str, folder: str, cell: Cell) -> None:
    cluster_shell.run(f"mkdir {folder}/precious && touch {folder}/precious/file")
    done = cluster_shell.run_unchecked(f"enroot export --force --output {folder}/precious {container}")
    kept = cluster_shell.run_unchecked(f"test -f {folder}/precious/file").status == 0
    assert (kept, done.status != 0) == ((True, True) if since(cell, enroot="4.0.0") else (False, False)), str(done)


def test_export_of_what_can_not_be_read(cluster_shell: Shell, container: str, folder: str, cell: Cell) -> None:
    cluster_shell.run(f"chmod 000 {rootfs(cluster_shell, container)}/etc/os-release")
    done = cluster_shell.run_unchecked(f"enroot export --output {folder}/partial.sqsh {container}")
    if since(cell, enroot="4.1.0"):
        assert done.status != 0, str(done)
    else:
        # Success, and an image that lacks the file's content.
        assert done.status == 0, str(done)
        cluster_shell.run(f"unsquashfs -no-progress -dest {folder}/look {folder}/partial.sqsh etc/os-release")
        assert cluster_shell.run(f"stat --format=%s {folder}/look/etc/os-release").stdout == "0\n"


def test_remove_of_a_closed_folder(cluster_shell: Shell, container: str, cell: Cell) -> None:
    root = rootfs(cluster_shell, container)
    cluster_shell.run(f"mkdir -p {root}/closed/inner && chmod 000 {root}/closed")
    done = cluster_shell.run_unchecked(f"enroot remove --force {container}")
    gone = cluster_shell.run_unchecked(f"test -e {root}").status != 0
    assert (gone, done.status == 0) == ((True, True) if since(cell, enroot="4.1.1") else (False, False)), str(done)


def test_a_cache_of_two_users(
    cluster_shell: Shell, environment: EnvironmentFile, tiny_image: TinyImage, cell: Cell
) -> None:
    """What one user has fetched is closed to another one of another group, whose import fails; apart, both succeed."""
    cache = cluster_shell.run("mktemp --directory /tmp/cache-XXXXXXXXXX").stdout.strip()
    cluster_shell.run(f"chmod 1777 {cache}")

    def fetch(who: Shell, folder: str) -> RemoteAnswer:
        return who.run_unchecked(
            f"cd $(mktemp --directory) && ENROOT_CACHE_PATH={folder} enroot import --output image.sqsh"
            f" 'docker://{tiny_image.reference}' && unsquashfs -cat image.sqsh {IMAGE_MARKER.lstrip('/')}"
        )

    with shell(environment, environment.second_user) as second:
        groups = [set(who.run("id --groups").stdout.split()) for who in (cluster_shell, second)]
        assert groups[0].isdisjoint(groups[1])
        first = fetch(cluster_shell, cache)
        if differs(cell, "a cache that other users can write to"):
            assert "can be written to by other users" in first.stderr, str(first)
        else:
            assert first.stdout == f"{tiny_image.marker}\n", str(first)
        shared = fetch(second, cache)
        assert shared.status != 0, str(shared)
        own = fetch(second, second.run("mktemp --directory").stdout.strip())
        assert own.stdout == f"{tiny_image.marker}\n", str(own)
    cluster_shell.run(f"rm -rf {cache}")


def test_the_time_zone_is_a_file_of_the_images_own(steps: Steps, plain: TinyImage, cell: Cell) -> None:
    script = "echo mine > /etc/mine && mv /etc/mine /etc/localtime && cat /etc/localtime"
    options = ("--container-writable", "--container-remap-root")
    if since(cell, enroot="3.5.0"):
        assert steps.inside(plain, script, *options) == ["mine"]
    else:
        # The host's was mounted there, and nothing can take the place of a mount point.
        assert "busy" in steps.failing(plain, script, *options)[1]


def test_a_user_with_a_great_number(login_node: Node, plain: TinyImage, cell: Cell) -> None:
    image = f"/tmp/great-{plain.marker}.sqsh"
    as_great = f"setpriv --reuid={_GREAT_UID} --regid={_GREAT_UID} --clear-groups env HOME=/tmp"
    done = login_node.run_unchecked(
        f"install -m 0644 {plain.reference} {image}\n"
        # Known to this command alone: in a mount namespace of its own.
        "unshare --mount bash -e -c '"
        f"for file in passwd group; do cp /etc/$file /tmp/$file-{plain.marker}; done\n"
        f"echo great:x:{_GREAT_UID}:{_GREAT_UID}:great:/tmp:/bin/sh >> /tmp/passwd-{plain.marker}\n"
        f"echo great:x:{_GREAT_UID}: >> /tmp/group-{plain.marker}\n"
        f"for file in passwd group; do mount --bind /tmp/$file-{plain.marker} /etc/$file; done\n"
        f"{as_great} enroot create --name great-{plain.marker} {image}\n"
        f'status=0; {as_great} enroot start great-{plain.marker} sh -c "cat {IMAGE_MARKER}; id -u" || status=$?\n'
        f"{as_great} enroot remove --force great-{plain.marker}\n"
        "exit $status'\n"
        f"status=$?; rm -f {image} /tmp/passwd-{plain.marker} /tmp/group-{plain.marker}; exit $status"
    )
    if since(cell, enroot="4.0.0"):
        assert (done.status, done.stdout.split()) == (0, [plain.marker, str(_GREAT_UID)]), str(done)
    else:
        assert done.status != 0, str(done)
        assert plain.marker not in done.stdout.split(), str(done)
