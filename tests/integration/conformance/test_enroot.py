"""The enroot command itself, as a user runs it on a node without Slurm."""

import pytest

from ci.environment.ssh import RemoteAnswer
from ci.environment_file import EnvironmentFile
from ci.matrix.cells import Cell
from tests.integration.conformance.support import Steps, rootfs
from tests.support.behaviours import Ask
from tests.support.cluster import Node, Shell, shell
from tests.support.expectations import not_promised
from tests.support.markers import IMAGE_MARKER
from tests.support.not_asked import needs
from tests.support.oci.tiny import TinyImage
from tests.support.proof import proven

pytestmark = pytest.mark.container_packaging

# More than a signed number of 32 bits holds; what some directory services hand out.
_GREAT_UID = 3_000_000_000
# From this status on it is a shell's: a program that is missing, or that a signal ended.
_NOT_RUN = 126


def test_create_start_remove(cluster_shell: Shell, plain: TinyImage, container: str) -> None:
    assert container in cluster_shell.run("enroot list").stdout.split()
    done = cluster_shell.run(f"enroot start {container} cat {IMAGE_MARKER}")
    assert done.stdout == f"{plain.marker}\n"
    cluster_shell.run(f"enroot remove --force {container}")
    assert container not in cluster_shell.run("enroot list").stdout.split()


@pytest.mark.parametrize(("end", "taken"), [("\\n", True), ("", False)], ids=["line", "line-without-an-end"])
def test_settings_of_a_file_beside_the_nodes(
    *, login_node: Node, cluster_shell: Shell, container: str, end: str, taken: bool
) -> None:
    """A last line that has no end is dropped without a word."""
    # Only a command with this variable gets another value than the default; the cell's other tests go on meanwhile.
    file = f"/etc/enroot/enroot.conf.d/{container}.conf"
    start = f"enroot start {container} id -u"
    setting = f"ENROOT_REMAP_ROOT ${{PYXIS_MATRIX_ROOT:-no}}{end}"
    login_node.run(f"mkdir -p {file.rpartition('/')[0]}; printf '{setting}' > {file}")
    try:
        asked = cluster_shell.run(f"PYXIS_MATRIX_ROOT=yes {start}")
        not_asked = cluster_shell.run(start)
    finally:
        login_node.run(f"rm {file}")
    user = cluster_shell.run("id -u").stdout
    assert (asked.stdout, not_asked.stdout) == ("0\n" if taken else user, user)


def test_a_second_container_of_the_same_name_is_refused(cluster_shell: Shell, plain: TinyImage, container: str) -> None:
    done = cluster_shell.run_unchecked(f"enroot create --name {container} {plain.reference}")
    assert done.status != 0
    assert "File already exists" in done.stderr


@pytest.mark.behaviour("processors-of-create")
def test_create_with_a_number_of_processors(
    cluster_shell: Shell, container_name: str, plain: TinyImage, folder: str, behaviour: Ask
) -> None:
    """What unpacks the image is given the number; by itself it takes all cores."""
    script = f'#!/bin/sh\necho "$@" >> {folder}/arguments\nexec /usr/bin/unsquashfs "$@"\n'
    cluster_shell.run(f"cat > {folder}/unsquashfs && chmod +x {folder}/unsquashfs", stdin=script)
    create = f"enroot create --name {container_name} {plain.reference}"
    cluster_shell.run(f"PATH={folder}:$PATH ENROOT_MAX_PROCESSORS=1 {create}")
    unpacking = cluster_shell.run(f"grep -e -d {folder}/arguments").stdout
    behaviour("processors-of-create").saw("that number" if "-processors 1 " in unpacking else "all", unpacking)


@pytest.mark.starts_no_container
def test_import_does_not_overwrite(cluster_shell: Shell, tiny_image: TinyImage, folder: str) -> None:
    cluster_shell.run(f"touch {folder}/there.sqsh")
    done = cluster_shell.run_unchecked(f"enroot import --output {folder}/there.sqsh 'docker://{tiny_image.reference}'")
    assert done.status != 0
    assert "File already exists" in done.stderr


