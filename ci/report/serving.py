"""Serves a report on loopback while results still come in: the page, its newest state, and files of result folders.

The address has a secret in it, and requests for another host's name are refused: other users of the machine and pages
of other sites can't read along.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import errno
import functools
import html
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import os
from pathlib import Path, PurePosixPath
import secrets
import threading
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ci.errors import PortTakenError
from ci.report.compat import Compat
from ci.report.writing import PAGE_FILE

_LOOPBACK = "127.0.0.1"
_PIECE = 1 << 16
_NOTHING = "default-src 'none'; sandbox"


@dataclass(kw_only=True)
class Served:
    """What a server shows; replaced as a whole when results have changed."""

    folder: Path
    """The folder of the report, that its links are relative to."""
    top: Path
    """A folder that holds the report's and all results; the server's addresses begin there."""
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    page: bytes = b""
    state: str = ""
    allowed: frozenset[Path] = frozenset()

    def show(self, compat: Compat, page: str, state: str) -> None:
        """Take a newer page; of the files, only those in its result folders are served."""
        self.allowed = frozenset(
            Path(os.path.normpath(self.folder / unquote(suite.folder))) for _, suite in compat.results() if suite.folder
        )
        self.page = page.encode(errors="replace")
        self.state = state

    @property
    def home(self) -> str:
        """The page's path in an address."""
        return quote(f"/{self.secret}/{self.folder.relative_to(self.top).as_posix()}/{PAGE_FILE}".replace("/./", "/"))

    def file(self, path: PurePosixPath) -> Path | None:
        """Return the file or folder at a path behind the secret, if it may be seen: no links, nothing outside."""
        found = self.top / path
        if not any(folder in self.allowed for folder in (found, *found.parents)):
            return None
        try:
            return found if found.resolve(strict=True) == found else None
        except (OSError, RuntimeError, ValueError):  # not there, a loop, a zero byte
            return None


def served_from(roots: Sequence[Path], folder: Path) -> Served:
    """Return what a server of a report in ``folder`` begins with."""
    return Served(folder=folder, top=Path(os.path.commonpath([*roots, folder])))


@contextmanager
def serving(served: Served, port: int = 0) -> Iterator[str]:
    """Serve for the block, and yield the page's address.

    :raises PortTakenError: if the port is in use.
    """
    try:
        server = ThreadingHTTPServer((_LOOPBACK, port), functools.partial(_Handler, served))
    except OSError as error:
        why = "it is in use" if error.errno == errno.EADDRINUSE else str(error)
        raise PortTakenError(
            f"failed to serve on port {port}", why=why, next_step="leave --port out: a free one is taken"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{_LOOPBACK}:{server.server_port}{served.home}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers for one `Served`."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def __init__(self, served: Served, *connection: Any) -> None:  # noqa: ANN401 - http.server's own arguments
        self.served = served
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Answer a request."""
        path = PurePosixPath(unquote(urlsplit(self.path).path))
        home = PurePosixPath(unquote(self.served.home))
        if not self._is_ours(path):
            self._send(b"not found\n", status=HTTPStatus.NOT_FOUND)
        elif path == home:
            self._send(self.served.page, "text/html", policy="")  # it brings its own
        elif path == home.with_name("state"):
            self._send(self.served.state.encode())
        else:
            self._file_or_folder(path)

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal belongs to the person."""

    def _is_ours(self, path: PurePosixPath) -> bool:
        """Tell whether the request is for this server by its own name, and knows the secret."""
        port = self.connection.getsockname()[1]
        host = self.headers.get("Host") in {f"{_LOOPBACK}:{port}", f"localhost:{port}"}
        return host and secrets.compare_digest("/".join(path.parts[1:2]).encode(), self.served.secret.encode())

    def _file_or_folder(self, path: PurePosixPath) -> None:
        found = None if ".." in path.parts else self.served.file(PurePosixPath(*path.parts[2:]))
        if found and found.is_file():
            self._file(found)
        elif found and found.is_dir():
            self._list(found)
        else:
            self._send(b"not found\n", status=HTTPStatus.NOT_FOUND)

    def _file(self, file: Path) -> None:
        with file.open("rb") as source:
            left = os.fstat(source.fileno()).st_size  # no more than that: a log may grow while it is sent
            self._head("text/plain", left)
            while left and (content := source.read(min(left, _PIECE))):
                self.wfile.write(content)
                left -= len(content)

    def _list(self, folder: Path) -> None:
        asked = urlsplit(self.path).path
        if not asked.endswith("/"):
            self.send_response(HTTPStatus.MOVED_PERMANENTLY)
            self.send_header("Location", f"/{asked.lstrip('/')}/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        names = sorted(f"{it.name}/" if it.is_dir() else it.name for it in folder.iterdir() if not it.is_symlink())
        items = "".join(f'<li><a href="./{quote(name)}">{html.escape(name)}</a></li>' for name in names)
        title = html.escape(folder.name)
        page = f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1><ul>{items}</ul></html>'
        self._send(page.encode(errors="replace"), "text/html")

    def _send(
        self, content: bytes, kind: str = "text/plain", *, policy: str = _NOTHING, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self._head(kind, len(content), policy=policy, status=status)
        self.wfile.write(content)

    def _head(self, kind: str, size: int, *, policy: str = _NOTHING, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        if policy:
            self.send_header("Content-Security-Policy", policy)
        self.end_headers()
