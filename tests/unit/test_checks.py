"""`ci.session.checks`: what is asked of the machine before anything is built."""

from collections.abc import Callable
from pathlib import Path
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ci.engine import host
from ci.engine.connection import Engine
from ci.errors import DiskFullError, EngineError
from ci.matrix import loading
from ci.matrix.cells import Cell
from ci.matrix.model import Matrix
from ci.session.checks import check_host

LEGACY, REAL = "slurm22.05-legacy-debian12-amd64", "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64"


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return loading.load()


def engine(*, local: bool = True, data_root: Path | None = Path("/var/lib/docker")) -> Engine:
    return cast("Engine", SimpleNamespace(found=SimpleNamespace(local=local, data_root=data_root)))


@pytest.fixture
def cell(rows: Matrix) -> Callable[[str], Cell]:
    return rows.cell


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine that allows everything."""
    monkeypatch.setattr(host, "free_bytes", lambda _path: 10**12)
    monkeypatch.setattr(host, "user_namespaces", lambda: None)
    monkeypatch.setattr(host, "fuse", lambda: None)


def test_a_disk_that_is_nearly_full_is_refused_before_a_build(
    cell: Callable[[str], Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_host(engine(), cell(LEGACY))
    monkeypatch.setattr(host, "free_bytes", lambda _path: 2 * 1024**3)
    with pytest.raises(DiskFullError, match=r"2\.0 GiB") as caught:
        check_host(engine(), cell(LEGACY))
    assert caught.value.where == "/var/lib/docker"


@pytest.mark.parametrize("known", [{"local": False}, {"data_root": None}])
def test_the_disk_of_an_engine_elsewhere_is_not_ours_to_look_at(
    cell: Callable[[str], Cell], monkeypatch: pytest.MonkeyPatch, known: dict[str, Any]
) -> None:
    monkeypatch.setattr(host, "free_bytes", lambda _path: 0)
    check_host(engine(**known), cell(LEGACY))


@pytest.mark.parametrize("switch", ["user_namespaces", "fuse"])
def test_what_a_container_job_needs_is_asked_of_the_machine_and_not_for_a_legacy_cell(
    cell: Callable[[str], Cell], monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(
        host, switch, lambda: EngineError("forbidden", where="there", why="so", next_step="allow it like this")
    )
    check_host(engine(), cell(LEGACY))
    check_host(engine(local=False), cell(REAL))
    with pytest.raises(EngineError) as caught:
        check_host(engine(), cell(REAL))
    assert caught.value.next_step == "allow it like this"
