"""Launching in bad weather: one error that says what, where, why and what next, with logs, and nothing left behind.

Only what is put into a container is spoilt, through the engine's connection; all that follows is the real thing.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
import socket

import pytest

from ci import paths
from ci.cli.main import main
from ci.engine.connection import Engine, InsideFile
from ci.engine.labels import LABEL_RUN
from ci.environment import cluster, configuration, launching, registry, usable
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.environment.service import Place
from ci.errors import LaunchError, PortTakenError, VersionMismatchError
from ci.images.building import BuiltCell
from ci.matrix.cells import Cell, SlurmVersion
from ci.matrix.model import Matrix
from ci.options import Options
from ci.terminal.console import Timings
from tests.component.conftest import Launch
from tests.component.weather import LEGACY, left_behind

Files = dict[str, InsideFile]
Spoil = Callable[[Callable[[str, Files], None]], None]

SLURM_CONF = "/etc/slurm/slurm.conf"
# For what never comes: enough for all that does come before, also on a machine that has much to do.
READY_SECONDS = 12.0


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Return a function that has a node's files, which it may change, pass through another one before the start."""

    def through(change: Callable[[str, Files], None]) -> None:
        copy_into = Engine.copy_into

        def changed(self: Engine, container: object, files: Files) -> None:
            mine = dict(files)
            change(str(getattr(container, "name", "")).rpartition("-")[2], mine)
            copy_into(self, container, mine)  # type: ignore[arg-type]

        monkeypatch.setattr(Engine, "copy_into", changed)

    return through


