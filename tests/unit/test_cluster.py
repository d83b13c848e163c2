"""The cluster's configuration per Slurm version, the conditions of "usable", and how they are asked."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
import re
from types import SimpleNamespace
from typing import Any, cast

import jinja2
import pytest

from ci.engine.connection import Engine, ExecResult
from ci.engine.labels import LABEL_SESSION
from ci.environment import cluster, configuration, launching, usable
from ci.environment.cluster import Cluster, Node
from ci.environment.describing import Started
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.environment.service import Place
from ci.environment.ssh import KeyPair
from ci.environment.usable import Check
from ci.errors import LaunchError, VersionMismatchError
from ci.matrix import loading
from ci.matrix.cells import Cell, Runtime
from ci.matrix.model import Matrix
from ci.options import Options
from ci.terminal.console import Timings
from tests.support.rows import PROJECT

VERSIONS = sorted({cell.slurm.version for cell in loading.load(PROJECT).all_cells(None)})
# Settings that a later Slurm no longer takes: it does not start with them.
GONE = {"FastSchedule": "24.11", "cons_res": "23.11", "CryptoType": "22.05", "CgroupAutomount": "24.11"}
CGROUPS_CAN_BE_DISABLED_SINCE = "24.05"


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


@pytest.mark.project_matrix
@pytest.mark.parametrize("folder", ["slurm-integration", "slurm-pyxis-integration"])
def test_slurm_conf_is_complete_for_every_version_and_has_nothing_that_it_no_longer_takes(folder: str) -> None:
    for row in loading.load().slurm:
        check_slurm_conf(folder, row.name)


def check_slurm_conf(folder: str, slurm: str) -> None:
    text = configuration.render(f"{folder}/slurm.conf", values(slurm=slurm)).decode()
    found = settings(f"{folder}/slurm.conf", slurm=slurm)
    assert found["SlurmctldHost"] == ["n1"]
    assert [line.split()[0] for line in found["NodeName"]] == ["n1", "n2"]
    assert all("CPUs=8 RealMemory=4096" in line for line in found["NodeName"])
    assert found["PartitionName"][0].startswith("debug Nodes=n1,n2 Default=YES")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert [word for word, since in GONE.items() if slurm >= since and word in lines] == []
    assert not re.search(r"{[{%]", text)


@pytest.mark.parametrize("slurm", VERSIONS)
def test_no_slurmd_chooses_a_cgroup_plugin_and_each_is_told_the_one_that_it_knows_and_that_needs_no_cgroups(
    slurm: str,
) -> None:
    found = settings("slurm-integration/cgroup.conf", slurm=slurm)
    # Where it may choose, slurmd takes cgroup/v2 on a host that has it, and ends: a node has neither systemd nor dbus.
    (plugin,) = found.pop("CgroupPlugin")
    assert plugin == ("disabled" if slurm >= CGROUPS_CAN_BE_DISABLED_SINCE else "cgroup/v1")
    assert found == {}, "a file that no plugin reads sets nothing else"


@pytest.mark.parametrize("slurm", VERSIONS)
@pytest.mark.parametrize("folder", ["slurm-integration", "slurm-pyxis-integration"])
def test_no_plugin_of_a_node_asks_for_cgroups(folder: str, slurm: str) -> None:
    chosen = settings(f"{folder}/slurm.conf", slurm=slurm)
    asked = {name: values for name, values in chosen.items() if any("cgroup" in value for value in values)}
    assert asked == {}


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


def test_partitions_of_other_names_have_all_nodes_beside_the_default_one(rows: Matrix) -> None:
    """A suite that says `sbatch --partition normal` was red on every cell."""
    cell = next(it for it in rows.all_cells(None) if it.runtime is Runtime.EMBEDDED)
    text = configuration.configuration(planned(rows, cell, nodes=2, partition=("normal", "gpu_q")))[
        "/etc/slurm/slurm.conf"
    ]
    lines = [line for line in text.decode().splitlines() if line.startswith("PartitionName=")]
    names, nodes, states = zip(*((words[0], words[1], words[-1]) for words in map(str.split, lines)), strict=True)
    assert names == ("PartitionName=debug", "PartitionName=normal", "PartitionName=gpu_q")
    assert set(nodes) == {"Nodes=n1,n2"}
    assert set(states) == {"State=UP"}
    assert [line for line in lines if "Default=YES" in line] == lines[:1]


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


# -- usable ---------------------------------------------------------------------------------------------------------


def nodes(count: int) -> Cluster:
    names = [f"n{number}" for number in range(1, count + 1)]
    return Cluster(
        nodes=tuple(Node(hostname=name, container=cast("Any", SimpleNamespace(name=name))) for name in names)
    )


def named(checks: tuple[Check, ...]) -> list[tuple[str, str]]:
    return [(check.name, check.node.hostname) for check in checks]


def test_a_single_legacy_node_is_asked_for_munge_controller_idleness_and_a_job() -> None:
    wanted = usable.checks(nodes(1), user="tester", registry_port=None, plugin=False)
    assert named(wanted) == [("munge", "n1"), ("controller", "n1"), ("nodes idle", "n1"), ("job on every node", "n1")]


@pytest.mark.parametrize(("plugin", "asked"), [(True, ("--container-image", "enroot version")), (False, ("true",))])
def test_the_job_user_runs_a_step_on_every_node(asked: tuple[str, ...], *, plugin: bool) -> None:
    wanted = usable.checks(nodes(3), user="alice", registry_port=None, plugin=plugin)
    (job,) = [check for check in wanted if check.name == "job on every node"]
    assert job.user == "alice"
    assert "srun --job-name=usable --nodes=3 --ntasks-per-node=1 " in job.command
    assert [word for word in asked if word not in job.command] == []


def test_every_node_is_asked_for_its_munge_and_its_registry() -> None:
    wanted = named(usable.checks(nodes(3), user="tester", registry_port=4711, plugin=True))
    for name in ("munge", "registry from node"):
        assert [node for asked, node in wanted if asked == name] == ["n1", "n2", "n3"]
    assert [node for asked, node in wanted if asked == "munge credential of n1"] == ["n2", "n3"]


def test_every_condition_has_a_hint() -> None:
    for check in usable.checks(nodes(2), user="tester", registry_port=4711, plugin=True):
        assert check.hint


class Answering:
    """An engine whose nodes answer commands."""

    def __init__(self, answers: Mapping[str, ExecResult], *, alive: object = True) -> None:
        """Answer by a word of the command; whatever has none is fine."""
        self.answers = answers
        self.life = alive
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    def run_inside(
        self,
        container: SimpleNamespace,
        command: list[str],
        *,
        user: str = "root",
        environment: dict[str, str] | None = None,
    ) -> ExecResult:
        """Answer a command."""
        assert command[0] == "timeout" or command[-1].startswith("tail ")  # a daemon that hangs must not hold the wait
        assert user in {"root", "tester"}  # the job user, for what only jobs can tell
        self.asked.append((container.name, command[-1], dict(environment or {})))
        found = (answer for word, answer in self.answers.items() if word in command[-1])
        return next(found, ExecResult(status=0, output=""))

    def alive(self, _container: object) -> object:
        """Tell whether a node runs."""
        return self.life

    def log_tail(self, _container: object, *, lines: int = 20) -> str:
        """Return its last lines."""
        return "\n".join(["the last line"][-lines:])


def check_of(count: int, name: str) -> Check:
    wanted = usable.checks(nodes(count), user="tester", registry_port=None, plugin=False)
    return [check for check in wanted if check.name == name][-1]


def test_a_credential_of_the_first_node_is_decoded_on_the_others() -> None:
    engine = Answering({"munge -n": ExecResult(status=0, output="MUNGE:abc:\n")})
    usable.wait_for_check(cast("Engine", engine), check_of(2, "munge credential of n1"), limit=0)
    assert engine.asked == [
        ("n1", "munge -n", {}),
        ("n2", 'echo "$CREDENTIAL" | unmunge', {"CREDENTIAL": "MUNGE:abc:"}),
    ]


def test_a_condition_that_never_holds_is_reported_with_state_logs_and_hint() -> None:
    engine = Answering({"sinfo": ExecResult(status=1, output="n1 drained Low RealMemory")})
    with pytest.raises(LaunchError) as caught:
        usable.wait_for_check(cast("Engine", engine), check_of(1, "nodes idle"), limit=0)
    text = str(caught.value)
    for part in (
        "nodes idle on n1",
        "n1 drained Low RealMemory",
        "not ready within 0 s",
        "the last line",
        "RealMemory or name",
    ):
        assert part in text


# -- what it observes -------------------------------------------------------------------------------------------------

ASKED = {"slurm": "sinfo --version", "enroot": "enroot version", "pyxis": "pyxis: version v"}
"""By axis, a part of the command that asks a node for its version."""
OTHERS = {"slurm": "24.11.5", "enroot": "4.1.2", "pyxis": "0.24.0"}
SYSTEM = {"arch": "x86_64", "os": "Debian GNU/Linux 12 (bookworm)"}
RIGHT = {"slurm": "22.05.8", "enroot": "3.4.1", "pyxis": "0.19.0"}


def seen_in(cell: Cell, versions: Mapping[str, str]) -> dict[str, str]:
    """Return what is observed in a cluster of a cell whose node answers with these versions."""

    def answer(_container: object, command: list[str]) -> ExecResult:
        asked = {**ASKED, "arch": "uname -m", "os": "os-release"}
        found = ({**SYSTEM, **versions}[axis] for axis, words in asked.items() if words in command[-1])
        return ExecResult(status=0, output=f"{next(found, '')}\n")

    return cluster.observe(cast("Engine", SimpleNamespace(run_inside=answer)), nodes(1), cell)


@pytest.fixture(scope="module")
def reference(rows: Matrix) -> Cell:
    return rows.cell("slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64")


def test_versions_are_those_that_the_node_answers_and_never_those_of_the_id(reference: Cell) -> None:
    found = seen_in(reference, OTHERS)
    assert {axis: found[axis] for axis in OTHERS} == OTHERS


@pytest.mark.parametrize("axis", ASKED)
def test_a_node_that_does_not_answer_has_no_version(reference: Cell, axis: str) -> None:
    assert seen_in(reference, RIGHT | {axis: ""})[axis] == ""


@pytest.mark.parametrize("axis", ASKED)
@pytest.mark.parametrize("silent", [False, True])
def test_a_cluster_of_another_version_is_refused_with_both_named(reference: Cell, axis: str, *, silent: bool) -> None:
    found = seen_in(reference, RIGHT | {axis: "" if silent else OTHERS[axis]})
    with pytest.raises(VersionMismatchError) as caught:
        cluster.check_versions(reference, found, image="pyxis-matrix/subject:1")
    assert f"{axis} is {found[axis] or 'unknown'}, not {reference.axes[axis]}" in caught.value.what
    assert reference.id in caught.value.where
    assert "pyxis-matrix/subject:1" in caught.value.next_step


def test_a_launch_hands_no_cluster_of_another_version_over(
    reference: Cell, rows: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that comes before is well: the nodes are up and usable."""
    up = Started(cluster=nodes(1), registry=None, login=cast("Any", SimpleNamespace(user="tester")), at=0.0)
    monkeypatch.setattr(launching, "_start", lambda *_: up)
    monkeypatch.setattr(usable, "wait_until_usable", lambda *_, **__: {"sshd": 0.0})
    monkeypatch.setattr(cluster, "observe", lambda *_: RIGHT | {"pyxis": "0.24.0"})
    images = cast("Any", SimpleNamespace(accounting=None, job=None, node=SimpleNamespace(tag="pyxis-matrix/subject:1")))
    place = cast("Any", SimpleNamespace(engine=None))
    with pytest.raises(VersionMismatchError, match=r"pyxis is 0\.24\.0, not 0\.19\.0"):
        launching._launch(place, planned(rows, reference), images, tmp_path, Timings())  # noqa: SLF001
    assert not (tmp_path / launching.ENVIRONMENT_FILE).exists()


