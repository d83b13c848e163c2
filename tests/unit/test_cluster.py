"""The cluster's configuration per Slurm version, the conditions of "usable", and how they are asked."""

from collections.abc import Mapping
from pathlib import Path
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import jinja2
import pytest

from ci.engine.build_client import BuildClient
from ci.engine.connection import Answer, Engine
from ci.engine.finding import EngineKind, FoundEngine
from ci.environment import cluster, configuration, usable
from ci.environment.cluster import Cluster, Node
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.environment.service import Place, Service, start_error
from ci.environment.ssh import KeyPair
from ci.environment.usable import Check
from ci.errors import EngineError, LaunchError, PortTakenError
from ci.matrix import loading
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.options import Options

if TYPE_CHECKING:
    from contextlib import ExitStack

VERSIONS = (
    *("22.05", "23.02.8", "23.11.11", "24.05.8", "24.11", "24.11.6", "24.11.7"),
    *("25.05.8", "25.11.7", "26.05", "26.05.3"),
)
# Settings that a later Slurm no longer takes: it does not start with them.
GONE = {"FastSchedule": "24.11", "cons_res": "23.11", "CryptoType": "22.05", "CgroupAutomount": "24.11"}


def values(**changed: object) -> dict[str, object]:
    nodes = [{"name": f"n{number}", "cpus": 8, "memory_mb": 4096} for number in (1, 2)]
    usual: dict[str, object] = {
        "slurm": "22.05",
        "cluster": "pyxis-matrix",
        "controller": "n1",
        "nodes": nodes,
        "accounting": False,
        "plugstack": False,
        "gpus": 0,
    }
    return usual | changed


def settings(template: str, **changed: object) -> dict[str, list[str]]:
    """Return what a rendered configuration sets, comments left out."""
    found: dict[str, list[str]] = {}
    for line in configuration.render(template, values(**changed)).decode().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("slurm", VERSIONS)
@pytest.mark.parametrize("folder", ["slurm-integration", "slurm-pyxis-integration"])
def test_slurm_conf_is_complete_for_every_version_and_has_nothing_that_it_no_longer_takes(
    folder: str, slurm: str
) -> None:
    text = configuration.render(f"{folder}/slurm.conf", values(slurm=slurm)).decode()
    found = settings(f"{folder}/slurm.conf", slurm=slurm)
    assert found["SlurmctldHost"] == ["n1"]
    assert [line.split()[0] for line in found["NodeName"]] == ["n1", "n2"]
    assert all("CPUs=8 RealMemory=4096" in line for line in found["NodeName"])
    assert found["PartitionName"][0].startswith("debug Nodes=n1,n2 Default=YES")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert [word for word, since in GONE.items() if slurm >= since and word in lines] == []
    assert not re.search(r"{[{%]", text)


@pytest.mark.parametrize(("slurm", "lines"), [("22.05", {}), ("24.11", {"CgroupPlugin": ["disabled"]})])
def test_what_only_later_versions_know_is_said_only_to_them(slurm: str, lines: dict[str, list[str]]) -> None:
    assert settings("slurm-integration/cgroup.conf", slurm=slurm) == lines


@pytest.mark.parametrize("plugstack", [False, True])
def test_plugins_are_loaded_only_where_there_are_some(*, plugstack: bool) -> None:
    found = settings("slurm-pyxis-integration/slurm.conf", plugstack=plugstack)
    assert ("PlugStackConfig" in found) is plugstack


@pytest.mark.parametrize(("accounting", "storage"), [(False, "none"), (True, "slurmdbd")])
def test_accounting(*, accounting: bool, storage: str) -> None:
    found = settings("slurm-integration/slurm.conf", accounting=accounting)
    assert found["AccountingStorageType"] == [f"accounting_storage/{storage}"]


def planned(rows: Matrix, cell: Cell, **options: object) -> EnvironmentPlan:
    return plan_environment(cell, rows, Options(run="run", **options))  # type: ignore[arg-type]


def test_gpus_are_counted_in_slurm_conf_before_the_nodes_and_named_in_a_file_of_their_own(rows: Matrix) -> None:
    cell = next(it for it in rows.all_cells(None) if it.runtime is Runtime.EMBEDDED)
    without = configuration.configuration(planned(rows, cell, nodes=2))
    assert not any(b"gpu" in line for line in without["/etc/slurm/slurm.conf"].splitlines() if line[:1] != b"#")
    assert "/etc/slurm/gres.conf" not in without
    files = configuration.configuration(planned(rows, cell, nodes=2, gpus=2))
    lines = files["/etc/slurm/slurm.conf"].decode().splitlines()
    assert "GresTypes=gpu" in lines
    defined = [line for line in lines if line.startswith("NodeName=")]
    assert defined[0] == "NodeName=DEFAULT Gres=gpu:2"
    assert len(defined) == 3
    gres = [line for line in files["/etc/slurm/gres.conf"].decode().splitlines() if not line.startswith("#")]
    assert gres == ["AutoDetect=off", "Name=gpu File=/dev/nvidia0", "Name=gpu File=/dev/nvidia1"]


