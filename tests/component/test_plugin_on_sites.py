"""The pytest plugin on a cluster that exists: the real program, over real SSH; its login node is this machine."""

from collections.abc import Callable, Iterator
from pathlib import Path
import shutil
import sys

import asyncssh
import pytest

from ci.environment import ssh
from ci.errors import SiteError
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import Result
from tests.component.weather import REPOSITORY, Process, until
from tests.support.login_node import PYXIS, LoginNode
from tests.support.ssh_server import serving

Foreign = Callable[..., Process]
JOBS = f"""
import pytest

def test_a_job(cluster_shell):
    cluster_shell.run("echo 1 > left; srun true")
    assert cluster_shell.run("echo $SBATCH_PARTITION").stdout == "short\\n"

@pytest.mark.pyxis("=={PYXIS}")
def test_of_this_pyxis(cluster_shell):
    assert "/pyxis-matrix/" in cluster_shell.run("pwd").stdout
"""
LONG = "def test_long(cluster_shell):\n    cluster_shell.run('touch ~/begun; sleep 600', limit=700)\n"


@pytest.fixture
def there(tmp_path: Path) -> LoginNode:
    """Return the login node."""
    return LoginNode(tmp_path / "there")


@pytest.fixture
def port(there: LoginNode, tmp_path: Path) -> Iterator[int]:
    """Return the port that it listens on, for whoever has the home of this test; its shell prints a line by itself."""

    async def answer(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write("a line of the shell's\n")
        await there.answer(process)

    keys = {name: ssh.new_key(name) for name in ("host", "user")}
    with serving(keys, answer) as port:
        ssh.write_home(tmp_path / "home", user_key=keys["user"], host_key=keys["host"], port=port)
        yield port


@pytest.fixture
def foreign(tmp_path: Path, port: int) -> Foreign:
    """Return a function that runs pytest in a foreign repository; the plugin has the name that it has in a wheel."""
    folder = tmp_path / "their repository"
    shutil.copytree(REPOSITORY / "tests" / "foreign", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests" / "test_job.py").write_text(JOBS, encoding="utf-8")
    file = f'host = "127.0.0.1"\nport = {port}\nuser = "ann"\nname = "blue"\npartition = "short"\n'
    (folder / "blue.toml").write_text(file, encoding="utf-8")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "pyxis_matrix").symlink_to(REPOSITORY / "ci" / "installed")
    words = [sys.executable, "-m", "pytest", "-p", "pyxis_matrix.plugin", "-p", "no:cacheprovider"]
    environ = {"HOME": str(tmp_path / "home"), "PYXIS_MATRIX_CACHE": str(tmp_path / "cache")}
    environ |= {"PYTHONPATH": str(tmp_path / "site"), "PYXIS_MATRIX_RESULTS": str(tmp_path / "results")}
    return lambda *more: Process([*words, *more], {**environ, "SSH_AUTH_SOCK": ""}, folder)


@pytest.fixture
def result(tmp_path: Path, there: LoginNode) -> Callable[[], Result]:
    """Return a function that returns the result of the one run, of which nothing is left there."""

    def read() -> Result:
        (path,) = (tmp_path / "results").glob(f"*/*@blue/*/{store.RESULT_FILE}")
        assert not (there.home / "pyxis-matrix").exists()
        assert "127.0.0.1" not in path.read_text(encoding="utf-8")
        return store.load(path)

    return read


def test_two_workers_share_what_one_process_made_there(foreign: Foreign, result: Callable[[], Result]) -> None:
    process = foreign("--cluster", "blue.toml", "-n", "2")
    assert process.end() == 0, process.output
    assert process.output.count("asking jobs for the versions of their nodes …\n") == 1
    found = result()
    assert found.outcome is Outcome.PARTLY
    ended = {test.name.rpartition("::")[2]: test.outcome.value for test in found.tests}
    passed = dict.fromkeys(("test_a_job", "test_of_this_pyxis"), "passed")
    not_asked = dict.fromkeys(("test_a_container_job", "test_a_task_in_a_container"), "not asked")
    assert ended == {**passed, **not_asked, "test_of_another_slurm": "skipped"}


def test_ctrl_c_leaves_nothing_there(
    foreign: Foreign, result: Callable[[], Result], there: LoginNode, tmp_path: Path
) -> None:
    (tmp_path / "their repository" / "tests" / "test_long.py").write_text(LONG, encoding="utf-8")
    process = foreign("tests/test_long.py", "--cluster", "blue.toml", "-n", "2")
    begun = there.home / "begun"
    until("the test runs", lambda: begun.exists() or process.process.poll() is not None)
    process.press_ctrl_c()
    assert process.end() == 2, process.output
    assert result().outcome is Outcome.INTERRUPTED


def test_a_login_that_is_refused_is_one_error(foreign: Foreign, tmp_path: Path) -> None:
    (tmp_path / "home/.ssh/id_ed25519").unlink()
    process = foreign("--cluster", "blue.toml", "-n", "2")
    assert process.end() == SiteError.exit_code, process.output
    assert process.output.count("error: the login was refused") == 1
    assert "workers" not in process.output