def is_unknown(done: RemoteAnswer) -> bool:
    """Tell whether enroot knows no such command: it shows how it is used then."""
    return (done.status, "Usage: enroot" in done.stdout + done.stderr) == (1, True)


@pytest.mark.behaviour("enroot-load-digest-info")
@pytest.mark.starts_no_container
def test_info(cluster_shell: Shell, behaviour: Ask) -> None:
    done = cluster_shell.run_unchecked("enroot info")
    assert is_unknown(done) or "ENROOT_DATA_PATH=" in done.stdout, str(done)
    behaviour("enroot-load-digest-info").saw("unknown" if is_unknown(done) else "there", done)


@pytest.mark.behaviour("enroot-load-digest-info")
@pytest.mark.starts_no_container
def test_digest(cluster_shell: Shell, tiny_image: TinyImage, behaviour: Ask) -> None:
    done = cluster_shell.run_unchecked(f"enroot digest 'docker://{tiny_image.reference}'")
    assert is_unknown(done) or done.stdout.split()[-1:] == [tiny_image.pushed.digest], str(done)
    behaviour("enroot-load-digest-info").saw("unknown" if is_unknown(done) else "there", done)


@pytest.mark.behaviour("enroot-load-digest-info")
def test_load(cluster_shell: Shell, tiny_image: TinyImage, container_name: str, behaviour: Ask) -> None:
    done = cluster_shell.run_unchecked(f"enroot load --name {container_name} 'docker://{tiny_image.reference}'")
    if not is_unknown(done):
        assert done.status == 0, str(done)
        started = cluster_shell.run(f"enroot start {container_name} cat {IMAGE_MARKER}")
        assert started.stdout == f"{tiny_image.marker}\n"
    behaviour("enroot-load-digest-info").saw("unknown" if is_unknown(done) else "there", done)


@pytest.mark.behaviour("list-while-a-process-ends")
def test_list_survives_a_process_that_vanishes(
    steps: Steps, plain: TinyImage, container_name: str, folder: str, behaviour: Ask
) -> None:
    # The moment can't be met on purpose, but its trace can: ps knows nothing of the process any more.
    steps.shell.run(f"printf '#!/bin/sh\\nexit 1\\n' > {folder}/ps && chmod +x {folder}/ps")
    with steps.running(plain.reference, "echo ready; sleep 600", f"--container-name={container_name}"):
        done = steps.shell.run_unchecked(f"PATH={folder}:$PATH enroot list --fancy")
    assert done.status < _NOT_RUN, str(done)
    behaviour("list-while-a-process-ends").saw("lists" if done.status == 0 else "fails", done)


@pytest.mark.behaviour("export-onto-a-folder")
def test_forced_export_onto_a_folder(cluster_shell: Shell, container: str, folder: str, behaviour: Ask) -> None:
    cluster_shell.run(f"mkdir {folder}/precious && touch {folder}/precious/file")
    done = cluster_shell.run_unchecked(f"enroot export --force --output {folder}/precious {container}")
    kept = cluster_shell.run_unchecked(f"test -f {folder}/precious/file").status == 0
    assert done.status < _NOT_RUN, str(done)
    answers = {(True, True): "kept", (False, False): "deleted"}
    behaviour("export-onto-a-folder").saw_by((kept, done.status != 0), answers, done)


def _export_of_what_can_not_be_read(shell: Shell, container: str, folder: str, options: str = "") -> RemoteAnswer:
    """Export a container with a file of mode 000; where that succeeds, the image lacks the file's content."""
    shell.run(f"chmod 000 {rootfs(shell, container)}/etc/os-release")
    done = shell.run_unchecked(f"{options} enroot export --output {folder}/partial.sqsh {container}")
    assert done.status < _NOT_RUN, str(done)
    if done.status == 0:
        shell.on_the_node(f"unsquashfs -no-progress -dest {folder}/look {folder}/partial.sqsh etc/os-release")
        assert shell.run(f"stat --format=%s {folder}/look/etc/os-release").stdout == "0\n"
    return done


