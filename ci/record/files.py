"""Files of results: written in one stroke (others see the old content or the new one, never a half), read with care.

Every JSON file that others rely on says its schema: a number that changes when a key means something else.
"""

import errno
from pathlib import Path
import stat
from typing import TypeVar

import msgspec

from ci import paths
from ci.errors import ResultsError

INVALID = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for content that is not the JSON that was asked for: other keys, no text, nested too deep."""

_Content = TypeVar("_Content")


class _Head(msgspec.Struct):
    """What is asked of a file first: one of another schema may differ in everything else."""

    schema: int


def is_regular(path: Path) -> bool:
    """Tell whether a file is there and is not a link, pipe or device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)  # lstat looks at a link itself, not at what it leads to
    except OSError:
        return False


def content(path: Path, *, largest: int = 64 << 20) -> bytes:
    """Read a file that anybody may have put there.

    :param largest: the most bytes that are read.
    :raises OSError: if it is missing, larger, or no regular file: a link may lead anywhere, and a pipe does not end.
    """
    # Looked at before it is opened: to open a pipe would wait for somebody who writes into it.
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file; links are not followed", str(path))
    if status.st_size > largest:
        raise OSError(errno.EFBIG, f"too large: {status.st_size} bytes; the limit is {largest}", str(path))
    return path.read_bytes()


def load(path: Path, kind: type[_Content], schema: int, *, what: str, largest: int = 64 << 20) -> _Content:
    """Read a JSON file of a schema.

    :param what: "a result"; errors begin with it.
    :raises ResultsError: if it is missing, invalid or of another schema; the text names file and key.
    """
    try:
        # Twice: a file of another schema is refused for that, and not for the first key that is another one there.
        found = msgspec.json.decode(text := content(path, largest=largest), type=_Head).schema
        if found == schema:
            return msgspec.json.decode(text, type=kind)
    except OSError as error:
        raise ResultsError(f"failed to read {what}", where=str(path), why=error.strerror or str(error)) from error
    except INVALID as error:
        raise ResultsError(f"{what} is invalid", where=str(path), why=str(error)) from error
    raise ResultsError(
        f"{what} has another schema",
        where=str(path),
        why=f"schema {found}, and this version of pyxis-matrix knows {schema}",
        next_step="read it with the version of pyxis-matrix that wrote it, or make it again with this one",
    )


def dump(path: Path, value: object, *, what: str) -> None:
    """Write a value as JSON whose keys are sorted, so that two files can be compared with ``diff``.

    :raises ResultsError: if that fails; ``DiskFullError`` if there is no room.
    """
    with paths.replaced(path, what) as file:
        # encode() has no indentation; format() lays out what it wrote.
        file.write(msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2) + b"\n")
