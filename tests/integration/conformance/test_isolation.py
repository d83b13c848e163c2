"""What stands between a container, the node and other users; nothing fails where it is missing."""

import shlex

import pytest

from ci.environment_file import EnvironmentFile
from ci.matrix.cells import Cell
from tests.integration.conformance.support import Steps
from tests.support.behaviours import Ask
from tests.support.cluster import Node, Shell, shell
from tests.support.not_asked import needs
from tests.support.oci.tiny import TinyImage

pytestmark = pytest.mark.container_packaging


def test_no_program_in_a_step_gains_privileges(steps: Steps, plain: TinyImage) -> None:
    # Set-user-id programs and capabilities of files count for nothing on such a mount.
    script = "grep CapEff: /proc/self/status; awk '$5 == \"/\" { print $6 }' /proc/self/mountinfo"
    capabilities, options = steps.inside(plain, script)
    assert int(capabilities.split()[1], 16) == 0
    assert {"nosuid", "nodev"} <= set(options.split(","))


def test_no_program_in_a_container_of_enroots_gains_privileges(cluster_shell: Shell, container: str) -> None:
    done = cluster_shell.run(f"enroot start {container} grep NoNewPrivs: /proc/self/status")
    assert done.stdout.split() == ["NoNewPrivs:", "1"], str(done)


@pytest.mark.behaviour("change-of-owner")
@pytest.mark.parametrize(
    ("other", "options"), [("root", ()), ("nobody", ("--container-remap-root",))], ids=["user", "root"]
)
def test_a_change_of_owner_is_only_pretended(
    *, steps: Steps, plain: TinyImage, behaviour: Ask, other: str, options: tuple[str, ...]
) -> None:
    """So that package managers work, which have one user to give files to (NVIDIA/pyxis#152)."""
    script = (
        "cd /tmp && touch file && stat -c '%u %g' file && chown 12:34 file && chgrp 56 file && stat -c '%u %g' file && "
        # It sets groups, group and user, each of which may fail. With --exec it looks for a shell that runs already.
        f"start-stop-daemon --start --pidfile /nowhere --chuid {other} --startas /bin/sh -- -c 'echo $(id -u) $(id -g)'"
    )
    before, *after = steps.inside(plain, script, *options)
    behaviour("change-of-owner").saw_by(tuple(after), {(before, before): "nothing, with status 0"})


def test_a_supplementary_group_counts_and_has_no_name(
    login_node: Node, cluster_shell: Shell, container: str, root_folder: str
) -> None:
    """It opens the same files as on the node; what shows its number says nobody's (NVIDIA/pyxis#152)."""
    user, group = cluster_shell.environment.login.user, 4242
    script = "id -G && cat /mnt/given && echo taken > /mnt/taken"
    done = login_node.run(
        f"cd {root_folder} && echo given > given && chgrp {group} . given && chmod 2770 . && chmod 0640 given && "
        f"HOME=~{user} setpriv --reuid={user} --regid={user} --groups={user},{group} "
        f"enroot start --mount {root_folder}:/mnt {container} sh -c '{script}' && cat taken"
    )
    own = cluster_shell.run("id -g").stdout.strip()
    assert done.stdout.splitlines() == [f"{own} 65534", "given", "taken"], str(done)


def test_a_step_has_the_submitters_umask(cluster_shell: Shell, plain: TinyImage, steps: Steps) -> None:
    script = f"umask 027 && srun {cluster_shell.here} --container-image={plain.reference} sh -c umask"
    assert cluster_shell.run(script).stdout.split() == ["0027"]
    assert steps.inside(plain, "umask") == cluster_shell.run("umask").stdout.split()


def test_a_container_of_enroots_has_the_umask_of_the_image_or_of_its_user(cluster_shell: Shell, container: str) -> None:
    start = f"umask 027 && enroot start --rw {container}"
    assert cluster_shell.run(f"{start} sh -c umask").stdout.split() == ["0027"]
    cluster_shell.run(f"{start} sh -c 'echo UMASK 077 > /etc/login.defs'")
    assert cluster_shell.run(f"{start} sh -c umask").stdout.split() == ["0077"]


def test_a_node_has_no_right_that_nothing_on_it_needs(every_node: list[Node], cell: Cell) -> None:
    if any(node.of_site for node in every_node):
        needs("nodes of this project's own")
    needless = {"NET_RAW": 13} | ({"MKNOD": 27} if cell.enroot is None else {})
    for node in every_node:
        bounds = int(node.run("sed -n 's/CapBnd://p' /proc/1/status").stdout, 16)
        assert [name for name, bit in needless.items() if bounds >> bit & 1] == [], node.name


@pytest.mark.parametrize("file", ["hostname", "hosts", "resolv.conf"])
def test_the_nodes_own_file(steps: Steps, plain: TinyImage, file: str) -> None:
    show = f"cat /etc/{file}"
    assert steps.inside(plain, show) == steps.on_the_host(show)
    (options,) = steps.inside(plain, f"awk '$5 == \"/etc/{file}\" {{ print $6 }}' /proc/self/mountinfo")
    assert "ro" in options.split(",")


def test_sys_can_not_be_written_to(login_node: Node, cluster_shell: Shell, container: str) -> None:
    # An engine gives a node a /sys that is read-only already. Here it is writable, and seen so by this command alone.
    user = cluster_shell.environment.login.user
    start = shlex.join(["enroot", "start", container, "grep", "-c", " /sys ro,", "/proc/self/mountinfo"])
    done = login_node.run_unchecked(
        'unshare --mount sh -c \'mount -o remount,rw /sys && trap "mount -o remount,ro /sys" EXIT &&'
        f' grep -q " /sys rw,.* rw" /proc/self/mountinfo && su - {user} -c "$1"\' sh {shlex.quote(start)}'
    )
    assert done.stdout == "1\n", str(done)


def test_a_home_is_its_users_own(environment: EnvironmentFile, cluster_shell: Shell) -> None:
    if environment.site:
        needs("a second user")
    with shell(environment, environment.second_user) as second:
        homes = [who.run("stat --format='%U %a' ~").stdout.split() for who in (cluster_shell, second)]
        assert [home[0] for home in homes] == [environment.login.user, environment.second_user]
        assert not any(int(home[1], 8) & 0o022 for home in homes), homes
        done = second.run_unchecked(f"touch ~{environment.login.user}/not-mine")
    assert "Permission denied" in done.stderr, str(done)
