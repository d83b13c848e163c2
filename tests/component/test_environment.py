"""A cell's environment in good weather: what is up, how it is entered, and that all of it goes away again."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
import stat
import subprocess
import sys

import docker
from docker.types import Mount
import pytest

from ci import environment_file
from ci.engine import removing
from ci.engine.connection import Engine, InsideFile
from ci.engine.labels import (
    LABEL,
    LABEL_CELL,
    LABEL_CONTENT,
    LABEL_ORIGIN,
    LABEL_OWNER,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_SCRATCH,
    LABEL_SESSION,
    owner,
)
from ci.environment import cluster, ssh
from ci.environment.launching import Environment
from ci.environment.service import OPEN_FILES, Place, Rights, Service
from ci.errors import LaunchError
from ci.images.building import BuiltCell
from ci.record import store
from ci.record.outcomes import Outcome
from tests.component.conftest import Launch, new_run
from tests.component.weather import LEGACY, REPOSITORY, Process, containers_of, left_behind


@pytest.fixture(scope="module")
def up(launcher: Launch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Have two nodes up."""
    with launcher(new_run(), tmp_path_factory.mktemp("up"), nodes=2) as launched:
        yield launched


def test_two_nodes_share_home_and_take_jobs_over_ssh(up: Environment) -> None:
    with ssh.connect(up.file.login) as shell:
        answer = shell.run("echo shared > mark; srun --nodes 2 --ntasks 2 sh -c 'cat ~/mark; hostname'")
    assert answer.status == 0, answer
    assert sorted(answer.stdout.split()) == ["n1", "n2", "shared", "shared"]


def test_what_runs_on_a_node_has_a_limit_of_open_files_that_can_be_closed_one_by_one(
    up: Environment, engine: Engine
) -> None:
    """A child of slurmd closes as many before a batch job; in a container of systemd's containerd 2^30 are usual."""
    ask = "grep --no-filename 'open files' /proc/1/limits /proc/self/limits; srun grep 'open files' /proc/self/limits"
    with ssh.connect(up.file.login) as shell:
        by_ssh = shell.run(ask).stdout
    by_engine = engine.run_inside(up.cluster.login.container, ["sh", "-c", ask]).output
    for answer in (by_ssh, by_engine):
        assert [line.split()[-3:-1] for line in answer.splitlines()] == [[str(OPEN_FILES)] * 2] * 3


def test_the_second_user_enters_with_the_same_key(up: Environment) -> None:
    with ssh.connect(up.file.login, user=up.file.second_user) as shell:
        assert shell.run("id --user --name").stdout.split() == ["tester2"]


def test_another_run_has_other_keys_and_neither_lets_the_other_in(
    up: Environment, launcher: Launch, run: str, tmp_path: Path, engine: Engine
) -> None:
    user = up.file.login.user
    files = ("/etc/munge/munge.key", "/etc/ssh/ssh_host_ed25519_key", f"/etc/ssh/authorized_keys.d/{user}")
    with launcher(run, tmp_path) as other:
        for path in files:
            ask = ["sh", "-c", f"sha256sum < {path}"]
            ours, theirs = (engine.run_inside(it.cluster.login.container, ask) for it in (up, other))
            assert ours.status == theirs.status == 0
            assert ours.output != theirs.output, path
        # A key that the node must refuse; then a node that must be refused by its own.
        here, there = up.file.login, other.file.login
        known_hosts = tmp_path / "known_hosts"
        known = Path(here.known_hosts).read_text(encoding="utf-8")
        known_hosts.write_text(known.replace(f":{here.port} ", f":{there.port} "), encoding="utf-8")
        for mixed in (
            replace(there, private_key=here.private_key),
            replace(there, known_hosts=str(known_hosts)),
        ):
            with pytest.raises(LaunchError, match="logging in to the login node failed"), ssh.connect(mixed):
                pytest.fail("it was let in")
        with ssh.connect(there) as shell:
            assert shell.run("true").status == 0


def test_what_is_up_is_labelled_unprivileged_and_reachable_from_this_machine_only(
    up: Environment, api: docker.DockerClient
) -> None:
    for name in up.file.containers:
        container = api.containers.get(name)
        labels = {key: value for key, value in container.labels.items() if key.startswith(LABEL)}
        for inherited in (LABEL_ORIGIN, LABEL_CONTENT):  # of the image
            labels.pop(inherited, "")
        role = "controller" if name.endswith("-n1") else "compute"
        of_the_run = {LABEL_RUN: up.file.run, LABEL_CELL: LEGACY, LABEL_SESSION: up.file.session}
        assert labels == {LABEL: "1", **of_the_run, LABEL_OWNER: owner(), LABEL_ROLE: role}
        host_config = container.attrs["HostConfig"]
        assert not host_config["Privileged"]
        assert not host_config["CapAdd"]
        bindings = [binding for each in container.ports.values() for binding in each or ()]
        assert {binding["HostIp"] for binding in bindings} <= {"127.0.0.1"}
    assert len(left_behind(api, up.file.run)) == 4  # two nodes, a network, a home


def test_the_file_says_what_is_there_and_is_private(up: Environment) -> None:
    file = environment_file.load(up.path)
    assert file == up.file
    assert (file.cell, file.runtime, file.registry, file.nodes) == (LEGACY, "legacy", None, ("n1", "n2"))
    assert file.observed["slurm"].startswith(file.slurm)
    for secret in (up.path, Path(file.login.private_key)):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert {"munge", "munge credential of n1", "controller", "nodes idle", "job on every node", "sshd"} == set(up.ready)


