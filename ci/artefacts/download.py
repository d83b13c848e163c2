"""Downloads and checksums, with the standard library; proxies and CA bundle come from the environment."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import functools
import hashlib
import http.client
from pathlib import Path
import socket
import ssl
import tempfile
import urllib.error
import urllib.request

from ci.errors import ArtefactError, DiskFullError, PyxisMatrixError, disk_is_full
from ci.paths import CACHE_VARIABLE, make_directory

PROBE_TIMEOUT = 10.0
"""Seconds in which a server must answer whether it has a file."""
_READ_TIMEOUT = 60.0
_CHUNK = 1 << 20
# Answers of servers that do not support HEAD; the download will show whether they have the file.
_NO_HEAD = ("HTTP 405", "HTTP 501")


class DownloadError(Exception):
    """A download failed; the text is the cause in a few words."""


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """A complete download."""

    path: Path
    sha256: str
    size: int
    """In bytes."""


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file's content in lower-case hex; ``ArtefactError`` if reading fails."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as problem:
        why = problem.strerror or str(problem)
        raise ArtefactError("reading a file failed", where=str(file), why=why, next_step=f"ls -l {file}") from problem


@contextmanager
def downloaded(url: str, folder: Path) -> Iterator[Downloaded]:
    """Download an address into a temporary file in ``folder``. The caller checks the file and renames it.

    A file that was not renamed is removed. Raises ``DownloadError`` if the network fails, and ``ArtefactError``
    or ``DiskFullError`` if storing the file fails.
    """
    make_directory(folder, ArtefactError)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".download-", delete=False) as stream:
            path = Path(stream.name)
    except OSError as problem:
        raise _disk_error(folder, problem) from problem
    try:
        _receive(url, path)
        # mkstemp made it readable for its owner only, and the cache may be shared.
        path.chmod(0o644)
        yield Downloaded(path=path, sha256=sha256_of(path), size=path.stat().st_size)
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
        return None if str(problem).startswith(_NO_HEAD) else str(problem)


@functools.cache
def unreachable(base: str, timeout: float = PROBE_TIMEOUT) -> str | None:
    """Return, in a few words, why no server answers at an address; ``None`` if one answers, also with an error.

    Asked once per process, so that twenty files of one dead server cost one wait.
    """
    problem = probe(base, timeout)
    return None if problem is None or problem.startswith("HTTP ") else problem


def _receive(url: str, path: Path) -> None:
    with _open(url, method="GET", timeout=_READ_TIMEOUT) as answer:
        arrived = 0
        try:
            with path.open("wb") as stream:
                while chunk := _read(answer):
                    arrived += stream.write(chunk)
        except OSError as problem:
            raise _disk_error(path.parent, problem) from problem
        announced = answer.headers.get("Content-Length", "")
        # read(n) of http.client does not report a lost connection.
        if announced.isdigit() and arrived != int(announced):
            raise DownloadError(f"broken off after {arrived} of {announced} bytes")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as problem:
        raise DownloadError(f"broken off: {_cause(problem)}") from problem


def _open(url: str, *, method: str, timeout: float) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "pyxis-matrix"})  # noqa: S310 (ours)
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)  # noqa: S310 (ours)
    except urllib.error.HTTPError as problem:
        problem.close()
        raise DownloadError(f"HTTP {problem.code} {problem.reason}") from problem
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise DownloadError(_cause(problem)) from problem
    return answer


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
