"""Logging in to the nodes, as far as that needs no connection."""

from pathlib import Path
import pwd
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
