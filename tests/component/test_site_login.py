"""Logging in to a cluster that exists, with a real SSH server on loopback: what is accepted, and what is not."""

from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from ci.environment import ssh
from ci.environment_file import Login
from ci.errors import SiteError
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
        ("", "user", "not known, and none is accepted unseen"),
        ("other", "user", "has changed, or another machine answers"),
        ("host", "other", "the login was refused"),
        ("host", "", "the login was refused"),
    ],
)
def test_what_is_not_accepted(*, login: Login, keys: dict[str, ssh.KeyPair], host: str, user: str, words: str) -> None:
    home_with(login, keys, host=host, user=user)
    with pytest.raises(SiteError, match=words), ssh.connect(login):
        pass
