"""`down`: what it removes, and what it keeps until all is gone."""

from collections.abc import Iterator
import getpass
import os
from pathlib import Path
import socket
from types import SimpleNamespace

import pytest

from ci import environment_file, paths
from ci.cli import clusters
from ci.cli.main import main
from ci.engine.labels import LABEL_CELL, LABEL_OWNER, LABEL_RUN, labels, owner
from ci.environment import cluster, launching
from ci.environment_file import EnvironmentFile
from ci.errors import (
    EngineError,
    TeardownError,
)
from ci.matrix.arch import Arch
from ci.record.store import LOGS_FOLDER
from tests.support.environments import environment

CELL = f"slurm22.05-legacy-debian12-{Arch.host()}"
REAL = f"slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-{Arch.host()}"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have folders of the test's own, and no choice of a group or a run from outside."""
    for name in ("PYXIS_MATRIX_RUN", "PYXIS_MATRIX_GROUP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYXIS_MATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path / "results"))
    return tmp_path


def state_of(run: str, owner: str = "") -> Path:
    """Make the folder of an environment that is up, and return it."""
    file = environment(CELL, run=run, owner=owner, registry="localhost:5000", results=str(paths.results_dir()))
    environment_file.save(launching.state_dir(run, CELL) / launching.ENVIRONMENT_FILE, file)
    return launching.state_dir(run, CELL)


def test_down_all_clears_by_label_alone_and_forgets_every_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filters: list[object] = []

    def reap(*given: object) -> list[str]:
        filters.append(given)
        return ["a", "b"]

    stuck = ["zombie"]
    engine = SimpleNamespace(reap=reap, left=lambda _filters: stuck, owners=lambda: {owner(): 2, "bob@there": 1, "": 3})
    monkeypatch.setattr(clusters, "connect", lambda: engine)
    whole = launching.state_dir("killed", CELL)
    whole.mkdir(parents=True)
    # A run that was killed while it wrote its file, and one that did not come so far.
    (whole / launching.ENVIRONMENT_FILE).write_text('{"schema": 1, "ru', encoding="utf-8")
    (launching.state_dir("killed sooner", CELL) / "home").mkdir(parents=True)

    assert main(["down", "--all"]) == EngineError.exit_code  # and the keys are still needed
    assert "zombie" in capsys.readouterr().err
    assert whole.exists()

    stuck.clear()
    filters.clear()
    assert main(["down", "--all"]) == 0

    said = " ".join(capsys.readouterr().err.split())
    assert filters == [({LABEL_OWNER: owner()},)], "what is somebody else's on this engine is left alone"
    assert "removed 2 leftovers" in said
    assert "left alone: 3 objects of unknown owner, 1 object of bob@there; nox -s ci -- down --everyone takes" in said

    filters.clear()
    assert main(["down", "--everyone"]) == 0
    assert filters == [({},)]
    assert "also taking down 3 objects of unknown owner, 1 object of bob@there" in " ".join(
        capsys.readouterr().err.split()
    )
    assert launching.runs() == []


def test_down_of_a_run_takes_its_images_names_too_and_keeps_what_it_needs_until_all_is_gone(
    surroundings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    names = ["localhost:5000/pyxis-matrix/job:1"]
    engine = SimpleNamespace(
        api=SimpleNamespace(containers=SimpleNamespace(get=lambda _name: None)),
        reap=asked.append,
        untag=asked.append,
        left=lambda _filters: [],
        names_below=lambda _prefix: names,
    )
    monkeypatch.setattr(clusters, "connect", lambda: engine)
    state = launching.state_dir("stuck", CELL)
    other = launching.state_dir("stuck", f"{CELL}-2")
    other.mkdir(parents=True)  # killed before it wrote its file
    state_of("stuck")
    monkeypatch.setattr(cluster, "collect_logs", lambda *_: {"n1-slurmd.log": "it began"})

    assert main(["down", "stuck"]) == TeardownError.exit_code
    assert names[0] in capsys.readouterr().err
    assert asked == [{LABEL_RUN: "stuck"}, "localhost:5000/"]
    assert state.exists()

    logs = surroundings / "results" / LOGS_FOLDER
    assert (logs / "n1-slurmd.log").read_text(encoding="utf-8") == "it began", "nothing else has them once it is down"

    names.clear()
    assert main(["down", "stuck"]) == 0
    assert not state.parent.exists()


@pytest.mark.parametrize("level", ["cell", "run"])
@pytest.mark.parametrize("command", ["logs", "logs theirs", "shell", "down", "down --all"])
def test_what_others_have_up_is_theirs_where_a_cache_is_shared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, level: str
) -> None:
    """Several users can have one cache, and the machines of a site one home with it; a folder of keys is its user's."""
    mine, theirs, closed = state_of("mine", owner()), state_of("theirs", "me@elsewhere"), state_of("closed")
    closed = closed if level == "cell" else closed.parent  # as their umask was
    whole = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self == closed:
            raise PermissionError(13, "Permission denied", str(self))
        return whole(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(os, "access", lambda path, _mode: not Path(path).is_relative_to(closed))
    engine = SimpleNamespace(
        reap=lambda *_: ["a"],
        owners=dict,
        left=lambda *_: [],
        untag=lambda _: None,
        names_below=lambda _: [],
        build_client=SimpleNamespace(path="/bin/docker"),
        found=SimpleNamespace(environment={}),
    )
    monkeypatch.setattr(clusters, "connect", lambda: engine)
    entered: list[str] = []

    def logs_of(_engine: object, file: EnvironmentFile) -> dict[str, str]:
        entered.append(file.run)
        return {}

    monkeypatch.setattr(clusters, "_logs_of", logs_of)
    monkeypatch.setattr(os, "execvpe", lambda *_: entered.append("mine"))
    assert (main(command.split()) or 0) == 0, capsys.readouterr().err
    assert (command == "down --all") or entered == ["theirs" if "theirs" in command else "mine"]
    assert (theirs.exists(), closed.exists()) == (True, True)
    assert mine.exists() is not command.startswith("down")


def test_all_that_is_started_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    found = labels("run", CELL, "network")
    assert (found[LABEL_OWNER], found[LABEL_RUN], found[LABEL_CELL]) == ("alice@here", "run", CELL)

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert owner() == "4711@here"
