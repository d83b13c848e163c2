"""Downloads of release files over https."""

from collections.abc import Iterator
from contextlib import contextmanager
import functools
from http import HTTPStatus
from pathlib import Path
import tempfile

from ci import web
from ci.errors import ArtefactError, PyxisMatrixError
from ci.paths import CACHE_VARIABLE, make_directory, refused
from ci.web import Tell, WebError

PROBE_TIMEOUT = 10.0
"""The most seconds for a server's answer whether it has a file."""
# Seconds between two packets. The whole may take longer: a slow line is no fault.
_READ_TIMEOUT = 60.0
# Answers that say nothing about the file: HEAD is not supported, or there were too many requests. The download will
# show whether the file is there.
_NO_ANSWER = {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED, *web.BUSY}


@contextmanager
def downloaded(url: str, folder: Path, tell: Tell) -> Iterator[Path]:
    """Download an address into a temporary file in ``folder``. The caller checks the file and renames it.

    After a broken connection the download begins again, and for a busy server it waits as long as that wants (see
    `ci.web`). A file that was not renamed is removed.

    :param tell: called with a line of text for every wait.
    :raises WebError: if the network fails.
    :raises ArtefactError, DiskFullError: if storing the file fails.
    """
    make_directory(folder, ArtefactError)
    try:
        # Not deleted by itself: after the caller's rename it would not be found, which is an error.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".download-", delete=False) as stream:
            path = Path(stream.name)
    except OSError as problem:
        raise _not_stored(folder, problem) from problem
    try:
        _receive(url, path, tell)
        # mkstemp made it readable for its owner only, and the cache may be shared.
        path.chmod(0o644)
        yield path
    finally:
        path.unlink(missing_ok=True)


@functools.cache
def probe(url: str) -> str | None:
    """Return, in a few words, why an address has no file; ``None`` if it has one.

    Downloads nothing, and sends one request per address and process.
    """
    try:
        # One try: every session asks before it begins. The download itself is patient.
        with web.opened(url, "HEAD", timeout=PROBE_TIMEOUT, tries=1):
            return None
    except web.StatusError as problem:
        return None if problem.status in _NO_ANSWER else str(problem)
    except WebError as problem:
        return str(problem)


def unreachable(base: str) -> str | None:
    """Return, in a few words, why no server answers at an address; ``None`` if one answers, even with an error.

    The answer is kept, so that twenty files of one dead server cost one wait.
    """
    problem = probe(base)
    # `StatusError` begins with "HTTP 404 Not Found"; whatever the status, there is a server.
    return None if problem is None or problem.startswith("HTTP ") else problem


def _receive(url: str, path: Path, tell: Tell) -> None:
    """Receive a file. `ci.web` repeats a request that fails before the body; this repeats one that fails within it."""
    for more in reversed(range(web.TRIES)):
        try:
            with web.opened(url, timeout=_READ_TIMEOUT, tell=tell) as answer, path.open("wb") as stream:
                stream.writelines(web.body(answer))
        except OSError as problem:
            raise _not_stored(path.parent, problem) from problem
        except web.BrokenOffError as problem:
            if not more:
                raise WebError(f"{problem} ({web.TRIES} tries)") from problem
            tell(f"{url}: {problem}; trying again")
        else:
            return


def _not_stored(folder: Path, problem: OSError) -> PyxisMatrixError:
    return refused(problem, "storing a download failed", ArtefactError, where=folder, choice=CACHE_VARIABLE)