@pytest.fixture
def create_with(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that has containers created with other options."""

    def replace(**options: object) -> None:
        create = engine.api.api.create_container
        monkeypatch.setattr(
            engine.api.api, "create_container", lambda *given, **more: create(*given, **(more | options))
        )

    return replace


def replaced(old: str, new: str) -> Callable[[str, Files], None]:
    """Return a change of slurm.conf."""

    def change(_node: str, files: Files) -> None:
        text = files[SLURM_CONF].content.decode()
        assert old in text
        files[SLURM_CONF] = InsideFile(content=text.replace(old, new).encode())

    return change


@pytest.fixture
def fails(launch: Launch, nothing_left: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that launches, wants a `LaunchError` and nothing left, and returns the error's text."""
    monkeypatch.setattr(usable, "READY_SECONDS", READY_SECONDS)

    def failing(**options: object) -> str:
        with pytest.raises(LaunchError) as caught, launch(**options):
            pytest.fail("it became usable")
        nothing_left()
        return str(caught.value)

    return failing


def test_a_container_that_ends_at_once_leaves_its_last_words(
    create_with: Callable[..., None], fails: Callable[..., str], logs: Path
) -> None:
    create_with(entrypoint=["/bin/sh", "-c", "echo these are my last words >&2; exit 3"])
    error = fails()
    assert "exit code 3" in error
    assert "these are my last words" in error
    assert "these are my last words" in (logs / "n1-container.log").read_text(encoding="utf-8")


def test_another_slurm_than_the_id_says_is_refused_with_both_named(
    *, engine: Engine, cell: Cell, rows: Matrix, images: BuiltCell, run: str, tmp_path: Path
) -> None:
    """The cluster is usable, and all its daemons are well: what is wrong is what its results would be called."""
    other = replace(cell, slurm=SlurmVersion(version="23.02.8"))
    planned = plan_environment(other, rows, Options(run=run, name="component", results=tmp_path))
    with (
        pytest.raises(VersionMismatchError, match=r"slurm is 22\.05\.\d+, not 23\.02\.8"),
        launching.launch(engine, planned, images, timings=Timings()),
    ):
        pytest.fail("it was handed over")
    assert left_behind(engine.api, run) == []
    assert not launching.state_dir(run, other.id).exists()


def test_a_missing_munge_key_is_named(spoil: Spoil, fails: Callable[..., str]) -> None:
    def drop(_node: str, files: Files) -> None:
        del files["/etc/munge/munge.key"]

    spoil(drop)
    assert "/etc/munge/munge.key is missing or empty" in fails()


def test_a_munge_key_that_munged_refuses(spoil: Spoil, fails: Callable[..., str]) -> None:
    def shorten(_node: str, files: Files) -> None:
        files["/etc/munge/munge.key"] = InsideFile(content=b"short", mode=0o400)

    spoil(shorten)
    error = fails()
    assert "munged ended" in error
    assert "/var/log/munge/munged.log" in error


def test_nodes_with_different_munge_keys_are_told_so(spoil: Spoil, fails: Callable[..., str]) -> None:
    def another(node: str, files: Files) -> None:
        if node == "n2":
            files["/etc/munge/munge.key"] = InsideFile(
                content=cluster.Secrets.new(password=False).munge_key, mode=0o400
            )

    spoil(another)
    error = fails(nodes=2)
    assert "munge credential of n1 on n2" in error
    assert "Invalid credential" in error
    assert "all nodes need the same munge key" in error


def test_a_wrong_host_name_is_named(create_with: Callable[..., None], fails: Callable[..., str]) -> None:
    create_with(hostname="elsewhere")
    assert "NODE_NAME is 'n1', but the host name is 'elsewhere'" in fails()


def test_a_setting_that_this_slurm_does_not_know_ends_the_wait_at_once(spoil: Spoil, fails: Callable[..., str]) -> None:
    spoil(replaced("MailProg=", "FastSchedule=1\nNoSuchSetting="))
    error = fails()
    assert "NoSuchSetting" in error
    assert "exit code 1" in error  # noticed as a death, not as a limit that passed
    assert "next: a file in /etc/slurm has a setting that this Slurm does not accept" in error


def test_a_slurmd_that_ends_at_its_start_is_named_with_its_own_errors_and_cause(
    spoil: Spoil, fails: Callable[..., str]
) -> None:
    def change(_node: str, files: Files) -> None:
        # No node can have it: with version 2 of cgroups it asks systemd's dbus, and with version 1 it finds none.
        files["/etc/slurm/cgroup.conf"] = InsideFile(content=b"CgroupPlugin=cgroup/v2\n")

    spoil(change)
    error = fails()
    assert "slurmd ended with status 1" in error
    assert "next: slurmd chose a cgroup plugin that can't work in a node" in error


def test_more_memory_than_the_machine_has_shows_state_and_reason(spoil: Spoil, fails: Callable[..., str]) -> None:
    def change(node: str, files: Files) -> None:
        replaced("SlurmdParameters=config_overrides\n", "")(node, files)
        replaced(f"RealMemory={configuration.MEMORY_MB_PER_NODE}", "RealMemory=99999999")(node, files)

    spoil(change)
    error = fails()
    assert "nodes idle on n1" in error
    assert "Low RealMemory" in error
    assert "wrong RealMemory or name" in error


def test_what_never_comes_ends_at_the_limit_with_state_and_logs(spoil: Spoil, fails: Callable[..., str]) -> None:
    ghost = "NodeName=n9 NodeAddr=127.0.0.1 Port=9 CPUs=1 State=UNKNOWN"
    spoil(replaced("PartitionName=debug Nodes=n1", f"{ghost}\nPartitionName=debug Nodes=n1,n9"))
    error = fails()
    assert f"not ready within {READY_SECONDS:g} s" in error
    assert "n9" in error
    assert "slurmctld.log" in error


def test_a_port_that_is_held_is_named_and_the_next_run_is_not_hindered(
    run: str,
    images: BuiltCell,
    tmp_path: Path,
    nothing_left: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert images.node
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        arguments = ["run", LEGACY, "--run", run, "--results", str(tmp_path), "--ssh-port", port, "--plain"]
        assert main([*arguments, "--", "true"]) == PortTakenError.exit_code
    error = capsys.readouterr().err
    assert f"port {port} is already in use" in error
    assert f"ss -tlnp 'sport = :{port}'" in error
    nothing_left()
    assert main([*arguments, "--", "true"]) == 0
    nothing_left()


def test_a_second_environment_of_the_same_run_and_cell_is_refused_and_the_first_stays(
    launch: Launch, engine: Engine, run: str, nothing_left: Callable[[], None]
) -> None:
    with launch() as first:
        with pytest.raises(LaunchError, match="is already up") as caught, launch():
            pytest.fail("it started")
        assert f"nox -s ci -- down {run}" in caught.value.next_step
        assert engine.alive(first.cluster.login.container) is True
        assert first.path.is_file()
    nothing_left()


def test_a_kept_environment_goes_when_its_block_is_interrupted(
    launch: Launch, nothing_left: Callable[[], None]
) -> None:
    with pytest.raises(KeyboardInterrupt), launch(keep=True):
        raise KeyboardInterrupt
    nothing_left()


# -- the registry ---------------------------------------------------------------------------------------------------


def test_a_registrys_port_that_is_held_is_named(
    serve: Callable[..., registry.Registry], stack: ExitStack, nothing_left: Callable[[], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortTakenError) as caught:
            serve(port)
    assert f"port {port} is already in use" in str(caught.value)
    assert "the registry" in caught.value.where
    stack.close()
    nothing_left()  # no container in state Created either


def test_a_registry_that_ends_at_once_leaves_its_last_words(
    serve: Callable[..., registry.Registry],
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    nothing_left: Callable[[], None],
    tmp_path: Path,
) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "config.yml").write_text("version: 0.1\nstorage: [wrong]\n", encoding="utf-8")
    monkeypatch.setattr(paths, "CONTAINERS", tmp_path)
    with pytest.raises(LaunchError) as caught:
        serve()
    assert "the container ended with exit code 1" in str(caught.value)
    assert "configuration" in str(caught.value)
    stack.close()
    nothing_left()


def test_names_of_images_go_with_the_registry_that_a_killed_run_left(
    engine: Engine, run: str, registry_image: str, serve: Callable[..., registry.Registry]
) -> None:
    served = serve()
    name = f"{served.address}/weather/{run}"
    engine.api.images.get(registry_image).tag(name, "1")
    assert f"{name}:1" in engine.reap({LABEL_RUN: run})
    assert not engine.image_exists(f"{name}:1")
    assert engine.image_exists(registry_image)


def test_images_of_somebodys_own_registry_are_neither_used_nor_removed(
    *, engine: Engine, run: str, registry_image: str, serve: Callable[..., registry.Registry], stack: ExitStack
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    theirs = f"localhost:{port}/weather/{run}"
    engine.api.images.get(registry_image).tag(theirs, "1")
    try:
        with pytest.raises(LaunchError, match="another registry") as caught:
            serve(port)
        assert f"{theirs}:1" in caught.value.where
        stack.close()
        assert engine.image_exists(f"{theirs}:1")
    finally:
        engine.api.images.remove(f"{theirs}:1")


def test_a_stopped_registry_is_refused_at_once_and_named(
    place: Place, planned: EnvironmentPlan, images: BuiltCell, serve: Callable[..., registry.Registry]
) -> None:
    engine, served, keys = place.engine, serve(), cluster.Secrets.new(password=False)
    nodes = cluster.start(place, planned, image=images.node.tag, keys=keys, registry_port=served.port)
    reachable = next(
        check
        for check in usable.checks(nodes, user="tester", registry_port=served.port, plugin=False)
        if check.name == "registry from node"
    )
    usable.wait_for_check(engine, reachable, limit=READY_SECONDS)
    served.container.stop(timeout=0)

    answer = engine.run_inside(
        nodes.login.container, ["curl", "--max-time", "30", "--noproxy", "*", f"http://{served.address}/v2/"]
    )
    assert answer.status not in (0, 28), answer  # 28: curl's own limit passed
    with pytest.raises(LaunchError) as caught:
        usable.wait_for_check(engine, reachable, limit=0.5)
    assert "registry from node on n1" in str(caught.value)
    assert "is that still running?" in str(caught.value)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), timeout=30)
