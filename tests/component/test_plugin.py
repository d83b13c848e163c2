"""The pytest plugin in a repository that is not this one, with the real program, on the legacy cell."""

from collections.abc import Callable
from pathlib import Path
import shutil
import socket
import subprocess
import sys

import docker
import pytest

from ci.environment import launching
from ci.errors import PortTakenError
from ci.images.building import BuiltCell
from ci.python import uv
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from tests.component.weather import LEGACY, REPOSITORY, Process, left_behind, until

Foreign = Callable[..., Process]
HOSTNAME = "def test_a_job(cluster_shell): assert cluster_shell.run('srun hostname').stdout.split() == ['n1']\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a copy of the foreign repository, which has packages called ``ci`` and ``tests``."""
    folder = tmp_path / "their repository"
    shutil.copytree(REPOSITORY / "tests" / "foreign", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests" / "test_job.py").write_text(HOSTNAME, encoding="utf-8")
    return folder


@pytest.fixture
def foreign(repository: Path, tmp_path: Path, images: BuiltCell) -> Foreign:
    """Return a function that runs pytest there; the plugin has the name that it has in a wheel."""
    assert images.node
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "pyxis_matrix").symlink_to(REPOSITORY / "ci" / "installed")
    words = [sys.executable, "-m", "pytest", "-p", "pyxis_matrix.plugin", "-p", "no:cacheprovider", "--cell", LEGACY]
    environ = {"PYTHONPATH": str(tmp_path / "site"), "PYXIS_MATRIX_RESULTS": str(tmp_path / "results")}
    return lambda *more, **variables: Process([*words, *more], {**environ, **variables}, repository)


@pytest.fixture
def result(tmp_path: Path, api: docker.DockerClient) -> Callable[[], Result]:
    """Return a function that returns the result of the one run, of which nothing else is left."""

    def read() -> Result:
        (path,) = (tmp_path / "results").glob(f"*/{LEGACY}/*/{store.RESULT_FILE}")
        found = store.load(path)
        assert left_behind(api, found.run) == []
        assert not launching.state_dir(found.run, LEGACY).exists()
        return found

    return read


@pytest.fixture
def long_test(repository: Path, tmp_path: Path) -> Path:
    """Have a test that does not end, and return the file that is there as soon as it runs."""
    begun = tmp_path / "begun"
    body = f"import pathlib\ndef test_long(cluster_shell):\n    pathlib.Path({str(begun)!r}).touch()\n"
    (repository / "tests" / "test_long.py").write_text(f"{body}    cluster_shell.run('sleep 600', limit=700)\n")
    return begun


def test_two_workers_share_the_cluster_and_the_result_has_the_tests_that_used_it(
    foreign: Foreign, result: Callable[[], Result]
) -> None:
    process = foreign("-n", "2")
    assert process.end() == 0, process.output
    assert process.output.count(f"launching {LEGACY} …\n") == 1
    found = result()
    assert found.outcome is Outcome.PASSED
    ended = {test.name.rpartition("::")[2]: test.outcome.value for test in found.tests}
    needs_more = ("test_a_container_job", "test_a_task_in_a_container", "test_of_another_slurm")
    assert ended == {"test_a_job": "passed", **dict.fromkeys(needs_more, "skipped")}
    assert found.again == f"pytest -p pyxis_matrix.plugin -p no:cacheprovider -n 2 --cell {LEGACY}"
    assert "Slurm is 22.05" in process.output


def test_with_the_oldest_pytest_that_it_is_for_the_result_is_the_same(
    foreign: Foreign, result: Callable[[], Result], tmp_path: Path
) -> None:
    program, site = uv.program(), str(tmp_path / "site")
    assert program
    install = [program, "pip", "install", "--python", sys.executable, "--target", site, "pytest==7.*"]
    subprocess.run(install, env=uv.environment(), capture_output=True, check=True)
    process = foreign("tests/test_job.py", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")  # this environment's are for its own
    assert process.end() == 0, process.output
    assert "pytest-7." in process.output
    assert {test.name: test.outcome.value for test in result().tests} == {"tests/test_job.py::test_a_job": "passed"}


@pytest.mark.parametrize(("words", "signal"), [((), "ctrl-c"), (("-n", "2"), "ctrl-c"), ((), "term")])
def test_a_signal_in_a_test_takes_the_cluster_down(
    foreign: Foreign, result: Callable[[], Result], long_test: Path, words: tuple[str, ...], signal: str
) -> None:
    process = foreign("tests/test_long.py", *words)
    until("the test runs", lambda: long_test.exists() or process.process.poll() is not None)
    process.press_ctrl_c() if signal == "ctrl-c" else process.terminate()
    assert process.end() == (2 if signal == "ctrl-c" else 143), process.output
    assert result().outcome is Outcome.INTERRUPTED


def test_the_cluster_goes_with_a_pytest_that_is_killed(
    foreign: Foreign, long_test: Path, tmp_path: Path, api: docker.DockerClient
) -> None:
    process = foreign("tests/test_long.py")
    until("the test runs", lambda: long_test.exists() or process.process.poll() is not None)
    process.kill()
    process.end()
    (run,) = (it.name for it in (tmp_path / "results").iterdir())
    until("all is taken down", lambda: not left_behind(api, run))


def test_a_cluster_that_does_not_start_is_one_error(foreign: Foreign, result: Callable[[], Result]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = foreign(f"--cell-options=--ssh-port {taken.getsockname()[1]}")
        assert process.end() == PortTakenError.exit_code, process.output
    assert "collected" not in process.output
    assert process.output.count("error: ") == 1
    assert process.output.count(f"{LEGACY} was not started, so no test was run") <= 2  # pytest says it twice
    assert result().outcome is Outcome.ERROR