def test_the_files_of_a_nodes_volume_go_before_the_node_and_those_of_other_mounts_stay(
    engine: Engine, images: BuiltCell, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine alone would remove them one after the other."""
    place = Place(engine=engine, stack=stack, run=new_run(), cell=LEGACY, network="none")
    volume = f"{LABEL}-{place.run}-scratch"
    place.create_volume(volume)
    container = engine.api.containers.run(
        images.node.tag,
        entrypoint=["sleep", "600"],
        labels={**place.labels("controller"), LABEL_SCRATCH: "/data"},
        mounts=[Mount("/data", volume)],
        tmpfs={"/other": "", "/data/mounted": ""},
        network_mode="none",
        detach=True,
    )
    make = "mkdir '/data/a b' && touch '/data/a b/c d' /other/kept /data/mounted/kept && ln -s /other/kept /data/link"
    assert engine.run_inside(container, ["sh", "-c", make]).status == 0
    left: list[str] = []
    monkeypatch.setattr(
        container,
        "kill",
        lambda: left.extend(
            engine.run_inside(container, ["find", "/data", "/other", "!", "-type", "d"]).output.splitlines()
        ),
    )
    removing.remove_container(container)
    assert sorted(left) == ["/data/mounted/kept", "/other/kept"]


def test_a_node_starts_where_it_finds_cgroup_v2(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, nothing_left: Callable[[], None]
) -> None:
    """Every current distribution has it, and a machine with v1 would not notice that slurmd chooses by what is there.

    slurmd looks at the type of /sys/fs/cgroup; a v2 hierarchy can be mounted on a machine that runs on v1 as well.
    """
    planned = cluster.planned_node
    hook = b"mount -t cgroup2 none /sys/fs/cgroup\n"

    def on_v2(*given: object, **more: object) -> Service:
        node = planned(*given, **more)  # type: ignore[arg-type]
        files = {**node.files, "/usr/local/lib/node-entrypoint.d/cgroup-v2.sh": InsideFile(content=hook)}
        rights = Rights(capabilities=("SYS_ADMIN",), security_options=("apparmor=unconfined",))
        return replace(node, files=files, rights=rights)

    monkeypatch.setattr(cluster, "planned_node", on_v2)
    with launch() as launched, ssh.connect(launched.file.login) as shell:
        answer = shell.run("srun stat --file-system --format %T /sys/fs/cgroup")
        assert (answer.status, answer.stdout.strip()) == (0, "cgroup2fs"), answer
    nothing_left()


def test_logs_are_kept_and_nothing_else(launch: Launch, logs: Path, nothing_left: Callable[[], None]) -> None:
    with launch():
        pass
    nothing_left()
    assert {"n1-slurmctld.log", "n1-slurmd.log", "n1-sshd.log", "n1-container.log"} <= {
        path.name for path in logs.iterdir()
    }


def test_an_error_in_the_block_takes_everything_down(launch: Launch, nothing_left: Callable[[], None]) -> None:
    with pytest.raises(ZeroDivisionError), launch():
        _ = 1 / 0
    nothing_left()


def test_the_commands_exit_code_is_handed_on_and_its_surroundings_are_told(
    run: str, tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    script = (
        "import os; from ci import environment_file; from ci.environment import ssh; file = environment_file.current();"
        "assert os.environ['PATH'].startswith(os.path.dirname(file.engine_client));"
        "shell = ssh.connect(file.login); print('slurm', shell.__enter__().run('sinfo --version').stdout);"
        "shell.__exit__(None, None, None); raise SystemExit(7)"
    )
    command = ["run", LEGACY, "--run", run, "--results", str(tmp_path), "--plain", "--", "python", "-c", script]
    started = Process.ci(*command)
    assert started.end() == 7, started.output
    assert "slurm slurm" in started.output
    nothing_left()
    result = store.load(tmp_path / run / LEGACY / "command" / store.RESULT_FILE)
    assert (result.outcome, result.exit_code) == (Outcome.FAILED, 7)
    assert {"images", "launch", "ready", "tests", "teardown"} <= set(result.timings)


def test_up_logs_shell_down(
    run: str, tmp_path: Path, api: docker.DockerClient, nothing_left: Callable[[], None]
) -> None:
    started = Process.ci("up", LEGACY, "--run", run, "--results", str(tmp_path))
    assert started.end() == 0, started.output
    assert f"nox -s ci -- shell {run}" in started.output
    assert len(containers_of(api, run)) == 1
    logs = Process.ci("logs", run)
    assert logs.end() == 0
    assert "==> n1-slurmctld.log <==" in logs.output
    shell = subprocess.run(
        [sys.executable, "-m", "ci", "shell", run],
        input="id --user --name; sinfo --version; exit 5\n",
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert shell.returncode == 5, shell.stderr
    assert shell.stdout.splitlines()[0] == "tester"
    # One command gets what is piped into it, is the user by name, and gives its jobs nothing of the container's own.
    script = "cat; srun sh -c 'echo $USER $LOGNAME; env'; squeue --noheader -u $USER"
    piped = subprocess.run(
        [sys.executable, "-m", "ci", "shell", run, "--", script],
        input="what is piped in\n",
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout.splitlines()[:2] == ["what is piped in", "tester tester"]
    assert not {"JOB_PASSWORD", "NODE_ROLE", "NODE_NAME"} & {
        line.partition("=")[0] for line in piped.stdout.splitlines()
    }
    down = Process.ci("down", run)
    assert down.end() == 0, down.output
    nothing_left()
    again = Process.ci("down", run)
    assert again.end() == 11
    assert "no environments are up" in again.output
