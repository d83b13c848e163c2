"""A proxy before the container engine's socket, which refuses what a test wants refused, or all once it is closed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
import re
import socket
import threading

Refuse = Callable[[str, str], bool]
"""Takes method and path of a request."""

_ANSWER = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b'Content-Length: 35\r\n\r\n{"message": "refused by the proxy"}'
)
_CHUNK = 65536


class EngineProxy:
    """One engine's socket, seen through another one."""

    def __init__(self, path: Path, engine: str, refuse: Refuse) -> None:
        """Listen at ``path`` for the engine behind the socket ``engine``."""
        self.url = f"unix://{path}"
        self.refused: list[str] = []
        self._engine = engine
        self._refuse = refuse
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._path = path
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more, as an engine that is gone."""
        self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass one request on; the engine ends the connection behind its answer, so that each has one of its own."""
        with client, socket.socket(socket.AF_UNIX) as engine, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (more := client.recv(_CHUNK)):
                    return
                head += more
            method, path = head.split(b"\r\n", 1)[0].decode().split(" ")[:2]
            if self._refuse(method, path):
                self.refused.append(f"{method} {path}")
                client.sendall(_ANSWER)
                return
            engine.connect(self._engine)
            if b"\nupgrade:" not in head.lower():
                head = re.sub(rb"\r\nConnection:[^\r]*", b"", head, flags=re.IGNORECASE)
                head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            engine.sendall(head)
            up = threading.Thread(target=_pass_on, args=(client, engine), daemon=True)
            up.start()
            _pass_on(engine, client)
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            up.join(5)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def before(engine: str, folder: Path, refuse: Refuse) -> Iterator[EngineProxy]:
    """Stand before an engine for the block.

    :param engine: its address, ``unix://PATH``.
    """
    proxy = EngineProxy(folder / "engine.sock", engine.removeprefix("unix://"), refuse)
    try:
        yield proxy
    finally:
        proxy.close()
