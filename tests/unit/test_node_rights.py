"""What a node may do: no more than it needs, whichever engine starts it."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from docker.types import DeviceRequest
import pytest

from ci.engine.build_client import BuildClient
from ci.engine.connection import Engine
from ci.engine.finding import EngineKind, FoundEngine
from ci.environment import cluster
from ci.environment.plan import EnvironmentPlan
from ci.environment.service import Place
from ci.environment.ssh import KeyPair
from ci.errors import EngineError
from ci.matrix import loading
from ci.matrix.cells import Runtime
from ci.matrix.model import Matrix
from tests.unit.test_cluster import VERSIONS, planned

if TYPE_CHECKING:
    from contextlib import ExitStack


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


def started(plan: EnvironmentPlan, kind: EngineKind = "docker") -> dict[str, Any]:
    """Start a cell's node in an engine that only remembers how; return what it was asked for."""
    asked: dict[str, Any] = {}
    made: dict[str, dict[str, str]] = {}

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
        volumes=SimpleNamespace(
            create=lambda name, labels: made.update({name: labels}),
            get=lambda name: SimpleNamespace(attrs={"Labels": made[name]}),
        ),
        containers=SimpleNamespace(
            get=lambda _id: SimpleNamespace(name="n1", start=lambda: None, put_archive=lambda _path, _archive: None)
        ),
    )
    engine = Engine(
        api=cast("Any", api),
        found=FoundEngine(url="unix:///e.sock", version="4.3.1", kind=kind),
        build_client=BuildClient(path=Path("/usr/bin") / kind, kind=kind, version="4.3.1"),
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
    assert asked["port_bindings"] == {"22/tcp": [("127.0.0.1", 0)]}
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
    with pytest.raises(EngineError, match="GPUs cannot be used with Podman"):
        started(planned(rows, cell, gpus=1), "podman")


def test_gpus_are_asked_for_only_where_somebody_wants_them(rows: Matrix) -> None:
    cell = next(it for it in rows.all_cells(None) if it.runtime is Runtime.EMBEDDED)
    assert started(planned(rows, cell))["host_config"]["device_requests"] is None
    (asked,) = started(planned(rows, cell, gpus=2))["host_config"]["device_requests"]
    assert DeviceRequest(**asked) == DeviceRequest(count=2, capabilities=[["gpu"]])
