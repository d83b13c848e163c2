"""SSH keys of a run, and commands over SSH. The host key is known in advance, so that no unknown one is accepted."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
import getpass
import os
from pathlib import Path
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from ci.environment_file import Login
from ci.errors import LaunchError, SiteError, typed

if TYPE_CHECKING:  # loading it takes 0.2 s, and most commands do not log in anywhere
    import asyncssh

T = TypeVar("T")

SSH_PORT = 22
_CONNECT_SECONDS = 10.0
_KEEPALIVE_SECONDS = 30.0
# The time for a command to end by itself after it was interrupted.
_GRACE_SECONDS = 15.0
_MEANWHILE_SECONDS = 10.0
_CHUNK = 65536
# Printed before a command's own output, so that the output of a user's ~/.bashrc is not taken for a part of it.
_BEGIN = "pyxis-matrix: the command begins"


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """An SSH key made for one run."""

    private: bytes
    public: bytes


@dataclass(frozen=True, kw_only=True)
class RemoteAnswer:
    """The answer of a command on a node; ``str()`` shows command, status and output for a failing test."""

    command: str
    status: int
    stdout: str
    stderr: str
    before: str = ""
    """The login shell's output before the command began (from a line in ``~/.bashrc``)."""

    def __str__(self) -> str:
        """Return command, status and both outputs, readable in an assertion message."""
        before = f"\n--- printed by the login shell\n{self.before}" if self.before else ""
        return f"$ {self.command}\n[exit status {self.status}]\n{self.stdout}\n--- stderr\n{self.stderr}{before}"


