"""Finding an engine on real sockets."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
import json
import os
from pathlib import Path
import socket
import socketserver
import tempfile
import threading

import pytest

from ci.engine.finding import find_engine
from ci.errors import EngineError

DOCUMENTS = {
    "/_ping": "OK",
    "/version": json.dumps({"Version": "24.0.7", "Components": [{"Name": "Engine"}]}),
    "/info": json.dumps({"CgroupVersion": "2", "DockerRootDir": "/data"}),
}


class Handler(BaseHTTPRequestHandler):
    """Answers as an engine does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the document of that path."""
        body = DOCUMENTS.get(self.path, "").encode()
        self.send_response(200 if body else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Stay silent."""


class NotAnEngine(socketserver.StreamRequestHandler):
    """Answers something else than HTTP."""

    def handle(self) -> None:
        """Greet like an SSH server, which hangs up only once it has read what it cannot take."""
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        self.rfile.readline()


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def path() -> Iterator[Path]:
    """Return a path short enough for a unix socket, in a folder that everybody may look into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "e.sock"


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Give up root's right to open everything for a while, where this is root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_engine_on_a_unix_socket(path: Path) -> None:
    with serving(socketserver.ThreadingUnixStreamServer(str(path), Handler)):
        engine = find_engine({"DOCKER_HOST": f"unix://{path}"})
    assert (engine.version, engine.data_root) == ("24.0.7", Path("/data"))


def test_engine_on_tcp() -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    address = f"tcp://127.0.0.1:{server.server_address[1]}"
    with serving(server):
        assert find_engine({"DOCKER_HOST": address}).version == "24.0.7"


def test_something_that_is_no_engine(path: Path) -> None:
    with serving(socketserver.ThreadingUnixStreamServer(str(path), NotAnEngine)), pytest.raises(EngineError) as caught:
        find_engine({"DOCKER_HOST": f"unix://{path}"})
    assert "does not answer" in caught.value.what
    assert "SSH-2.0" in caught.value.why


def test_socket_that_nobody_listens_on(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(EngineError) as caught:
        find_engine({"DOCKER_HOST": f"unix://{path}"})
    assert caught.value.why == "connection refused"


def test_socket_that_may_not_be_opened(path: Path) -> None:
    with serving(socketserver.ThreadingUnixStreamServer(str(path), Handler)):
        path.chmod(0)
        with as_ordinary_user(), pytest.raises(EngineError, match="no permission"):
            find_engine({"DOCKER_HOST": f"unix://{path}"})


def test_socket_in_a_folder_that_may_not_be_entered_counts_as_missing(path: Path) -> None:
    with serving(socketserver.ThreadingUnixStreamServer(str(path), Handler)):
        path.parent.chmod(0)
        with as_ordinary_user(), pytest.raises(EngineError) as caught:
            find_engine({"DOCKER_HOST": f"unix://{path}"})
        path.parent.chmod(0o755)
    assert caught.value.why == "no such socket"
