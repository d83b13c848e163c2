"""What counts as left behind, on a machine that others use as well."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import pytest

from ci.engine.labels import LABEL_RUN
from tests.soak import leaks
from tests.soak.leaks import Left, Lookout, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ci.engine.connection import Engine


class _Engine:
    """Answers as an engine, and as docker-py's low-level client does."""

    def __init__(self) -> None:
        self.api = mock.Mock(api=self)
        self.api.containers.list = self.running_with
        self.running: list[dict[str, Any]] = []
        self.there: list[str] | None = None
        self.labelled: dict[str, list[str]] = {}
        self.names: list[str] = []

    def running_with(self, filters: dict[str, str]) -> list[mock.Mock]:
        return [mock.Mock(attrs=it) for it in self.running if filters["label"] in it["Labels"]]

    def containers(self) -> list[dict[str, Any]]:
        return self.running

    def volumes(self) -> dict[str, Any]:
        return {"Volumes": None if self.there is None else [{"Name": name} for name in self.there]}

    def left(self, filters: dict[str, str]) -> list[str]:
        return self.labelled.get(",".join(f"{name}={value}" for name, value in filters.items()), [])

    def names_below(self, prefix: str) -> list[str]:
        return [name for name in self.names if name.startswith(prefix)]


@pytest.fixture
def engine() -> _Engine:
    return _Engine()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    folder.mkdir()
    return folder


@pytest.fixture
def lookout(engine: _Engine, proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lookout:
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(leaks, "listening", set)
    (tmp_path / "temporary").mkdir()
    return Lookout(engine=cast("Engine", engine), run="mine-1", temporary=tmp_path / "temporary", proc=proc)


def container(run: str, *volumes: str, port: int | None = None) -> dict[str, Any]:
    mounts = [{"Type": "volume", "Name": name} for name in volumes]
    ports = [{"PublicPort": port}, {"PrivatePort": 22}] if port else []
    return {"Labels": [f"{LABEL_RUN}={run}"], "Mounts": [*mounts, {"Type": "bind"}], "Ports": ports}


def process(proc: Path, pid: int, command: str, environment: str = "") -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_text("\0".join(command.split()) + "\0", encoding="utf-8")
    (folder / "environ").write_text(environment, encoding="utf-8")


def test_nothing_is_left_where_nothing_is(lookout: Lookout) -> None:
    assert lookout.left({"gone"}, [8080]) == {}


def test_what_goes_a_moment_later_is_not_left() -> None:
    answers: Iterator[Left] = iter([{"processes": ["x"]}, {}])
    assert settled(lambda: next(answers), limit=60.0) == {}


def test_what_stays_until_the_limit_is_left() -> None:
    stuck = {"processes": ["x"]}
    assert settled(lambda: stuck, limit=0.0) == stuck


def test_objects_are_found_by_the_run_and_those_of_others_are_not(lookout: Lookout, engine: _Engine) -> None:
    engine.labelled = {f"{LABEL_RUN}=mine-1": ["z", "a"], f"{LABEL_RUN}=mine-2": ["theirs"]}
    assert lookout.left() == {"containers, networks, volumes": ["a", "z"]}


def test_a_volume_without_a_label_counts_if_it_was_that_of_a_container(lookout: Lookout, engine: _Engine) -> None:
    engine.running = [container("mine-1", "named", "0123"), container("mine-2", "another")]
    had = lookout.volumes()
    assert had == {"named", "0123"}
    engine.running, engine.there = [], ["named", "0123", "another", "nobody's"]
    engine.labelled = {f"{LABEL_RUN}=mine-1": ["named"]}
    assert lookout.left(had) == {"containers, networks, volumes": ["named"], "volumes without a label": ["0123"]}


def test_image_names_of_the_rounds_registry(lookout: Lookout, engine: _Engine) -> None:
    engine.names = ["localhost:8080/job:1", "localhost:9090/job:1"]
    assert lookout.left() == {}
    assert lookout.left(ports=[8080]) == {"image names": ["localhost:8080/job:1"]}


def test_a_port_counts_if_it_was_the_rounds_and_nobody_else_has_it_now(
    lookout: Lookout, engine: _Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "listening", lambda: {22, 8080})
    assert lookout.left(ports=[8080, 8081]) == {"listening ports": ["8080"]}
    assert lookout.left() == {}
    engine.running = [container("other", port=8080)]
    assert lookout.left(ports=[8080]) == {}


def test_processes_are_known_by_their_temporary_folder(lookout: Lookout, proc: Path) -> None:
    process(proc, 1, "sleep 9", f"HOME=/\0TMPDIR={lookout.temporary}\0")
    process(proc, 2, "sleep 9", f"HOME=/\0TMPDIR={lookout.temporary}2\0")
    assert lookout.left() == {"processes": ["1: sleep 9"]}


def test_files_and_keys(lookout: Lookout, tmp_path: Path) -> None:
    (lookout.temporary / "pyxis-matrix-x").touch()
    for run in ("mine-1", "mine-10", "other"):
        (tmp_path / "cache/environments" / run).mkdir(parents=True)
    assert lookout.left() == {"temporary files": ["pyxis-matrix-x"], "folders of keys": ["mine-1"]}
