"""Logging in to a cluster that exists, with a real SSH server on loopback: what is accepted, and what is not."""

from collections.abc import Iterator
from dataclasses import replace
import os
from pathlib import Path
import subprocess

import asyncssh
import pytest

from ci.environment import ssh
from ci.environment_file import Login
from ci.errors import LaunchError, SiteError
from ci.site.target import SiteTarget
from tests.support.ssh_server import serving


@pytest.fixture
def keys() -> dict[str, ssh.KeyPair]:
    """Return the server's key, the user's, and one of somebody else."""
    return {name: ssh.new_key(name) for name in ("host", "user", "other")}


@pytest.fixture
def port(keys: dict[str, ssh.KeyPair]) -> Iterator[int]:
    """Serve on a free port: it answers a command with its own words."""

    def echo(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write(f"a line of the shell's\npyxis-matrix: the command begins\n{process.command}")
        process.exit(0)

    with serving(keys, echo) as port:
        yield port


@pytest.fixture
def login(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Return the login of a user who has a home without any key."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir(mode=0o700)
    return Login(
        host="127.0.0.1",
        port=port,
        user="ann",
        password="",
        private_key="",
        known_hosts="",
        home=str(tmp_path),
        own=True,
        prelude=SiteTarget(host="127.0.0.1", partition="short").prelude("run-1"),
    )


def home_with(login: Login, keys: dict[str, ssh.KeyPair], *, host: str = "", user: str = "") -> None:
    """Put known hosts and a key into the user's home."""
    folder = Path(login.home) / ".ssh"
    if host:
        (folder / "known_hosts").write_text(
            f"[127.0.0.1]:{login.port} {keys[host].public.decode()}\n", encoding="utf-8"
        )
    if user:
        private = folder / "id_ed25519"
        private.touch(mode=0o600)
        private.write_bytes(keys[user].private)


def test_the_users_own_key_and_known_hosts_do(login: Login, keys: dict[str, ssh.KeyPair]) -> None:
    home_with(login, keys, host="host", user="user")
    with ssh.connect(login) as connection:
        done = connection.run("sinfo")
    assert done.before == "a line of the shell's\n"
    assert "export SBATCH_PARTITION=short SLURM_PARTITION=short" in done.stdout
    assert done.stdout.endswith("\nsinfo")


@pytest.mark.parametrize(
    ("host", "user", "words"),
    [
        ("", "user", "not known, and an unknown key is never accepted"),
        ("other", "user", "has changed, or another machine answers"),
        ("host", "other", "the login was refused"),
        ("host", "", "the login was refused"),
    ],
)
def test_what_is_not_accepted(*, login: Login, keys: dict[str, ssh.KeyPair], host: str, user: str, words: str) -> None:
    home_with(login, keys, host=host, user=user)
    with pytest.raises(SiteError, match=words), ssh.connect(login):
        pass


@pytest.fixture
def breaking(keys: dict[str, ssh.KeyPair]) -> Iterator[int]:
    """Serve on a free port: the command `break` breaks the connection, all others are answered."""

    def answer(process: asyncssh.SSHServerProcess[str]) -> None:
        if (process.command or "").endswith("\nbreak"):
            process.channel.get_connection().abort()
        else:
            process.stdout.write("pyxis-matrix: the command begins\nan answer\n")
            process.exit(0)

    with serving(keys, answer) as port:
        yield port


def test_a_connection_that_breaks_is_made_anew_for_the_next_command(
    keys: dict[str, ssh.KeyPair], login: Login, breaking: int
) -> None:
    login = replace(login, port=breaking)
    home_with(login, keys, host="host", user="user")
    with ssh.connect(login) as connection:
        assert connection.run("before").stdout == "an answer\n"
        with pytest.raises(LaunchError, match="the connection to the login node broke") as caught:
            connection.run("break")
        assert caught.value.where == "break"
        assert connection.run("after").stdout == "an answer\n"


def test_other_commands_can_be_run_while_one_waits(
    keys: dict[str, ssh.KeyPair], login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[asyncssh.SSHServerProcess[str]] = []

    def answer(process: asyncssh.SSHServerProcess[str]) -> None:
        if (process.command or "").endswith("\nwait"):
            waiting.append(process)
        else:
            for it in (*waiting, process):
                it.stdout.write("pyxis-matrix: the command begins\ngo\n")
                it.exit(0)
            waiting.clear()

    monkeypatch.setattr(ssh, "_MEANWHILE_SECONDS", 0.1)
    with serving(keys, answer) as port:
        login = replace(login, port=port)
        home_with(login, keys, host="host", user="user")
        with ssh.connect(login) as connection:
            assert connection.run("wait", limit=20.0, meanwhile=lambda: connection.run("end it")).stdout == "go\n"


def of_the_user(names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), "C")  # also a locale that is everywhere


def test_a_users_own_variables_change_no_job_and_no_list(tmp_path: Path) -> None:
    """Those of a login within a job, or of ~/.bashrc; which cluster it is and who pays there stays as it is."""
    kept = of_the_user(
        "SLURM_CONF SLURM_CLUSTERS SBATCH_ACCOUNT SLURM_QOS ENROOT_CACHE_PATH http_proxy MY_SLURM_JOB_ID"
    )
    gone = of_the_user(
        "SLURM_JOB_ID SLURM_JOBID SLURM_NTASKS SLURM_EXCLUSIVE SBATCH_MEM_PER_CPU SALLOC_NO_SHELL SRUN_CPUS_PER_TASK "
        "SQUEUE_FORMAT SQUEUE_USERS SACCT_FORMAT SINFO_FORMAT SCANCEL_INTERACTIVE PYXIS_CONTAINER_IMAGE "
        "LANG LANGUAGE LC_TIME SSH_CLIENT SSH2_CLIENT"  # by the last a job's bash reads ~/.bashrc, which may print
    )
    target = SiteTarget(host="h", partition="short")
    done = subprocess.run(
        ["bash", "-c", f"{target.prelude('run-1')}env"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TEXT": "a\nSLURM_OF_A_TEXT=1", **kept, **gone},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found.items() >= kept.items()
    assert not gone.keys() & found.keys()
    assert (found["SLURM_PARTITION"], found["SBATCH_JOB_NAME"]) == ("short", "pyxis-matrix-run-1")
