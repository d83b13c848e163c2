"""Downloads over https, with the standard library; proxies and CA bundle come from the environment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
import email.utils
import functools
from http import HTTPStatus
import http.client
import math
from pathlib import Path
import socket
import ssl
import sys
import tempfile
import time
from typing import IO
import urllib.error
import urllib.parse
import urllib.request

from ci.errors import ArtefactError, DiskFullError, PyxisMatrixError, disk_is_full
from ci.paths import CACHE_VARIABLE, make_directory

PROBE_TIMEOUT = 10.0
"""Seconds in which a server must answer whether it has a file."""
LONGEST_WAIT = 120.0
"""Seconds that a download waits at most, all in all, for a server that asks to be asked later."""
_READ_TIMEOUT = 60.0
_CHUNK = 1 << 20
_TRIES = 3
_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
# Answers that say nothing about the file: HEAD is not supported, or too much is asked. The download will show it.
_NO_ANSWER = ("HTTP 405", "HTTP 501", *(f"HTTP {status.value}" for status in _BUSY))

Tell = Callable[[str], None]


class DownloadError(Exception):
    """A download failed; the text is the cause in a few words."""


class _BusyError(DownloadError):
    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


class _BrokenOffError(DownloadError):
    """The connection ended before the file did."""


def tell_on_stderr(text: str) -> None:
    """Say something to the person who waits."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - nox' own environment has nothing better


@contextmanager
def downloaded(url: str, folder: Path, tell: Tell = tell_on_stderr) -> Iterator[Path]:
    """Download an address into a temporary file in ``folder``. The caller checks the file and renames it.

    A connection that breaks is tried again, and a server that is busy is asked again when it says, within
    `LONGEST_WAIT`. A file that was not renamed is removed.

    :param tell: is told of every wait.
    :raises DownloadError: if the network fails.
    :raises ArtefactError, DiskFullError: if storing the file fails.
    """
    make_directory(folder, ArtefactError)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".download-", delete=False) as stream:
            path = Path(stream.name)
    except OSError as problem:
        raise _disk_error(folder, problem) from problem
    try:
        _patiently(url, path, tell)
        # mkstemp made it readable for its owner only, and the cache may be shared.
        path.chmod(0o644)
        yield path
    finally:
        path.unlink(missing_ok=True)


@functools.cache
def probe(url: str, timeout: float = PROBE_TIMEOUT) -> str | None:
    """Return, in a few words, why an address has no file; ``None`` if it has one.

    Downloads nothing, and asks an address only once per process.
    """
    try:
        with _open(url, method="HEAD", timeout=timeout):
            return None
    except DownloadError as problem:
        return None if str(problem).startswith(_NO_ANSWER) else str(problem)


@functools.cache
def unreachable(base: str, timeout: float = PROBE_TIMEOUT) -> str | None:
    """Return, in a few words, why no server answers at an address; ``None`` if one answers, also with an error.

    Asked once per process, so that twenty files of one dead server cost one wait.
    """
    problem = probe(base, timeout)
    return None if problem is None or problem.startswith("HTTP ") else problem


def _patiently(url: str, path: Path, tell: Tell) -> None:
    """Receive a file, with a further try where the fault may pass."""
    left = LONGEST_WAIT
    for more in reversed(range(_TRIES)):
        try:
            return _receive(url, path)
        except _BrokenOffError as problem:
            if not more:
                raise DownloadError(f"{problem} ({_TRIES} tries)") from problem
            tell(f"{url}: {problem}; trying again")
        except _BusyError as problem:
            if not more:
                raise DownloadError(f"{problem} ({_TRIES} tries)") from problem
            if problem.seconds > left:
                asked = f"it asks for a wait of {problem.seconds:.0f} s"
                raise DownloadError(f"{problem}; {asked}, and {LONGEST_WAIT:.0f} s is the longest here") from problem
            tell(f"{url}: {problem}; waiting {problem.seconds:.0f} s")
            time.sleep(problem.seconds)
            left -= problem.seconds
    raise AssertionError("the last try returns or raises")


def _receive(url: str, path: Path) -> None:
    with _open(url, method="GET", timeout=_READ_TIMEOUT) as answer:
        announced = answer.headers.get("Content-Length", "")
        if not announced.isdigit() and not answer.chunked:
            raise DownloadError("the server does not say how long the file is, so a part could be taken for all of it")
        arrived = 0
        try:
            with path.open("wb") as stream:
                while chunk := _read(answer):
                    arrived += stream.write(chunk)
        except OSError as problem:
            raise _disk_error(path.parent, problem) from problem
        # read(n) of http.client does not report a lost connection.
        if announced.isdigit() and arrived != int(announced):
            raise _BrokenOffError(f"broken off after {arrived} of {announced} bytes")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as problem:
        raise _BrokenOffError(f"broken off: {_cause(problem)}") from problem


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, also to other hosts, as long as nobody on the way can change what is sent."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = urllib.parse.urlsplit(newurl)
        if target.scheme != "https":
            fp.close()
            # Without the query, which may hold a signature.
            raise DownloadError(f"redirects to {target.scheme}://{target.netloc}{target.path}, and only https is taken")
        if request := super().redirect_request(req, fp, code, msg, headers, newurl):
            request.method = req.get_method()  # Python before 3.13 makes a GET of a HEAD
        return request


def _open(url: str, *, method: str, timeout: float) -> http.client.HTTPResponse:
    if not url.startswith("https://"):
        raise DownloadError("only https is taken")
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "pyxis-matrix"})  # noqa: S310 (https)
    try:
        opener = urllib.request.build_opener(_HttpsOnly)
        answer: http.client.HTTPResponse = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as problem:
        problem.close()
        text = f"HTTP {problem.code} {problem.reason}"
        if problem.code in _BUSY:
            raise _BusyError(text, retry_after(problem.headers.get("Retry-After"))) from problem
        raise DownloadError(text) from problem
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise DownloadError(_cause(problem)) from problem
    return answer


def retry_after(value: str | None, now: datetime | None = None) -> float:
    """Return the seconds that a server asks to be left alone for: a number or a date; 5 where it says nothing."""
    text = (value or "").strip()
    if text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return 5.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return float(max(0, math.ceil((moment - (now or datetime.now(UTC))).total_seconds())))


def _cause(problem: Exception) -> str:
    """Return in a few words what failed in the network."""
    reason = problem.reason if isinstance(problem, urllib.error.URLError) else problem
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, socket.gaierror):
        return f"the name does not resolve ({reason.strerror})"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message}); SSL_CERT_FILE can name a CA bundle"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def _disk_error(folder: Path, problem: OSError) -> PyxisMatrixError:
    kind = DiskFullError if disk_is_full(problem) else ArtefactError
    return kind(
        "storing a download failed",
        where=str(folder),
        why=problem.strerror or str(problem),
        next_step=f"make room or allow writing there, or choose another with {CACHE_VARIABLE}",
    )
