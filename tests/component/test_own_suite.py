"""A suite of somebody's own on the legacy cell, on the login node and on the host, through the command line."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
import secrets

import asyncssh
import docker
import pytest

from ci.engine.connection import Engine
from ci.engine.labels import LABEL_RUN
from ci.environment import base_images
from ci.environment.launching import Environment
from ci.environment.service import Place
from ci.errors import LaunchError, SelectionError
from ci.images.building import BuiltCell
from ci.matrix.suites import OWN
from ci.options.inputs import own_suite
from ci.record import store
from ci.record.outcomes import Outcome, TestState
from ci.record.store import Result
from tests.component.conftest import Launch
from tests.component.weather import LEGACY, Process

Suite = Callable[..., Path]
OnLogin = Callable[..., tuple[Process, Path]]

# Every printable character of ASCII but letters and digits, a space at both ends, and what is none of ASCII.
PASSWORD = " -a:b!\"#$%&'()*+,./;<=>?@[\\]^_`{|}~é ß "  # noqa: S105 - made up
USER = "alice"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """Return a function that writes a project with one file of tests, and returns the suite's folder."""

    def write(tests: str) -> Path:
        folder = tmp_path / "theirs" / "tests"
        folder.mkdir(parents=True)
        (folder.parent / "pyproject.toml").touch()
        (folder / "test_theirs.py").write_text(tests, encoding="utf-8")
        return folder

    return write


@pytest.fixture
def on_login(run: str, tmp_path: Path) -> OnLogin:
    """Return a function that runs a suite on the login node; it returns the process and the result folder."""

    def go(path: Path, *options: str) -> tuple[Process, Path]:
        results = tmp_path / "results"
        words = ("--run", run, "--results", str(results), "--", str(path), "--on", "login", *options)
        return Process.ci("suite", OWN, LEGACY, *words), results / run / LEGACY / own_suite(path).name

    return go


def result_in(folder: Path) -> Result:
    return store.load(folder / store.RESULT_FILE)


def test_a_suite_on_the_login_node_submits_jobs_as_the_job_user_and_brings_back_what_it_wrote(
    suite: Suite, on_login: OnLogin, nothing_left: Callable[[], None]
) -> None:
    path = suite(
        """
import getpass, os, pathlib, subprocess, sys
import iniconfig

def test_a_job():
    assert (getpass.getuser(), os.environ["SLURM_USER"]) == ("alice", "alice")
    assert pathlib.Path("pyproject.toml").exists()
    job = "id --user --name; hostname; %s -c 'import slurm, iniconfig'" % sys.executable
    subprocess.run(["sbatch", "--nodelist=n2", "--wait", "--output=job.out", "--wrap", job], check=True)
    assert pathlib.Path("job.out").read_text().split() == ["alice", "n2"]

def test_fails():
    assert False, "as it should"
"""
    )
    started, folder = on_login(path, "--user", USER, "--with", "iniconfig", "--nodes", "2")
    assert started.end() == 1, started.output
    result = result_in(folder)
    outcomes = {test.name: test.outcome for test in result.tests}
    assert outcomes == {
        "tests/test_theirs.py::test_a_job": TestState.PASSED,
        "tests/test_theirs.py::test_fails": TestState.FAILED,
    }
    assert result.outcome is Outcome.FAILED
    assert (folder / "logs/suite/job.out").read_text(encoding="utf-8") == "alice\nn2\n"
    assert not (folder / "logs/suite/pyproject.toml").exists()
    assert "as it should" in started.output
    assert (folder / store.JUNIT_FILE).is_file()
    nothing_left()


def test_a_command_on_the_login_node_is_judged_by_its_exit_code(
    suite: Suite, on_login: OnLogin, nothing_left: Callable[[], None]
) -> None:
    started, folder = on_login(suite(""), "--command", "srun hostname; exit 7")
    assert started.end() == 7, started.output
    assert "\nn1\n" in started.output
    assert (result_in(folder).outcome, result_in(folder).exit_code) == (Outcome.FAILED, 7)
    nothing_left()


def test_a_suite_that_ends_the_users_session_is_an_error_that_keeps_what_was_seen(
    suite: Suite, on_login: OnLogin, nothing_left: Callable[[], None]
) -> None:
    path = suite(
        """
import os, subprocess

def test_passes():
    pass

def test_ends_the_session():
    subprocess.run(["pkill", "-KILL", "--uid", str(os.getuid())])
"""
    )
    started, folder = on_login(path)
    assert started.end() == LaunchError.exit_code, started.output
    assert "session on the login node ended before its command did" in started.output
    assert "Traceback" not in started.output
    result = result_in(folder)
    assert result.outcome is Outcome.ERROR
    assert [test.outcome for test in result.tests] == [TestState.PASSED, TestState.INTERRUPTED]
    nothing_left()


def test_an_interrupted_suite_on_the_login_node_keeps_what_was_seen(
    suite: Suite, on_login: OnLogin, nothing_left: Callable[[], None]
) -> None:
    path = suite(
        """
import time

def test_passes():
    pass

def test_sleeps():
    print("AT WORK", flush=True)
    time.sleep(600)
"""
    )
    started, folder = on_login(path, "-s")
    started.wait_for_output("AT WORK")
    started.terminate()
    assert started.end() == 143, started.output
    result = result_in(folder)
    assert result.outcome is Outcome.INTERRUPTED
    assert result.tests[0].outcome is TestState.PASSED
    nothing_left()


