"""Logging in to the nodes, as far as that needs no connection."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
import pwd
import threading
from types import SimpleNamespace
from typing import Any, NoReturn

import asyncssh
import pytest

from ci.environment import ssh
from ci.environment_file import Login
from ci.errors import LaunchError


async def refused(host: str, *, port: int, **options: Any) -> NoReturn:  # noqa: ANN401 - what asyncssh takes
    """Read the options as asyncssh does, and refuse the connection."""
    asyncssh.SSHClientConnectionOptions(host=host, port=port, **options)
    raise ConnectionRefusedError("refused")


@pytest.mark.parametrize("kind", [KeyError, OSError])
def test_a_user_id_without_a_name_can_log_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """As with `docker run --user 12345`: no entry in passwd, and neither USER nor LOGNAME."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "x")  # so that it is as it was again, afterwards
        monkeypatch.delenv(name)

    def nameless(uid: int) -> NoReturn:
        raise kind(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nameless)
    monkeypatch.setattr(asyncssh, "connect", refused)
    key = ssh.new_key("test")
    ssh.write_home(tmp_path, user_key=key, host_key=key, port=1)
    login = Login(
        host="127.0.0.1",
        port=1,
        user="tester",
        password="",
        private_key=str(tmp_path / ".ssh/id_ed25519"),
        known_hosts=str(tmp_path / ".ssh/known_hosts"),
        home=str(tmp_path),
    )
    with pytest.raises(LaunchError, match="logging in to the login node failed") as caught, ssh.connect(login):
        pass
    assert caught.value.why == "refused"


@pytest.mark.parametrize(("port", "host"), [(22, "127.0.0.1"), (2222, "[127.0.0.1]:2222")])
def test_a_host_key_is_found_by_the_form_that_openssh_has_for_its_port(tmp_path: Path, port: int, host: str) -> None:
    key = ssh.new_key("test")
    ssh.write_home(tmp_path, user_key=key, host_key=key, port=port)
    assert (tmp_path / ".ssh/known_hosts").read_text(encoding="utf-8").split()[0] == host


class PrintingShell:
    """A connection to a login shell that prints a line before it reads the command."""

    def __init__(self, said: str) -> None:
        """Take the line."""
        self.said = said

    def is_closed(self) -> bool:
        """Tell that it is open."""
        return False

    async def run(self, command: str, **_more: object) -> SimpleNamespace:
        """Echo what the first line of the command echoes, and answer with the others."""
        first, _, rest = command.partition("\n")
        begin = first.removeprefix("echo '").removesuffix("'")
        return SimpleNamespace(returncode=0, stdout=f"{self.said}{begin}\nran: {rest}\n", stderr="")


class BrokenShell(PrintingShell):
    """A connection that has broken."""

    def is_closed(self) -> bool:
        """Tell that it is not open."""
        return True

    async def run(self, command: str, **_more: object) -> SimpleNamespace:  # noqa: ARG002
        """Say so."""
        raise OSError("connection lost")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Return a loop that runs beside the test."""
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever)
    thread.start()
    try:
        yield running
    finally:
        running.call_soon_threadsafe(running.stop)
        thread.join()
        running.close()


def test_a_connection_that_broke_is_opened_anew_on_sites_only(loop: asyncio.AbstractEventLoop) -> None:
    shells = [BrokenShell(""), PrintingShell("")]
    site = ssh.Connection(loop, lambda: shells.pop(0), again=True)  # type: ignore[arg-type, return-value]
    assert site.run("id -u").stdout == "ran: id -u\n"
    cell = ssh.Connection(loop, lambda: BrokenShell(""))  # type: ignore[arg-type, return-value]
    with pytest.raises(LaunchError, match="the connection to the login node broke"):
        cell.run("id -u")


@pytest.mark.parametrize("said", ["", "Welcome!\n", "no end of a line: "])
def test_what_a_login_shell_prints_is_not_taken_for_the_commands(loop: asyncio.AbstractEventLoop, said: str) -> None:
    answer = ssh.Connection(loop, lambda: PrintingShell(said)).run("id -u")  # type: ignore[arg-type, return-value]
    assert (answer.stdout, answer.before, answer.command) == ("ran: id -u\n", said, "id -u")
    assert ("printed by the login shell" in str(answer)) is bool(said)
