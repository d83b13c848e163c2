"""What counts as left behind, on a machine that others use as well."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import pytest

from ci.engine.labels import LABEL_RUN
from tests.soak.leaks import Kind, Lookout, joined, left, listening, mounts, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ci.engine.connection import Engine

ID = "a" * 64
GONE = "b" * 64
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F91 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1
"""
MOUNTINFO = f"""\
22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 22 0:50 / /var/lib/docker/overlay2/one/merged rw shared:2 - overlay overlay rw
31 22 0:51 / /var/lib/docker/containers/{ID}/mounts/shm rw shared:3 - tmpfs shm rw
32 22 0:4 net:[1] /run/docker/netns/abc rw shared:4 - nsfs nsfs rw
33 22 0:52 / /var/lib/docker/overlay2/lost/merged rw shared:5 - overlay overlay rw
"""


class _Api:
    """Answers as docker-py's low-level client does."""

    def __init__(self) -> None:
        self.running: list[dict[str, Any]] = []
        self.nets: list[dict[str, Any]] = []
        self.vols: list[dict[str, Any]] | None = None
        self.unnamed: list[dict[str, Any]] = []
        self.names: list[str] = []

    def containers(self, **_how: object) -> list[dict[str, Any]]:
        return self.running

    def networks(self) -> list[dict[str, Any]]:
        return self.nets

    def volumes(self) -> dict[str, Any]:
        return {"Volumes": self.vols}

    def images(self, filters: dict[str, bool] | None = None) -> list[dict[str, Any]]:
        return self.unnamed if filters else [{"RepoTags": self.names, "RepoDigests": None}]

    def inspect_container(self, _which: str) -> dict[str, Any]:
        merged = {"MergedDir": "/var/lib/docker/overlay2/one/merged"}
        return {
            "GraphDriver": {"Data": merged},
            "NetworkSettings": {"SandboxKey": "/var/run/docker/netns/abc"},
        }


@pytest.fixture
def api() -> _Api:
    return _Api()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "net").mkdir()
    return folder


@pytest.fixture
def lookout(api: _Api, proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lookout:
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "net").mkdir()
    engine = mock.Mock(api=mock.Mock(api=api))
    return Lookout(
        engine=cast("Engine", engine), run="mine-", temporary=tmp_path / "temporary", proc=proc, net=tmp_path / "net"
    )


def container(name: str, run: str = "", number: str = ID, port: int | None = None) -> dict[str, Any]:
    ports = [{"PublicPort": port}] if port else []
    return {"Id": number, "Names": [f"/{name}"], "Labels": {LABEL_RUN: run} if run else {}, "Ports": ports}


def process(proc: Path, pid: int, command: str, environment: str = "") -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_text("\0".join(command.split()) + "\0", encoding="utf-8")
    (folder / "environ").write_text(environment, encoding="utf-8")


def test_only_what_was_not_there_is_left() -> None:
    before = {Kind.VOLUMES: frozenset({"old"}), Kind.PORTS: frozenset({"80"})}
    after = {Kind.VOLUMES: frozenset({"old", "z", "a"})}
    assert left(before, after) == {Kind.VOLUMES: ["a", "z"]}
    assert left(joined(before, {Kind.VOLUMES: ["a", "z"]}), after) == {}


def test_what_goes_a_moment_later_is_not_left() -> None:
    answers: Iterator[dict[Kind, frozenset[str]]] = iter([{Kind.MOUNTS: frozenset({"/x"})}, {}])
    assert settled({}, lambda: next(answers), limit=1.0, clock=iter([0.0, 0.1]).__next__, sleep=lambda _: None) == {}


def test_what_stays_until_the_limit_is_left() -> None:
    stuck = {Kind.MOUNTS: frozenset({"/x"})}
    found = settled({}, lambda: stuck, limit=1.0, clock=iter([0.0, 0.5, 1.5]).__next__, sleep=lambda _: None)
    assert found == {Kind.MOUNTS: ["/x"]}