def test_a_cluster_of_the_right_versions_is_taken(reference: Cell) -> None:
    cluster.check_versions(reference, seen_in(reference, RIGHT), image="pyxis-matrix/subject:1")


def test_every_run_has_secrets_of_its_own() -> None:
    """One key for all runs would open every cluster to whoever has been in one."""
    first, second = (cluster.Secrets.new(password=True) for _ in range(2))
    for secret in fields(cluster.Secrets):
        ours, theirs = (getattr(it, secret.name) for it in (first, second))
        assert ours, secret.name
        if isinstance(ours, KeyPair):
            assert ours.private != theirs.private, secret.name
            assert ours.public.split()[1] != theirs.public.split()[1], secret.name
        else:
            assert ours != theirs, secret.name
    assert first.user_key.public.split()[1] != first.host_key.public.split()[1]


def test_what_is_left_of_a_place_are_its_objects_and_the_names_of_what_was_pushed_to_it() -> None:
    """The engine may refuse to remove any of them."""
    ended: list[str] = []
    asked: list[object] = []

    def left(filters: object) -> list[str]:
        asked.append(filters)
        return ["n1"]

    engine = SimpleNamespace(untag=ended.append, left=left, names_below=lambda prefix: [f"{prefix}it:1"])
    place = Place(
        engine=cast("Any", engine),
        stack=ExitStack(),
        run="run",
        cell="cell",
        network="network",
    )
    assert place.left() == ["n1"]
    place.untag_with("localhost:5000")
    assert place.left() == ["n1", "localhost:5000/it:1"]
    place.stack.close()
    assert ended == ["localhost:5000/"]
    assert asked == [{LABEL_SESSION: place.session}] * 2