def test_a_package_that_no_index_has_ends_it_before_anything_is_launched(
    suite: Suite, on_login: OnLogin, nothing_left: Callable[[], None]
) -> None:
    started, folder = on_login(suite("def test(): pass"), "--with", "pyxis-matrix-has-no-such-package")
    assert started.end() == 25, started.output
    assert "pyxis-matrix-has-no-such-package" in started.output
    assert "launch" not in result_in(folder).timings
    nothing_left()


def test_a_base_image_of_another_name_goes_with_its_run_and_one_that_exists_is_refused(
    engine: Engine, images: BuiltCell, run: str
) -> None:
    name, built_upon = (f"theirs-{secrets.token_hex(4)}:3.11-slim" for _ in range(2))
    for end in (lambda stack: stack.close(), lambda _: engine.reap({LABEL_RUN: run})):  # the latter after a kill
        stack = ExitStack()
        place = Place(engine=engine, stack=stack, run=run, cell=LEGACY, network="none")
        base_images.check(engine, (name,))
        base_images.name_job_image(place, images.node.tag, (name,), None)
        engine.api.images.get(name).tag(*built_upon.split(":"))  # stands for an image of the suite's own
        with pytest.raises(SelectionError, match=f"this engine already has an image {name}"):
            base_images.check(engine, (name,))
        end(stack)
        assert not engine.image_exists(name)
        assert engine.image_exists(built_upon)
        engine.api.images.remove(built_upon)
        assert engine.image_exists(images.node.tag)


@pytest.mark.parametrize("user", ["munge", "tester2", "root"])
def test_a_user_name_that_exists_already_is_refused(
    launch: Launch, nothing_left: Callable[[], None], user: str
) -> None:
    with pytest.raises(SelectionError, match=f"the user name {user} exists already"), launch(user=user):
        pass
    nothing_left()


def test_a_container_name_that_exists_already_is_refused_and_left_alone(
    launch: Launch, nothing_left: Callable[[], None], api: docker.DockerClient, taken: str
) -> None:
    with pytest.raises(LaunchError, match=f"a container named {taken} exists already"), launch(container_name=taken):
        pass
    nothing_left()
    assert api.containers.get(taken).name == taken


@pytest.fixture
def taken(api: docker.DockerClient, images: BuiltCell) -> Iterator[str]:
    """Return the name of a container that is somebody's."""
    name = f"theirs-{secrets.token_hex(4)}"
    container = api.containers.create(images.node.tag, name=name)
    yield name
    container.remove(force=True)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    """Return a file with a password, beside the results."""
    path = tmp_path / "secrets" / "password"
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text(f"{PASSWORD}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("where", "seen"), [("host", "python"), ("login", "sshd")])
def test_a_chosen_password_reaches_the_suite_and_stands_in_no_command_line_and_no_result(
    *, suite: Suite, on_login: OnLogin, password: Path, tmp_path: Path, where: str, seen: str
) -> None:
    look = "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '; echo; printf %s \"$SLURM_PASSWORD\" | wc -c"
    options = ("--password-file", str(password), "--user", USER)
    started, _ = on_login(suite(""), "--on", where, *options, "--command", look)
    assert started.end() == 0, started.output
    assert seen in started.output, "it saw no command line"
    assert f"\n{len(PASSWORD.encode())}\n" in started.output
    assert PASSWORD not in started.output
    written = [it for it in (tmp_path / "results").rglob("*") if it.is_file()]
    assert any(it.name == store.RESULT_FILE for it in written)
    assert not [it for it in written if PASSWORD.strip() in it.read_text(encoding="utf-8", errors="replace")]
    assert any(str(password) in it.read_text(encoding="utf-8") for it in written if it.name == store.RESULT_FILE)


@pytest.mark.parametrize("user", [USER, "slurm", "tester"])
def test_the_chosen_user_enters_with_the_chosen_password_and_submits_jobs(
    launch: Launch, nothing_left: Callable[[], None], api: docker.DockerClient, user: str, password: Path
) -> None:
    name = f"theirs-{secrets.token_hex(4)}"
    with launch(user=user, password_file=password, container_name=name, nodes=2) as up:
        login = up.file.login
        assert (login.user, login.password, up.file.containers[0]) == (user, PASSWORD, name)
        assert api.containers.get(name).status == "running"
        # One line from each node, in one write: two nodes' words mix.
        said = said_over_ssh(up, "srun --nodes=2 sh -c 'echo $(id --user --name) $(pwd)'")
        assert said.splitlines() == [f"{user} /home/{user}"] * 2
        # The password is nowhere on the node, whether or not a file brought it.
        assert api.containers.get(name).exec_run(["test", "!", "-e", "/etc/pyxis-matrix/job-user"]).exit_code == 0
    nothing_left()


def said_over_ssh(up: Environment, command: str) -> str:
    """Return what a command says to whoever enters with the password alone."""
    login = up.file.login

    async def ask() -> str:
        async with asyncssh.connect(
            login.host,
            port=login.port,
            username=login.user,
            password=login.password,
            known_hosts=login.known_hosts,
            client_keys=None,
            agent_path=None,
            config=None,
        ) as connection:
            answer = await connection.run(command, check=True)
            return str(answer.stdout)

    return asyncio.run(ask())


def test_pip_on_every_node_finds_wheels_made_here_and_asks_no_index(
    suite: Suite, on_login: OnLogin, nothing_left: Callable[[], None]
) -> None:
    venv = "python3 -m venv v && v/bin/pip install --no-compile iniconfig slurm-sdk && ! v/bin/pip install six"
    command = f"srun --nodelist=n2 sh -c '{venv} && pip install --target t iniconfig'"
    started, _ = on_login(suite(""), "--node-package", "iniconfig", "--nodes", "2", "--command", command)
    assert started.end() == 0, started.output
    assert "No matching distribution found for six" in started.output
    nothing_left()