def test_objects_of_another_run_are_not_ours(lookout: Lookout, api: _Api) -> None:
    api.running = [container("theirs", "other"), container("ours", "mine-1"), container("nobody's")]
    api.nets = [{"Id": ID, "Name": "ours", "Labels": {LABEL_RUN: "mine-2"}}]
    api.vols = [{"Name": "theirs", "Labels": {LABEL_RUN: "other"}}, {"Name": "nobody's", "Labels": None}]
    api.unnamed = [{"Id": "sha256:1"}]
    seen = lookout.look()
    assert seen[Kind.CONTAINERS] == {"ours", "nobody's"}
    assert seen[Kind.NETWORKS] == {"ours"}
    assert seen[Kind.VOLUMES] == {"nobody's"}
    assert seen[Kind.LAYERS] == {"sha256:1"}


def test_image_names_of_the_rounds_registry(lookout: Lookout, api: _Api) -> None:
    api.names = ["localhost:8080/job:1", "localhost:9090/job:1"]
    assert lookout.look()[Kind.IMAGES] == set()
    assert lookout.look([8080])[Kind.IMAGES] == {"localhost:8080/job:1"}


def test_a_port_counts_if_it_was_the_rounds_and_nobody_else_has_it_now(lookout: Lookout, proc: Path, api: _Api) -> None:
    (proc / "net/tcp").write_text(TCP, encoding="ascii")
    assert list(listening(TCP)) == [8080]
    assert lookout.look([8080, 8081])[Kind.PORTS] == {"8080"}
    assert lookout.look([])[Kind.PORTS] == set()
    api.running = [container("theirs", "other", port=8080)]
    assert lookout.look([8080])[Kind.PORTS] == set()


def test_mounts_of_containers_that_are_there_are_theirs(lookout: Lookout, proc: Path, api: _Api) -> None:
    (proc / "self/mountinfo").write_text(MOUNTINFO, encoding="ascii")
    assert len(list(mounts(MOUNTINFO))) == 5
    api.running = [container("theirs", "other")]
    assert lookout.look()[Kind.MOUNTS] == {"/", "/var/lib/docker/overlay2/lost/merged"}


def test_processes_by_temporary_folder_and_those_of_containers_that_are_gone(
    lookout: Lookout, proc: Path, api: _Api
) -> None:
    api.running = [container("theirs", "other", port=8080)]
    process(proc, 1, "sleep 9", f"HOME=/\0TMPDIR={lookout.temporary}\0")
    process(proc, 2, "sleep 9", f"HOME=/\0TMPDIR={lookout.temporary}2\0")
    for pid, which in ((3, ID), (4, GONE)):
        process(proc, pid, f"/usr/bin/containerd-shim-runc-v2 -namespace moby -id {which} -address x")
    for pid, port in ((5, 8080), (6, 8081)):
        process(proc, pid, f"/usr/bin/docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port {port} -container-port 22")
    found = sorted(int(it.partition(":")[0]) for it in lookout.look()[Kind.PROCESSES])
    assert found == [1, 4, 6]


def test_bridges_without_a_network_and_loose_cables(lookout: Lookout, api: _Api) -> None:
    api.nets = [{"Id": "0123456789abcdef", "Name": "theirs", "Labels": {LABEL_RUN: "other"}}]
    for name in ("lo", "br-0123456789ab", "br-ffffffffffff", "veth1", "veth2/master"):
        (lookout.net / name).mkdir(parents=True)
    assert lookout.look()[Kind.INTERFACES] == {"br-ffffffffffff", "veth1"}


def test_files_and_keys(lookout: Lookout, tmp_path: Path) -> None:
    (lookout.temporary / "pyxis-matrix-x").touch()
    for run in ("mine-3", "other"):
        (tmp_path / "cache/environments" / run).mkdir(parents=True)
    seen = lookout.look()
    assert seen[Kind.FILES] == {"pyxis-matrix-x"}
    assert seen[Kind.KEYS] == {"mine-3"}


def test_the_engines_open_files(lookout: Lookout, proc: Path, api: _Api) -> None:
    assert lookout.engine_files() is None
    for pid, name in ((7, "bash"), (8, "dockerd")):
        (proc / str(pid) / "fd").mkdir(parents=True)
        (proc / str(pid) / "comm").write_text(f"{name}\n", encoding="ascii")
    (proc / "8/fd/0").touch()
    assert lookout.engine_files() == 1
    api.running = [container("theirs", "other")]
    assert lookout.engine_files() is None
