"""Serves a report on loopback while results still come in: the page, its newest state, and files of result folders.

The address has a secret in it, and requests for another host's name are refused: other users of the machine and pages
of other sites can't read along.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import errno
import functools
import html
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import io
import os
from pathlib import Path, PurePosixPath
import secrets
import sys
import threading
from typing import Any, BinaryIO
from urllib.parse import quote, unquote_to_bytes, urlsplit

from ci.errors import PortTakenError
from ci.report.forms import page
from ci.report.model import Merged

_LOOPBACK = "127.0.0.1"
# For all but the page: a log is anybody's text, and may be HTML.
_NOTHING = "default-src 'none'; sandbox"


@dataclass(kw_only=True)
class Served:
    """What a server shows; replaced as a whole when results have changed."""

    folder: Path
    """The folder of the report, that its links are relative to."""
    top: Path
    """A folder that holds the report's and all results; the server's addresses begin there."""
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(12))  # 96 bits
    page: bytes = b""
    state: str = ""
    allowed: frozenset[Path] = frozenset()

    def show(self, merged: Merged, state: str) -> None:
        """Take a newer report; of the files, only those in its result folders are served."""
        # The state last: a page that hears of a newer one loads again at once, and has to find it.
        self.allowed = frozenset(merged.folder(suite) for _, suite in merged.compat.results() if suite.folder)
        self.page = page.as_html(merged, live=state).encode(errors="replace")
        self.state = state

    @property
    def home(self) -> str:
        """The page's path in an address."""
        # `.` is a report that lies at the top itself.
        path = f"/{self.secret}/{self.folder.relative_to(self.top).as_posix()}/{page.FILE}".replace("/./", "/")
        return quote(os.fsencode(path))

    def file(self, path: PurePosixPath) -> Path | None:
        """Return the file or folder at a path below the secret, if it may be seen: no links, nothing outside."""
        found = self.top / path
        if not any(folder in self.allowed for folder in (found, *found.parents)):
            return None
        try:
            # Resolved, it is another path if any part of it is a link.
            return found if found.resolve(strict=True) == found and (found.is_file() or found.is_dir()) else None
        except (OSError, RuntimeError, ValueError):  # not there, a loop, a zero byte
            return None


@contextmanager
def serving(served: Served, port: int = 0) -> Iterator[str]:
    """Serve for the block, and yield the page's address.

    :raises PortTakenError: if the port is in use.
    """
    try:
        server = _Server((_LOOPBACK, port), functools.partial(_Handler, served))
    except OSError as error:
        why = "it is in use" if error.errno == errno.EADDRINUSE else str(error)
        raise PortTakenError(
            f"failed to serve on port {port}", why=why, next_step="leave out --port to use a free one"
        ) from error
    # shutdown() waits for so many seconds at most; by default for 0.5, which is felt at Ctrl-C.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{_LOOPBACK}:{server.server_port}{served.home}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _path(address: str) -> PurePosixPath:
    # By way of bytes, as results are linked: a log may have a name that is not UTF-8.
    return PurePosixPath(os.fsdecode(unquote_to_bytes(address)))


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Say nothing of a browser that left before it had all: reloading does that, and would print a traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    """Answers for one `Served`."""

    timeout = 30  # seconds: browsers open connections ahead, and never use some of them
    policy = _NOTHING
    found = Path()

    def __init__(self, served: Served, *connection: Any) -> None:  # noqa: ANN401 - http.server's own arguments
        self.served = served
        super().__init__(*connection)

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Answer a request, and return what follows the headers."""
        path, home = _path(urlsplit(self.path).path), _path(self.served.home)
        if not self._is_ours(path):
            return self._answer(b"not found\n", status=HTTPStatus.NOT_FOUND)
        if path == home:
            self.policy = ""  # it brings its own
            return self._answer(self.served.page, "text/html")
        if path == home.with_name("state"):
            return self._answer(self.served.state.encode())
        # `..` stays in a PurePosixPath. The first two parts are the slash and the secret.
        found = None if ".." in path.parts else self.served.file(PurePosixPath(*path.parts[2:]))
        if found is None:
            return self._answer(b"not found\n", status=HTTPStatus.NOT_FOUND)
        self.found = found
        # The base class shows a folder's index.html in place of the list, and would follow where that is a link.
        if found.is_dir() and urlsplit(self.path).path.endswith("/"):
            return self.list_directory(found)
        return super().send_head()

    def translate_path(self, path: str) -> str:  # noqa: ARG002 - the base class looks up what was found already
        """Return the file or folder that was found to be ours."""
        return str(self.found)

    def guess_type(self, path: Any) -> str:  # noqa: ANN401, ARG002 - as the base class has it
        """Say that every file is text, whatever it is called: nothing in results is run by a browser."""
        return "text/plain; charset=utf-8"

    def list_directory(self, path: Any) -> io.BytesIO:  # noqa: ANN401, ARG002 - as the base class has it
        """List a folder; links in it lead elsewhere and are not shown."""
        names = sorted(
            f"{entry.name}/" if entry.is_dir() else entry.name
            for entry in self.found.iterdir()
            if not entry.is_symlink()
        )
        items = "".join(f'<li><a href="./{quote(os.fsencode(name))}">{html.escape(name)}</a></li>' for name in names)
        title = html.escape(self.found.name)
        listing = f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1><ul>{items}</ul></html>'
        return self._answer(listing.encode(errors="replace"), "text/html")

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal belongs to the person."""

    def end_headers(self) -> None:
        """Add what keeps a browser from running or keeping anything of this."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        if self.policy:
            self.send_header("Content-Security-Policy", self.policy)
        super().end_headers()

    def _is_ours(self, path: PurePosixPath) -> bool:
        """Tell whether the request is for this server by its own name, and knows the secret."""
        # The port that was asked for may have been 0.
        port = self.connection.getsockname()[1]
        # A page of another site can lead a name of its own to 127.0.0.1; its requests have that name.
        host = self.headers.get("Host") in {f"{_LOOPBACK}:{port}", f"localhost:{port}"}
        # As bytes: of texts it takes only ASCII, and a path may hold anything.
        return host and secrets.compare_digest(os.fsencode("/".join(path.parts[1:2])), self.served.secret.encode())

    def _answer(self, content: bytes, kind: str = "text/plain", *, status: HTTPStatus = HTTPStatus.OK) -> io.BytesIO:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)