@pytest.mark.behaviour("export-of-an-unreadable-file")
def test_export_of_what_can_not_be_read(
    *, cluster_shell: Shell, cell: Cell, container: str, folder: str, behaviour: Ask
) -> None:
    if cell.says("ENROOT_SQUASH_OPTIONS"):
        pytest.skip("the profile's options take the place of enroot's: test_export_with_options_of_ones_own")
    done = _export_of_what_can_not_be_read(cluster_shell, container, folder)
    behaviour("export-of-an-unreadable-file").saw("an empty file" if done.status == 0 else "fails", done)


def test_export_with_options_of_ones_own(cluster_shell: Shell, cell: Cell, container: str, folder: str) -> None:
    """Silent in every release: they take the place of enroot's own, which stop at the first error from 4.1.0 on."""
    not_promised(cell, "options of mksquashfs")
    done = _export_of_what_can_not_be_read(cluster_shell, container, folder, "ENROOT_SQUASH_OPTIONS=-noD")
    assert done.status == 0, str(done)


@pytest.mark.behaviour("remove-of-a-closed-folder")
def test_remove_of_a_closed_folder(cluster_shell: Shell, container: str, behaviour: Ask) -> None:
    root = rootfs(cluster_shell, container)
    cluster_shell.run(f"mkdir -p {root}/closed/inner && chmod 000 {root}/closed")
    done = cluster_shell.run_unchecked(f"enroot remove --force {container}")
    gone = cluster_shell.run_unchecked(f"test -e {root}").status != 0
    assert done.status < _NOT_RUN, str(done)
    answers = {(True, True): "removed", (False, False): "fails"}
    behaviour("remove-of-a-closed-folder").saw_by((gone, done.status == 0), answers, done)


@pytest.mark.behaviour("shared-cache")
def test_a_cache_of_two_users(
    cluster_shell: Shell, environment: EnvironmentFile, tiny_image: TinyImage, behaviour: Ask
) -> None:
    """What one user has fetched is closed to another one of another group, whose import fails; apart, both succeed."""
    if environment.site:
        needs("a second user")
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
        refused = "can be written to by other users" in first.stderr
        if refused:
            assert first.status != 0, str(first)
        else:
            assert first.stdout == f"{tiny_image.marker}\n", str(first)
        shared = fetch(second, cache)
        assert shared.status != 0, str(shared)
        own = fetch(second, second.run("mktemp --directory").stdout.strip())
        assert own.stdout == f"{tiny_image.marker}\n", str(own)
    cluster_shell.run(f"rm -rf {cache}")
    behaviour("shared-cache").saw("refused" if refused else "one user's only", first, shared)


@pytest.mark.behaviour("time-zone-file")
def test_the_time_zone_is_a_file_of_the_images_own(steps: Steps, plain: TinyImage, behaviour: Ask) -> None:
    script = "echo mine > /etc/mine && mv /etc/mine /etc/localtime && cat /etc/localtime"
    options = ("--container-writable", "--container-remap-root")
    done = steps.srun_unchecked(plain.reference, script, *options)
    lines = proven(done, plain)
    if done.status == 0:
        assert lines == ["mine"], str(done)
    else:
        # The host's was mounted there, and nothing can take the place of a mount point.
        assert "busy" in done.stdout + done.stderr, str(done)
    behaviour("time-zone-file").saw("a file" if done.status == 0 else "a mount", done)


@pytest.mark.behaviour("user-with-a-great-number")
def test_a_user_with_a_great_number(login_node: Node, plain: TinyImage, behaviour: Ask) -> None:
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
    started = (done.status, done.stdout.split()) == (0, [plain.marker, str(_GREAT_UID)])
    if not started:
        assert done.status != 0, str(done)
        assert plain.marker not in done.stdout.split(), str(done)
    behaviour("user-with-a-great-number").saw("starts" if started else "fails", done)
