"""Translates the engine's errors, raised by docker-py and by requests below it, into errors of this project.

Only `ci.engine.removing` handles them itself: after a refusal it continues with the next object.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ci import paths
from ci.errors import DiskFullError, NotOnEngineError, PyxisMatrixError, RefusedError, disk_is_full


def explain(error: Exception, doing: str) -> PyxisMatrixError:
    """Return the project's error for one that docker-py raised while ``doing`` something, with the next command."""
    from docker.errors import DockerException, NotFound

    # The engine's own words, which docker-py keeps beside the line with the status of HTTP.
    text = str(getattr(error, "explanation", None) or error)
    if disk_is_full(text):
        return DiskFullError(f"the disk filled up while {doing}", why=text, next_step="docker system df")
    kind = NotOnEngineError if isinstance(error, NotFound) else RefusedError
    # docker-py's refusals are errors of requests, too, so what is not docker-py's is an engine that does not answer.
    what = "the engine refused" if isinstance(error, DockerException) else "the engine does not answer"
    return kind(f"{what}: {doing}", why=text, next_step="docker info")


def raised() -> tuple[type[Exception], ...]:
    """Return the base errors of docker-py and of requests; loading them takes time, so only a failure does it."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    return DockerException, RequestException


@contextmanager
def asking(doing: str) -> Iterator[None]:
    """Translate the engine's errors in the block.

    :param doing: completes the sentence "the engine refused: …".
    :raises RefusedError: if the engine refuses or does not answer; ``DiskFullError`` if the disk is full.
    """
    try:
        yield
    except raised() as error:
        raise explain(error, doing) from error


@contextmanager
def errors_of_ours(doing: str) -> Iterator[None]:
    """Translate the errors of the engine and of the operating system in the block.

    The engine's come first, because the errors of requests are derived from OSError.
    """
    try:
        with asking(doing):
            yield
    except OSError as error:
        raise paths.refused(error) from error