def new_key(comment: str) -> KeyPair:
    """Make an ed25519 key."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    return KeyPair(private=key.export_private_key("openssh"), public=key.export_public_key("openssh"))


def write_home(home: Path, *, user_key: KeyPair, host_key: KeyPair, port: int) -> None:
    """Fill ``home/.ssh`` so that tools which read only ``~/.ssh`` (paramiko) can log in without questions."""
    folder = home / ".ssh"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = folder / "id_ed25519"
    # Closed to others before it has content; OpenSSH refuses a private key that others can read.
    private.touch(mode=0o600)
    private.write_bytes(user_key.private)
    (folder / "id_ed25519.pub").write_bytes(user_key.public)
    host_public = b" ".join(host_key.public.split()[:2]).decode()
    # OpenSSH's form for a port other than 22, which has none.
    names = [host if port == SSH_PORT else f"[{host}]:{port}" for host in ("127.0.0.1", "localhost")]
    (folder / "known_hosts").write_text("".join(f"{name} {host_public}\n" for name in names), encoding="utf-8")


class Connection:
    """An SSH connection for synchronous code; several commands may run at the same time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        opened: Callable[[], "asyncssh.SSHClientConnection"],
        prelude: str = "",
        *,
        again: bool = False,
    ) -> None:
        """Open a connection on ``loop``, which runs in another thread.

        :param again: whether to open a broken connection again for the next command. For a site's network, so that a
            suite continues. In a cell no connection breaks by chance, and a break is a fault to report.
        """
        self._loop = loop
        self._opened = opened
        self._connection = opened()
        self._again = again
        # Threads may run commands side by side, and only one of them is to open the connection again.
        self._opening = threading.Lock()
        self._prelude = prelude

    def run(
        self,
        command: str,
        *,
        limit: float = 120.0,
        stdin: str | None = None,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> RemoteAnswer:
        """Run a command line in the login shell of the remote user.

        :param limit: seconds until ``LaunchError``, so that a job that hangs does not block a suite.
        :param meanwhile: called every ten seconds of the wait; may run other commands.
        :raises LaunchError: also if the connection breaks, because the output until then is not the whole answer.
        """
        import asyncssh

        with self._opening:
            if self._again and self._connection.is_closed():
                self._connection = self._opened()
        # Without input, stdin is /dev/null. By default asyncssh leaves stdin open, and the command might wait for
        # input.
        feed: dict[str, Any] = {"input": stdin} if stdin else {"stdin": asyncssh.DEVNULL}
        script = f"echo '{_BEGIN}'\n{self._prelude}{command}"
        try:
            result = self._wait(self._connection.run(script, check=False, **feed), command, limit, meanwhile)
        except (OSError, asyncssh.Error) as error:
            raise _broke(command, str(error)) from error
        if result.returncode is None:
            raise _broke(command, "it ended without the status of the command")
        before, begun, stdout = str(result.stdout).partition(f"{_BEGIN}\n")
        if not begun:
            before, stdout = "", before
        return RemoteAnswer(
            command=command, status=result.returncode, stdout=stdout, stderr=str(result.stderr), before=before
        )

    def attach(self, command: str, write: Callable[[str], None]) -> int:
        """Run a command without a time limit, pass its output to ``write`` at once, and return its exit code.

        The exit code is minus the signal's number if a signal ended the command. When the wait is interrupted, the
        command gets SIGINT and some time to end by itself, before the exception is raised again.

        :raises LaunchError: if the connection ends before the command does.
        """
        import asyncssh

        started: list[asyncssh.SSHClientProcess[str]] = []
        future = asyncio.run_coroutine_threadsafe(self._attached(command, write, started), self._loop)
        try:
            code = future.result()
        except (OSError, asyncssh.Error) as error:
            raise _session_ended(command, str(error)) from error
        except BaseException:
            if started:
                # asyncssh's objects belong to the thread of their loop, and may be used in no other.
                self._loop.call_soon_threadsafe(started[0].send_signal, "INT")
            with suppress(TimeoutError, OSError, asyncssh.Error):
                future.result(_GRACE_SECONDS)
            raise
        if code is None:
            raise _session_ended(command, "the connection was closed")
        return code

    async def _attached(
        self, command: str, write: Callable[[str], None], started: "list[asyncssh.SSHClientProcess[str]]"
    ) -> int | None:
        import asyncssh

        process = await self._connection.create_process(
            command, stdin=asyncssh.DEVNULL, stderr=asyncssh.STDOUT, encoding="utf-8", errors="replace"
        )
        started.append(process)
        while text := await process.stdout.read(_CHUNK):
            write(text)
        await process.wait_closed()
        return process.returncode

    def close(self) -> None:
        """Close the connection and wait until it is."""
        self._wait(_closed(self._connection), "closing", 5.0)

    def _wait(
        self, work: Coroutine[Any, Any, T], doing: str, limit: float, meanwhile: Callable[[], object] = lambda: None
    ) -> T:
        future, end = asyncio.run_coroutine_threadsafe(work, self._loop), time.monotonic() + limit
        try:
            # Not by `result(timeout)`: a TimeoutError of the work itself would look like the end of this wait.
            while (left := end - time.monotonic()) > 0:
                if futures.wait([future], min(left, _MEANWHILE_SECONDS)).done:
                    return future.result()
                meanwhile()
        except BaseException:
            future.cancel()
            raise
        future.cancel()
        raise LaunchError(f"no answer within {limit:g} s", where=doing, next_step=typed("logs"))


def _broke(command: str, why: str) -> LaunchError:
    return LaunchError(
        "the connection to the login node broke",
        where=command,
        why=f"{why}; whether the command ended, and how, is not known",
        next_step="run the failed tests again",
    )


def _session_ended(command: str, why: str) -> LaunchError:
    return LaunchError(
        "the job user's session on the login node ended before its command did",
        where=command,
        why=f"{why}; a test that ends all processes of the user (pkill -u) ends the suite itself",
        next_step="sshd's log and the container's log in the result folder say more",
    )


@contextmanager
def connect(login: Login, user: str | None = None) -> Iterator[Connection]:
    """Open a connection to the login node as ``user`` (default: the job user).

    :raises LaunchError: if that fails; for a site, with what its user can do.
    """
    _name_this_user(login.user)
    loop = asyncio.new_event_loop()
    # A daemon: a connection that hangs must not keep this process from ending.
    thread = threading.Thread(target=loop.run_forever, name="ssh", daemon=True)
    thread.start()
    try:
        connection = Connection(loop, partial(_open, loop, login, user), login.prelude, again=login.own)
        try:
            yield connection
        finally:
            connection.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        loop.close()


def _open(loop: asyncio.AbstractEventLoop, login: Login, user: str | None) -> "asyncssh.SSHClientConnection":
    import asyncssh

    opening = asyncssh.connect(
        login.host,
        # `()` is asyncssh's "not given": ~/.ssh/config says it, else it is 22, or this user's name.
        port=login.port or (),
        username=user or login.user or (),
        connect_timeout=_CONNECT_SECONDS,
        **_means(login),
    )
    try:
        # asyncssh keeps to its own limit; this one is for a loop that hangs.
        return asyncio.run_coroutine_threadsafe(_opened(opening), loop).result(_CONNECT_SECONDS + 5)
    # ValueError: ~/.ssh/config or a key that asyncssh can't read (ConfigParseError, KeyImportError).
    except (OSError, asyncssh.Error, TimeoutError, ValueError) as error:
        raise _refused(login, error) from error


def _means(login: Login) -> dict[str, Any]:
    """Return asyncssh's options for keys and known hosts; without any, it uses the user's own."""
    if login.own:
        # A firewall may drop a connection without traffic, while a job waits in the queue.
        return {"keepalive_interval": _KEEPALIVE_SECONDS}
    return {
        "client_keys": [login.private_key],
        "known_hosts": login.known_hosts,
        "config": None,  # the user's own ~/.ssh/config is ignored
        # Beside the key, those of an agent would be offered, and sshd counts each as a failed try (MaxAuthTries).
        "agent_path": None,
    }


def _refused(login: Login, error: Exception) -> LaunchError:
    """Return the error for a login that failed."""
    import asyncssh

    where = f"{login.host}:{login.port}" if login.port else login.host
    if not login.own:
        return LaunchError("logging in to the login node failed", where=where, why=str(error))
    by_hand = f"ssh {f'-p {login.port} ' if login.port else ''}{f'{login.user}@' if login.user else ''}{login.host}"
    what, next_step = "the login node was not reached", by_hand
    if isinstance(error, asyncssh.HostKeyNotVerifiable) and _is_known(login):
        what = "the login node has another host key than the known one: the key has changed, or another machine answers"
        next_step = f"ask its administrators before anything else; then ssh-keygen -R, and {by_hand}"
    elif isinstance(error, asyncssh.HostKeyNotVerifiable):
        what = "the host key of the login node is not known, and an unknown key is never accepted"
        next_step = f"{by_hand} once, and compare the fingerprint that it shows with the one of your site"
    elif isinstance(error, asyncssh.PermissionDenied):
        what = "the login was refused: keys of ~/.ssh and of an agent were tried, and nobody can type a password here"
        next_step = f"make this work without a question: {by_hand} -o BatchMode=yes true"
    return SiteError(what, where=where, why=str(error) or "no answer in time", next_step=next_step)


def _is_known(login: Login) -> bool:
    """Tell whether the user's known hosts have any key of the login node, also a different one."""
    file = Path.home() / ".ssh" / "known_hosts"
    if not file.is_file():
        return False
    import asyncssh

    keys, *_ = asyncssh.match_known_hosts(str(file), login.host, "", login.port or None)
    return bool(keys)


def _name_this_user(otherwise: str) -> None:
    """Set LOGNAME for a user id without a name: asyncssh fails without a local name, though it uses the login's."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # from Python 3.13 on it is an OSError
        os.environ["LOGNAME"] = otherwise


async def _opened(opening: Any) -> "asyncssh.SSHClientConnection":  # noqa: ANN401 - asyncssh's awaitable context manager
    connection: asyncssh.SSHClientConnection = await opening
    return connection


async def _closed(connection: "asyncssh.SSHClientConnection") -> None:
    connection.close()
    await connection.wait_closed()
