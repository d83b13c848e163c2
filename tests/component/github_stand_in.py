"""A server on loopback that plays GitHub and Slurm's download page: https, redirects to another host, limits, faults.

It answers under two names, 127.0.0.1 and localhost, which stand for two hosts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import ssl
import threading
from urllib.parse import urlsplit

import trustme

from ci.artefacts.releases import artefacts_for
from tests.support.cells import REAL
from tests.support.tag_archives import tag_tar

ENROOT, CAPS, PYXIS = artefacts_for(REAL)
DEB = b"package" * 1000
TAR = tag_tar(Makefile=b"all:\n")


@dataclass(kw_only=True)
class GitHub:
    """What it serves, and what it was asked; a test changes it at any time. All paths are without a leading slash."""

    address: str
    """The base address of the first host."""
    other: str
    """That of the second, which has the release files and archives as GitHub's do."""
    bundle: Path
    """The file with its authority, for SSL_CERT_FILE."""
    files: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    """Paths that redirect to an address."""
    chunked: set[str] = field(default_factory=set)
    """Paths that are answered in chunks and without a length, as archives of tags are."""
    endless: set[str] = field(default_factory=set)
    """Paths that are answered without a length, and end with the connection."""
    cut: dict[str, int] = field(default_factory=dict)
    """Paths whose connection breaks halfway, and how often still."""
    busy: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """Paths that answer with a status and a Retry-After first."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request."""

    def gets(self, path: str) -> int:
        """Return how often a file was downloaded, or at least begun."""
        return self.asked.count(("GET", path))

    def publish(self, path: str, content: bytes) -> None:
        """Serve a release file or an archive as GitHub does: a redirect to another host."""
        there = f"objects/{path}"
        self.files[there] = content
        self.moved[path] = self.other + there
        if "/archive/" in path:
            self.chunked.add(there)


@contextmanager
def github(folder: Path) -> Iterator[GitHub]:
    """Serve until the block ends."""
    authority = trustme.CA()
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(bundle)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    port = server.server_address[1]
    stand_in = GitHub(address=f"https://127.0.0.1:{port}/", other=f"https://localhost:{port}/", bundle=bundle)
    server.stand_in = stand_in  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that do not trust the authority, or go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        here: GitHub = self.server.stand_in  # type: ignore[attr-defined]
        path = urlsplit(self.path).path.removeprefix("/")
        here.asked.append((self.command, path))
        self.close_connection = True
        if body and here.busy.get(path):
            status, wait = here.busy[path].pop(0)
            self._head(status, {"Retry-After": wait, "Content-Length": "0"})
        elif target := here.moved.get(path):
            self._head(302, {"Location": target, "Content-Length": "0"})
        elif path not in here.files:
            self._head(404, {"Content-Length": "0"})
        else:
            self._file(here, path, body=body)

    def _file(self, here: GitHub, path: str, *, body: bool) -> None:
        content = here.files[path]
        sent = content
        if body and here.cut.get(path):
            here.cut[path] -= 1
            sent = content[: len(content) // 2]
        if path in here.chunked:
            self._head(200, {"Transfer-Encoding": "chunked"})
            end = b"0\r\n\r\n" if sent == content else b""
            sent = b"%x\r\n%s\r\n%s" % (len(content), sent, end) if end else b"%x\r\n%s" % (len(content), sent)
        else:
            self._head(200, {} if path in here.endless else {"Content-Length": str(len(content))})
        if body:
            self.wfile.write(sent)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' own word for it
        """Keep quiet."""