def test_an_unknown_variable_is_an_error_and_no_empty_text() -> None:
    with pytest.raises(jinja2.UndefinedError):
        configuration.render("slurm-integration/slurm.conf", {"slurm": "22.05"})


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


def test_every_slurm_of_the_matrix_is_rendered_here(rows: Matrix) -> None:
    assert {cell.slurm.version for cell in rows.all_cells(None)} == set(VERSIONS)


# -- usable ---------------------------------------------------------------------------------------------------------


def nodes(count: int) -> Cluster:
    names = [f"n{number}" for number in range(1, count + 1)]
    return Cluster(
        nodes=tuple(Node(hostname=name, container=cast("Any", SimpleNamespace(name=name))) for name in names)
    )


def named(checks: tuple[Check, ...]) -> list[tuple[str, str]]:
    return [(check.name, check.node.hostname) for check in checks]


def test_a_single_legacy_node_is_asked_for_munge_controller_and_idleness() -> None:
    wanted = usable.checks(nodes(1), registry_port=None, plugin=False)
    assert named(wanted) == [("munge", "n1"), ("controller", "n1"), ("nodes idle", "n1")]


def test_every_node_is_asked_for_its_munge_its_registry_and_its_plugin() -> None:
    wanted = named(usable.checks(nodes(3), registry_port=4711, plugin=True))
    for name in ("munge", "registry from node", "plugin loaded"):
        assert [node for asked, node in wanted if asked == name] == ["n1", "n2", "n3"]
    assert [node for asked, node in wanted if asked == "munge credential of n1"] == ["n2", "n3"]


def test_every_condition_has_a_hint() -> None:
    for check in usable.checks(nodes(2), registry_port=4711, plugin=True):
        assert check.hint


class Answering:
    """An engine whose nodes answer commands."""

    def __init__(self, answers: Mapping[str, Answer], *, alive: object = True) -> None:
        """Answer by a word of the command; whatever has none is fine."""
        self.answers = answers
        self.life = alive
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    def ask(self, container: Any, command: list[str], *, user: str = "root", environment: Any = None) -> Answer:  # noqa: ANN401
        """Answer a command."""
        assert command[0] == "timeout"  # a daemon that hangs must not hold the wait
        assert user == "root"
        self.asked.append((container.name, command[-1], dict(environment or {})))
        found = (answer for word, answer in self.answers.items() if word in command[-1])
        return next(found, Answer(status=0, output=""))

    def alive(self, _container: object) -> object:
        """Tell whether a node runs."""
        return self.life

    def log_tail(self, _container: object) -> str:
        """Return its last lines."""
        return "the last line"


def check_of(count: int, name: str) -> Check:
    wanted = usable.checks(nodes(count), registry_port=None, plugin=False)
    return [check for check in wanted if check.name == name][-1]


def test_a_credential_of_the_first_node_is_decoded_on_the_others() -> None:
    engine = Answering({"munge -n": Answer(status=0, output="MUNGE:abc:\n")})
    usable.wait_for_check(cast("Engine", engine), check_of(2, "munge credential of n1"))
    assert engine.asked == [
        ("n1", "munge -n", {}),
        ("n2", 'echo "$CREDENTIAL" | unmunge', {"CREDENTIAL": "MUNGE:abc:"}),
    ]


def test_a_condition_that_never_holds_is_reported_with_state_logs_and_hint() -> None:
    engine = Answering({"sinfo": Answer(status=1, output="n1 drained Low RealMemory")}, alive="it has ended")
    with pytest.raises(LaunchError) as caught:
        usable.wait_for_check(cast("Engine", engine), check_of(1, "nodes idle"), limit=0)
    text = str(caught.value)
    for part in (
        "nodes idle on n1",
        "n1 drained Low RealMemory",
        "it has ended",
        "the last line",
        "RealMemory or name",
    ):
        assert part in text


# -- ports ----------------------------------------------------------------------------------------------------------


SERVICE = Service(role="registry", image="image", name="name", hostname="registry", ports={5000: 5000})


@pytest.mark.parametrize(
    "words",
    [
        "driver failed programming external connectivity: Bind for 127.0.0.1:5000 failed: port is already allocated",
        "Error starting userland proxy: listen tcp4 127.0.0.1:5000: bind: address already in use",
        "failed to bind host port for 127.0.0.1:5000:172.17.0.2:5000/tcp: address already in use",
    ],
)
def test_a_port_that_is_taken_is_told_in_the_words_of_every_engine(words: str) -> None:
    error = start_error(RuntimeError(words), SERVICE)
    assert isinstance(error, PortTakenError)
    assert "ss -tlnp 'sport = :5000'" in error.next_step


def test_another_refusal_is_not_taken_for_a_port() -> None:
    error = start_error(RuntimeError("no such image"), SERVICE)
    assert not isinstance(error, PortTakenError)
    assert "starting the registry" in str(error)


# -- what a node may do ---------------------------------------------------------------------------------------------


