"""Writing a file in one stroke: others see the old content or the new one, never a half."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import tempfile
from typing import IO

from ci.errors import DiskFullError, ResultsError, disk_is_full


@contextmanager
def replaced(path: Path, what: str) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of ``path`` at the end of the block, and that is dropped if the block fails.

    :raises DiskFullError: if there is no room.
    :raises ResultsError: if writing fails for another reason.
    """
    draft = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            draft = file.name
            yield file
        Path(draft).chmod(0o644)  # temporary files are private, results are not
        Path(draft).replace(path)
        draft = ""
    except OSError as error:
        full = disk_is_full(error)
        kind = DiskFullError if full else ResultsError
        raise kind(
            f"failed to write {what}",
            where=str(path),
            why=str(error),
            next_step="make room and try again" if full else "check who may write there",
        ) from error
    finally:
        if draft:
            Path(draft).unlink(missing_ok=True)
