"""What is left on this machine of an environment that is down: nothing, however it ended."""

import io
from pathlib import Path
import signal
import sys
from types import SimpleNamespace

import docker
import pytest

from ci.engine.removing import OwnObjects
from ci.environment import launching, reaper

CELL = "slurm22.05-embedded-debian12-amd64"


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder with the keys of environments: one that is up, one of the same run, and an empty folder."""
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path))
    for run, cell in (("up", CELL), ("killed", CELL), ("killed", "another")):
        (launching.state_dir(run, cell) / "home").mkdir(parents=True)
    (tmp_path / "environments" / "killed-sooner").mkdir()
    return tmp_path / "environments"


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*")) + sorted(
        path.relative_to(folder).as_posix() for path in folder.glob("*/*")
    )


def reaped(monkeypatch: pytest.MonkeyPatch, state: Path, said: bytes) -> list[object]:
    """Run the reaper of a run that said this before it was gone; return what it removed by label."""
    removed: list[object] = []
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(said)))
    monkeypatch.setattr(docker, "from_env", lambda **_: None)
    monkeypatch.setattr(OwnObjects, "reap", lambda _self, labels: removed.append(labels))
    reaper.main("session", str(state))
    return removed


def test_a_killed_run_leaves_no_folder(environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(reaped(monkeypatch, launching.state_dir("killed", CELL), b"")) == 2
    assert below(environments) == ["killed", "up", "killed/another", f"up/{CELL}"]
    reaped(monkeypatch, launching.state_dir("killed", "another"), b"")
    assert below(environments) == ["up", f"up/{CELL}"]


def test_the_reaper_of_a_run_that_took_all_down_itself_removes_nothing(
    environments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = below(environments)
    assert reaped(monkeypatch, launching.state_dir("killed", CELL), b"done\n") == []
    assert below(environments) == before


def test_what_is_taken_down_leaves_no_folder_of_its_own_or_of_a_killed_one(environments: Path) -> None:
    launching.forget("killed", CELL)
    launching.forget("killed", "another")
    launching.forget("killed", "another")  # another process may have been first
    assert below(environments) == ["up", f"up/{CELL}"]


def test_without_any_folder_nothing_is_to_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "none"))
    launching.forget("run", CELL)
    assert not (tmp_path / "none").exists()