def started(plan: EnvironmentPlan, kind: EngineKind = "docker") -> dict[str, Any]:
    """Start a cell's node in an engine that only remembers how; return what it was asked for."""
    asked: dict[str, Any] = {}

    def create_container(image: str, **options: object) -> dict[str, str]:
        asked.update(options, image=image)
        return {"Id": "1"}

    api = SimpleNamespace(
        api=SimpleNamespace(
            create_host_config=lambda security_opt, **options: {**options, "SecurityOpt": security_opt},
            create_endpoint_config=lambda aliases: aliases,
            create_container=create_container,
        ),
        version=lambda: {"Arch": "amd64"},
        volumes=SimpleNamespace(create=lambda *_given, **_options: None),
        containers=SimpleNamespace(
            get=lambda _id: SimpleNamespace(start=lambda: None, put_archive=lambda _path, _archive: None)
        ),
    )
    engine = Engine(
        api=cast("Any", api),
        found=FoundEngine(url="unix:///e.sock", source="", version="4.3.1", kind=kind),
        build_client=BuildClient(path=Path("/usr/bin") / kind, kind=kind, version="4.3.1", buildx=False),
    )
    key = KeyPair(private=b"", public=b"")
    place = Place(
        engine=engine,
        stack=cast("ExitStack", SimpleNamespace(callback=lambda *_given: None)),
        run="run",
        cell=plan.cell.id,
        network="network",
    )
    keys = cluster.Secrets(munge_key=b"", host_key=key, user_key=key)
    cluster.start(place, plan, image="pyxis-matrix/image", keys=keys, registry_port=None)
    return asked


@pytest.mark.parametrize("runtime", list(Runtime))
@pytest.mark.parametrize("slurm", VERSIONS)
def test_no_node_is_privileged_and_each_has_only_what_its_runtime_and_its_slurmd_need(
    rows: Matrix, runtime: Runtime, slurm: str
) -> None:
    found = [it for it in rows.all_cells(None) if it.runtime is runtime and it.slurm.version == slurm]
    if not found:
        assert runtime is Runtime.LEGACY
        assert slurm.count(".") == 2, "only a compiled Slurm has no legacy cell"
        return
    cell = found[0]
    asked = started(planned(rows, cell))["host_config"]
    containers = runtime is not Runtime.LEGACY
    assert "privileged" not in asked
    needs_mounts = ["SYS_ADMIN"] if slurm != "22.05" else None
    real = runtime is Runtime.NVIDIA
    assert asked["cap_add"] == (["SYS_ADMIN", *(["MKNOD"] if real else [])] if containers else needs_mounts)
    assert asked["cap_drop"] == ["NET_RAW", *([] if real else ["MKNOD"])]
    assert asked["devices"] == (["/dev/fuse"] if containers else None)
    assert asked["port_bindings"] == {"22/tcp": ("127.0.0.1", 0)}
    assert ("MaskedPaths" in asked) is containers


def test_podman_is_asked_in_its_own_words_for_an_unmasked_proc_and_for_an_image_of_this_machine(rows: Matrix) -> None:
    cell = next(it for it in rows.all_cells(None) if it.runtime is Runtime.EMBEDDED)
    docker, podman = (started(planned(rows, cell), kind) for kind in ("docker", "podman"))
    assert (docker["image"], podman["image"]) == ("pyxis-matrix/image", "localhost/pyxis-matrix/image")
    assert podman["host_config"]["SecurityOpt"] == [*docker["host_config"]["SecurityOpt"], "unmask=ALL"]
    assert "MaskedPaths" not in podman["host_config"]


@pytest.mark.parametrize("emulated", [True, False])
def test_only_where_it_is_emulated_the_shell_that_enroots_imports_need_is_named_to_whoever_enters(
    rows: Matrix, *, emulated: bool
) -> None:
    plan = planned(rows, next(it for it in rows.all_cells(None) if it.runtime is Runtime.NVIDIA))
    key = KeyPair(private=b"", public=b"")
    keys = cluster.Secrets(munge_key=b"", host_key=key, user_key=key)
    node = cluster.planned_node(plan, 0, image="image", keys=keys, registry_port=None, emulated=emulated)
    said = b"".join(it.content for path, it in node.files.items() if path.startswith("/etc/ssh/sshd_config.d/"))
    assert (b"SetEnv PARALLEL_SHELL=/bin/bash" in said) is emulated
    assert ("PARALLEL_SHELL" in node.environment) is emulated


def test_podman_refuses_gpus_instead_of_starting_without_them(rows: Matrix) -> None:
    cell = next(it for it in rows.all_cells(None) if it.runtime is Runtime.EMBEDDED)
    with pytest.raises(EngineError, match="does not pass on GPUs"):
        started(planned(rows, cell, gpus=1), "podman")


def test_gpus_are_asked_for_only_where_somebody_wants_them(rows: Matrix) -> None:
    cell = next(it for it in rows.all_cells(None) if it.runtime is Runtime.EMBEDDED)
    assert started(planned(rows, cell))["host_config"]["device_requests"] is None
    (asked,) = started(planned(rows, cell, gpus=2))["host_config"]["device_requests"]
    assert (asked.count, asked.capabilities) == (2, [["gpu"]])
