"""What an earlier attempt of a run left does not outlive the beginning of the next: real processes, no engine."""

from collections.abc import Iterator
from pathlib import Path
import signal
import socket

import pytest

from ci.errors import EngineError, ResultsError
from ci.matrix.model import Matrix
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import CellRecord, Result
from tests.component.weather import LEGACY, Process
from tests.support import results as made

RUN = "begun"
SUITE = "legacy_integration"
COMMANDS = {
    "suite": ("suite", SUITE, LEGACY, "--run", RUN),
    "matrix": ("matrix", LEGACY, "--run", RUN, "--suite", SUITE),
}


@pytest.fixture
def passed(rows: Matrix, tmp_path: Path) -> Path:
    """Return the file of a result that passed, in the run that a test begins again."""
    (folder,) = made.write(tmp_path, made.result(CellRecord.of(rows.cell(LEGACY)), SUITE, run=RUN))
    assert store.load(folder / store.RESULT_FILE).outcome is Outcome.PASSED
    return folder / store.RESULT_FILE


@pytest.fixture
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """Yield a socket that stands for an engine which takes questions and answers none."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path_factory.mktemp("e") / "s"))
        listening.listen()
        listening.settimeout(120)
        yield listening


def start(command: str, engine: str, passed: Path) -> Process:
    return Process.ci(*COMMANDS[command], DOCKER_HOST=f"unix://{engine}", PYXIS_MATRIX_RESULTS=str(passed.parents[3]))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_killed_while_the_engine_is_asked_has_not_finished(
    command: str, passed: Path, silent: socket.socket
) -> None:
    process = start(command, silent.getsockname(), passed)
    connection, _ = silent.accept()
    with connection:
        process.kill()
        assert process.end() == -signal.SIGKILL
    found = store.load(passed)
    assert (found.outcome, found.exit_code, found.tests) == (Outcome.UNFINISHED, ResultsError.exit_code, ())
    shown = Process.ci("report", RUN, PYXIS_MATRIX_RESULTS=str(passed.parents[3]))
    shown.end()
    assert "… not finished" in shown.output
    assert "✓ passed" not in shown.output


@pytest.mark.parametrize("command", COMMANDS)
def test_a_dead_engine_is_an_error_and_shows_nothing_of_before(command: str, passed: Path, tmp_path: Path) -> None:
    process = start(command, str(tmp_path / "none"), passed)
    assert process.end() == EngineError.exit_code
    found: Result = store.load(passed)
    assert (found.outcome, found.exit_code) == (Outcome.ERROR, EngineError.exit_code)
    assert "! error" in process.output or command == "suite"
    assert "✓ passed" not in process.output
